"""3. Disks: full, read-only, gone, slow; a clear error, finished shards intact, the next run completes."""

from __future__ import annotations

import shutil
import subprocess

from deiii.data.config.load import load_config
from deiii.data.loader.feature_set import FeatureSet
from tests.faults import poison
from tests.faults.checks import check_done, check_finished, check_resumed, check_told, check_whole
from tests.faults.harness import NotHere, faults
from tests.faults.laboratory import SLOW_DISK, Lab, shards
from tests.faults.processes import wait_until

disk = faults("3 disk")
TOLD = "a line that says so, exit status 1, finished shards intact; the next run completes"


@disk("the cache's disk fills up after {case} shards", TOLD, cases=(2, 8), short={2})
def full(lab: Lab, case: int) -> str:
    whole = lab.whole
    room = sum(p.stat().st_size for p in shards(whole)[:case]) / 2**20
    mount = lab.mount(max(0.3, room))
    cache = mount / "cache"
    told = check_told(lab.preprocess(cache), "no space", "room")
    kept = check_finished(cache, whole)
    assert not list(cache.rglob("*.tmp")), "temporary files left on a full disk"
    lab.remount(mount, "size=64m")
    check_resumed(lab, lab.words(cache), cache, whole)
    return f"{kept} shards kept; {told[:80]}"


@disk("the disk is full before anything is written", TOLD)
def full_at_once(lab: Lab) -> str:
    whole, mount = lab.whole, lab.mount(0.25)
    filler = lab.fill(mount)
    told = check_told(lab.run("preprocess", *lab.words(mount / "cache")), "no space")
    filler.unlink()
    lab.remount(mount, "size=64m")
    check_resumed(lab, lab.words(mount / "cache"), mount / "cache", whole)
    return told[:80]


@disk("the disk is full when the index is written", TOLD)
def full_at_the_index(lab: Lab) -> str:
    whole, mount = lab.whole, lab.mount(64)
    cache = mount / "cache"
    shutil.copytree(whole, cache)
    index = sorted(cache.glob("*/*-*/index.json"))[0]
    index.unlink()
    filler = lab.fill(mount)
    told = check_told(lab.preprocess(cache), "no space")
    assert not index.exists() and check_finished(cache, whole) == len(shards(whole))
    filler.unlink()
    check_resumed(lab, lab.words(cache), cache, whole)
    return told[:80]


@disk("the temporary folder is full when a clip is isolated", "the clip at fault is recorded, no other")
def full_temporary(lab: Lab) -> None:
    cache, mount = lab.folder(), lab.mount(0.25)
    whole = lab.heard
    lab.fill(mount, leave=8192)
    act = poison.ACTS["aborts"][0]
    code = poison.CODE.format(module="logmel", function="extract_logmel", victim="s0/c1.flac", act=act)
    environment = lab.injected(code, TMPDIR=str(mount))
    check_done(lab.run("preprocess", *lab.tone_words(cache), env=environment))
    differ = [p for p in shards(cache) if p.read_bytes() != (whole / p.relative_to(cache)).read_bytes()]
    assert len(differ) == 1 and differ[0].name.startswith("s0-000"), [p.name for p in differ]


@disk("a read-only disk", TOLD)
def read_only(lab: Lab) -> str:
    whole, mount = lab.whole, lab.mount(64)
    cache = mount / "cache"
    cache.mkdir()
    lab.remount(mount, "ro")
    told = check_told(lab.preprocess(cache), "read-only", "writable")
    lab.remount(mount, "rw")
    check_resumed(lab, lab.words(cache), cache, whole)
    return told[:80]


@disk("the disk becomes read-only in the middle of the run", TOLD)
def turns_read_only(lab: Lab) -> str:
    whole, mount = lab.whole, lab.mount(64)
    cache = mount / "cache"
    run = lab.preprocessing(cache, 3)
    lab.cover_read_only(mount)
    told = check_told(run.wait(), "read-only")
    lab.uncover(mount)
    kept = check_finished(cache, whole)
    check_resumed(lab, lab.words(cache), cache, whole)
    return f"{kept} shards kept; {told[:60]}"


@disk(
    "the cache's disk vanishes in the middle of the run", "a line that says so, exit status 1; nothing hangs"
)
def vanishes(lab: Lab) -> str:
    lab.drawn  # noqa: B018 - made before the clock runs
    mount = lab.mount(64)
    cache = mount / "cache"
    run = lab.preprocessing(cache, 3)
    subprocess.run(["umount", "-l", str(mount)], check=True)
    told = check_told(done := run.wait(90))
    assert "writable" in done.text or "no such shard" in done.text, told  # the latter from flow, of its faces
    assert not (left := run.survivors(10)), left
    return told[:100]


@disk(
    "the corpus's disk vanishes in the middle of the run",
    "clips are missing, exit status 1; when it is back, all are whole",
)
def corpus_vanishes(lab: Lab) -> str:
    whole, mount, cache = lab.whole, lab.mount(64), lab.folder()
    root = mount / "drawn"
    shutil.copytree(lab.drawn, root)
    words = [w if not w.startswith("corpus.root=") else f"corpus.root={root}" for w in lab.words(cache)]
    words.append(f"corpus.table={lab.drawn / 'clips.csv'}")
    run = lab.start("preprocess", *words)
    wait_until(lambda: len(shards(cache)) >= 3, run)
    hidden = mount / "hidden"
    root.rename(hidden)
    ended = run.wait()
    hidden.rename(root)
    if ended.code == 0:
        raise NotHere("the run had read every clip before the disk was gone")
    check_told(ended, "max_failed")
    check_done(lab.run("preprocess", *words))
    for path in shards(cache):
        assert path.read_bytes() == (whole / path.relative_to(cache)).read_bytes(), f"{path.name} differs"
    assert len(shards(cache)) == len(shards(whole))
    return ended.text.strip().splitlines()[-1][:80]


@disk("a slow disk: 0.4 s for every flush", "the same bytes, later")
def slow(lab: Lab) -> None:
    whole, cache = lab.whole, lab.folder()
    check_done(lab.preprocess(cache, env=lab.injected(SLOW_DISK.format(seconds=0.4))))
    check_whole(cache, whole)


@disk("the temporary folder on another file system than the cache", "the same bytes")
def other_file_system(lab: Lab) -> None:
    whole, cache, mount = lab.whole, lab.folder(), lab.mount(64)
    check_done(lab.preprocess(cache, env={"TMPDIR": str(mount)}))
    check_whole(cache, whole)


@disk("a temporary folder that does not exist", "the same bytes: another one is found")
def no_temporary(lab: Lab) -> None:
    whole, cache = lab.whole, lab.folder()
    check_done(lab.preprocess(cache, env={"TMPDIR": "/nowhere"}))
    check_whole(cache, whole)


@disk("1,000 open files at most, 1,200 shards", "preprocess, verify and reading every clip work")
def open_files(lab: Lab) -> str:
    root = lab.folder()
    for n in range(1200):
        (root / f"{n}.flac").hardlink_to(lab.tones / "s0/c0.flac")
    rows = "".join(f"{n}.flac,s{n % 40},{'ab'[n % 2]}\n" for n in range(1200))
    (root / "clips.csv").write_text("path,speaker,label\n" + rows)
    words = ["corpus.name=table", f"corpus.root={root}", f"cache={root / 'cache'}", "stages=[logmel]"]
    words += ["corpus.clips_per_shard=1", "workers=4", "model.video=false", "model.flow=false"]
    done = check_done(lab.run("preprocess", *words, files=1000))
    checked = lab.run("verify", *words, files=1000)
    check_done(checked, "1200 shards")
    trained = lab.run(
        "train", "configs/tiny.yaml", *words, "train.epochs=1", "--quiet", f"train.run={root / 'run'}",
        "train.device=cpu", files=1000,
    )  # fmt: skip
    check_done(trained)
    assert len(FeatureSet.open(load_config(overrides=words))) == 1200
    return (
        f"preprocess {done.seconds:.0f} s, verify {checked.seconds:.0f} s, an epoch {trained.seconds:.0f} s"
    )


@disk("{case} open files at most", "done, or told in a line; never half", cases=(24, 40, 64))
def few_files(lab: Lab, case: int) -> str:
    whole, cache = lab.whole, lab.folder()
    done = lab.preprocess(cache, files=case)
    check_finished(cache, whole)
    if done.code:
        told = check_told(done, "open files")
        check_resumed(lab, lab.words(cache), cache, whole)
        return told[:80]
    check_whole(cache, whole)
    return "done"
