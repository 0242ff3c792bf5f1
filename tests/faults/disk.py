"""3. Disks: full, read-only, missing, slow. A clear error; finished shards intact; the next run completes."""

from __future__ import annotations

import shutil
import subprocess

from deiii.data.config.load import load_config
from deiii.data.loader.feature_set import FeatureSet
from tests.faults import poison
from tests.faults.checks import check_done, check_error, check_finished, check_identical, check_resumed
from tests.faults.harness import NotAvailable, faults
from tests.faults.processes import wait_until
from tests.faults.workspace import SLOW_DISK, Workspace, shards

disk = faults("3 disk")
REPORTED = "an error line, exit status 1, finished shards intact; the next run completes"


@disk("the cache's disk fills up after {case} shards", REPORTED, cases=(2, 8), short={2})
def full(work: Workspace, case: int) -> str:
    expected = work.undisturbed
    room = sum(p.stat().st_size for p in shards(expected)[:case]) / 2**20
    mount = work.mount(max(0.3, room))
    cache = mount / "cache"
    message = check_error(work.preprocess(cache), "no space", "free space")
    kept = check_finished(cache, expected)
    assert not list(cache.rglob("*.tmp")), "temporary files left on a full disk"
    work.remount(mount, "size=64m")
    check_resumed(work, work.words(cache), cache, expected)
    return f"{kept} shards kept; {message[:80]}"


@disk("the disk is full before anything is written", REPORTED)
def full_at_once(work: Workspace) -> str:
    expected, mount = work.undisturbed, work.mount(0.25)
    filler = work.fill(mount)
    message = check_error(work.run("preprocess", *work.words(mount / "cache")), "no space")
    filler.unlink()
    work.remount(mount, "size=64m")
    check_resumed(work, work.words(mount / "cache"), mount / "cache", expected)
    return message[:80]


@disk("the disk is full when the index is written", REPORTED)
def full_at_the_index(work: Workspace) -> str:
    expected, mount = work.undisturbed, work.mount(64)
    cache = mount / "cache"
    shutil.copytree(expected, cache)
    index = sorted(cache.glob("*/*-*/index.json"))[0]
    index.unlink()
    filler = work.fill(mount)
    message = check_error(work.preprocess(cache), "no space")
    assert not index.exists() and check_finished(cache, expected) == len(shards(expected))
    filler.unlink()
    check_resumed(work, work.words(cache), cache, expected)
    return message[:80]


@disk("the temporary folder is full when a clip is isolated", "the clip that caused it is recorded, no other")
def full_temporary(work: Workspace) -> None:
    cache, mount = work.folder(), work.mount(0.25)
    expected = work.tone_cache
    work.fill(mount, leave=8192)
    act = poison.ACTS["aborts"][0]
    code = poison.CODE.format(module="logmel", function="extract_logmel", victim="s0/c1.flac", act=act)
    environment = work.environment_with(code, TMPDIR=str(mount))
    check_done(work.run("preprocess", *work.tone_words(cache), env=environment))
    differ = [p for p in shards(cache) if p.read_bytes() != (expected / p.relative_to(cache)).read_bytes()]
    assert len(differ) == 1 and differ[0].name.startswith("s0-000"), [p.name for p in differ]


@disk("a read-only disk", REPORTED)
def read_only(work: Workspace) -> str:
    expected, mount = work.undisturbed, work.mount(64)
    cache = mount / "cache"
    cache.mkdir()
    work.remount(mount, "ro")
    message = check_error(work.preprocess(cache), "read-only", "can be written")
    work.remount(mount, "rw")
    check_resumed(work, work.words(cache), cache, expected)
    return message[:80]


@disk("the disk becomes read-only in the middle of the run", REPORTED)
def turns_read_only(work: Workspace) -> str:
    expected, mount = work.undisturbed, work.mount(64)
    cache = mount / "cache"
    run = work.start_preprocessing(cache, 3)
    work.make_read_only(mount)
    message = check_error(run.wait(), "read-only")
    work.undo_read_only(mount)
    kept = check_finished(cache, expected)
    check_resumed(work, work.words(cache), cache, expected)
    return f"{kept} shards kept; {message[:60]}"


@disk("the cache's disk is unmounted in the middle of the run", "an error line, exit status 1; nothing hangs")
def vanishes(work: Workspace) -> str:
    work.synthetic  # noqa: B018 - make it before the run starts
    mount = work.mount(64)
    cache = mount / "cache"
    run = work.start_preprocessing(cache, 3)
    subprocess.run(["umount", "-l", str(mount)], check=True)
    message = check_error(done := run.wait(90))
    assert "writable" in done.text or "no such shard" in done.text, (
        message
    )  # the latter when flow reads the faces
    assert not (left := run.remaining(10)), left
    return message[:100]


@disk(
    "the corpus disappears in the middle of the run",
    "clips are missing, exit status 1; when it is back, all are complete",
)
def corpus_vanishes(work: Workspace) -> str:
    expected, mount, cache = work.undisturbed, work.mount(64), work.folder()
    root = mount / "synthetic"
    shutil.copytree(work.synthetic, root)
    words = [w if not w.startswith("corpus.root=") else f"corpus.root={root}" for w in work.words(cache)]
    words.append(f"corpus.table={work.synthetic / 'clips.csv'}")
    run = work.start("preprocess", *words)
    wait_until(lambda: len(shards(cache)) >= 3, run)
    hidden = mount / "hidden"
    root.rename(hidden)
    ended = run.wait()
    hidden.rename(root)
    if ended.code == 0:
        raise NotAvailable("the run had read every clip before the corpus disappeared")
    check_error(ended, "max_failed")
    check_done(work.run("preprocess", *words))
    for path in shards(cache):
        assert path.read_bytes() == (expected / path.relative_to(cache)).read_bytes(), f"{path.name} differs"
    assert len(shards(cache)) == len(shards(expected))
    return ended.text.strip().splitlines()[-1][:80]


@disk("a slow disk: 0.4 s for every flush", "the same bytes")
def slow(work: Workspace) -> None:
    expected, cache = work.undisturbed, work.folder()
    check_done(work.preprocess(cache, env=work.environment_with(SLOW_DISK.format(seconds=0.4))))
    check_identical(cache, expected)


@disk("the temporary folder is on another file system than the cache", "the same bytes")
def other_file_system(work: Workspace) -> None:
    expected, cache, mount = work.undisturbed, work.folder(), work.mount(64)
    check_done(work.preprocess(cache, env={"TMPDIR": str(mount)}))
    check_identical(cache, expected)


@disk("a temporary folder that does not exist", "the same bytes, through another folder")
def no_temporary(work: Workspace) -> None:
    expected, cache = work.undisturbed, work.folder()
    check_done(work.preprocess(cache, env={"TMPDIR": "/nowhere"}))
    check_identical(cache, expected)


@disk("at most 1,000 open files, 1,200 shards", "preprocess, verify and reading every clip work")
def open_files(work: Workspace) -> str:
    root = work.folder()
    for n in range(1200):
        (root / f"{n}.flac").hardlink_to(work.tones / "s0/c0.flac")
    rows = "".join(f"{n}.flac,s{n % 40},{'ab'[n % 2]}\n" for n in range(1200))
    (root / "clips.csv").write_text("path,speaker,label\n" + rows)
    words = ["corpus.name=table", f"corpus.root={root}", f"cache={root / 'cache'}", "stages=[logmel]"]
    words += ["corpus.clips_per_shard=1", "workers=4", "model.video=false", "model.flow=false"]
    done = check_done(work.run("preprocess", *words, files=1000))
    checked = work.run("verify", *words, files=1000)
    check_done(checked, "1200 shards")
    trained = work.run(
        "train", "configs/tiny.yaml", *words, "train.epochs=1", "--quiet", f"train.run={root / 'run'}",
        "train.device=cpu", files=1000,
    )  # fmt: skip
    check_done(trained)
    assert len(FeatureSet.open(load_config(overrides=words))) == 1200
    return (
        f"preprocess {done.seconds:.0f} s, verify {checked.seconds:.0f} s, an epoch {trained.seconds:.0f} s"
    )


@disk("at most {case} open files", "success, or one error line; nothing incomplete", cases=(24, 40, 64))
def few_files(work: Workspace, case: int) -> str:
    expected, cache = work.undisturbed, work.folder()
    done = work.preprocess(cache, files=case)
    check_finished(cache, expected)
    if done.code:
        message = check_error(done, "open files")
        check_resumed(work, work.words(cache), cache, expected)
        return message[:80]
    page = "the overview was not written: too many open files in this process"
    if page in done.text:  # the caches are complete; the page about them is made by its own command
        assert work.run("overview", *work.words(cache)).code == 0
    check_identical(cache, expected)
    return page if page in done.text else "done"
