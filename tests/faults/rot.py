"""5. Rot: what changed since it was written is named, refused by training, and made anew alone."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import h5py
import pytest

from deiii.data.cache.index import CacheError
from deiii.data.cache.integrity import verify
from deiii.data.cache.shards import read_info
from deiii.data.config.load import load_config
from deiii.data.loader.feature_set import FeatureSet
from tests.faults.checks import check_done, check_whole, stamps
from tests.faults.harness import Lost, faults
from tests.faults.laboratory import Lab, shards

rot = faults("5 rot")
CAUGHT = "verify names it, training refuses it with the command"
REBUILT = f"{CAUGHT}; preprocess makes it anew and nothing else"


def flip(path: Path, at: int, bit: int = 0) -> None:
    """Flip one bit; size and time stay, as with rot on a disk."""
    stat = path.stat()
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ (1 << bit)]))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def check_caught(lab: Lab, cache: Path, victim: Path) -> None:
    """verify names the file; training refuses the cache, names it and says what to run."""
    _, findings = verify(cache)
    assert [f.path for f in findings] == [victim], f"verify names {[str(f.path) for f in findings]}"
    with pytest.raises(CacheError, match="make preprocess") as refused:
        FeatureSet.open(load_config(overrides=lab.words(cache)), whole=True)
    assert victim.name in str(refused.value), str(refused.value)


def check_rebuilt(lab: Lab, cache: Path, victim: Path) -> str:
    """preprocess makes this shard anew and no other; afterwards all is as it was."""
    before = stamps(cache)
    done = check_done(lab.preprocess(cache))
    name = str(victim.relative_to(cache))
    touched = {n for n, stamp in stamps(cache).items() if before.get(n) != stamp}
    assert touched == {name}, f"made anew: {touched}"
    kept = victim.with_name(victim.name + ".damaged")
    if name in before:
        if not kept.exists():
            raise Lost("the damaged file was not kept aside")
        kept.unlink()
        assert victim.name in done.text, "preprocess does not say which shard was damaged"
    check_whole(cache, lab.whole)
    assert verify(cache)[1] == []
    return "1 shard made anew"


@rot("one bit flipped in {case}", CAUGHT, short=True,
     cases=("frames", "offsets", "clip_id", "flow", "logmel", "header", "padding", "last byte"))  # fmt: skip
def flipped(lab: Lab, case: str) -> str:
    cache = lab.copy()
    stage = {"flow": "flow", "logmel": "logmel"}.get(case, "faces")
    victim = lab.random.choice(sorted(cache.glob(f"*/{stage}-*/*.h5")))
    size, info = victim.stat().st_size, read_info(victim)
    if case in info.fields:
        layout = info.fields[case]
        at = layout.offset + lab.random.randrange(layout.nbytes)
    else:
        first = min(f.offset for f in info.fields.values())
        at = {"header": 20, "padding": first - 1, "last byte": size - 1}.get(case, -1)
        if at < 0:
            with h5py.File(victim) as file:
                at = file[case].id.get_offset()
    flip(victim, at, lab.random.randrange(8))
    check_caught(lab, cache, victim)
    return f"byte {at} of {size}"


@rot("one bit flipped anywhere, place {case}", CAUGHT, cases=range(1, 9))
def anywhere(lab: Lab, case: int) -> str:
    cache = lab.copy()
    victim = lab.random.choice(shards(cache))
    at = lab.random.randrange(victim.stat().st_size)
    flip(victim, at, lab.random.randrange(8))
    check_caught(lab, cache, victim)
    return f"byte {at} of {victim.parent.name.split('-')[0]}"


@rot(
    "one bit flipped in a {case} shard, then preprocess",
    REBUILT,
    cases=("faces", "flow", "logmel"),
    short={"faces"},
)
def mended(lab: Lab, case: str) -> str:
    cache = lab.copy()
    victim = lab.random.choice(sorted(cache.glob(f"*/{case}-*/*.h5")))
    flip(victim, lab.random.randrange(victim.stat().st_size))
    check_caught(lab, cache, victim)
    return check_rebuilt(lab, cache, victim)


@rot("a shard cut to {case} %", REBUILT, cases=(0, 50, 99))
def cut(lab: Lab, case: int) -> str:
    cache = lab.copy()
    victim = lab.random.choice(shards(cache))
    content = victim.read_bytes()
    victim.write_bytes(content[: len(content) * case // 100])
    check_caught(lab, cache, victim)
    return check_rebuilt(lab, cache, victim)


@rot("a shard removed", REBUILT, short=False)
def removed(lab: Lab) -> str:
    cache = lab.copy()
    victim = lab.random.choice(shards(cache))
    victim.unlink()
    check_caught(lab, cache, victim)
    return check_rebuilt(lab, cache, victim)


@rot("one shard in place of another", REBUILT)
def swapped(lab: Lab) -> str:
    cache = lab.copy()
    other, victim = sorted(cache.glob("*/logmel-*/*.h5"))[:2]
    shutil.copyfile(other, victim)
    check_caught(lab, cache, victim)
    return check_rebuilt(lab, cache, victim)


def _tidied(lab: Lab, cache: Path, index: Path) -> str:
    """Neither believed nor fatal: training refuses, preprocess writes it anew without any work.

    A folder in its place is kept beside it.
    """
    folder = index.is_dir()
    config = load_config(overrides=lab.words(cache))
    findings = verify(cache)[1]
    assert index in [f.path for f in findings], f"verify names {[str(f.path) for f in findings]}"
    with pytest.raises(CacheError, match="make preprocess"):
        FeatureSet.open(config, whole=True)
    before = stamps(cache)
    done = lab.preprocess(cache)
    check_done(done, "nothing to do")
    assert stamps(cache) == before, "shards were made anew"
    if folder:
        assert "it is a folder" in done.text
        shutil.rmtree(index.with_name(index.name + ".damaged"))
    check_whole(cache, lab.whole)
    return "written anew, no shard touched"


KEPT = "training refuses; preprocess writes it anew and keeps every shard"


INDEX = ("missing", "edited", "cut in half", "empty", "no JSON", "of a newer format", "a folder")


@rot("index {case}", KEPT, short={"edited"}, cases=INDEX)
def index(lab: Lab, case: str) -> str:
    cache = lab.copy()
    path = lab.random.choice(sorted(cache.glob("*/*-*/index.json")))
    text = path.read_text()
    if case == "missing":
        path.unlink()
    elif case == "a folder":
        path.unlink()
        path.mkdir()
        (path / "x").write_text("x")
    else:
        tree = json.loads(text)
        tree["shards"][0]["clips"][0][2] -= 1
        path.write_text(
            {
                "edited": json.dumps(tree),
                "cut in half": text[: len(text) // 2],
                "empty": "",
                "no JSON": "\0\xff not JSON",
                "of a newer format": text.replace('"format": 2', '"format": 99'),
            }[case]
        )
    return _tidied(lab, cache, path)


@rot("the clip table {case}", KEPT, cases=("edited: a label changed by hand", "a folder"))
def table(lab: Lab, case: str) -> str:
    cache = lab.copy()
    path = next(cache.glob("*/clips.json"))
    if case == "a folder":
        path.unlink()
        path.mkdir()
        return _tidied(lab, cache, path)
    tree = json.loads(path.read_text())
    tree["clips"][0]["label"] = tree["clips"][1]["label"]
    path.write_text(json.dumps(tree))
    return _tidied(lab, cache, path)


@rot("sources.json {case}", "ignored and written anew; every shard kept", cases=("garbage", "a list"))
def sources(lab: Lab, case: str) -> str:
    cache = lab.copy()
    path = next(cache.glob("*/sources.json"))
    path.write_text("\0garbage" if case == "garbage" else "[1, 2]")
    before = stamps(cache)
    done = lab.preprocess(cache)
    assert done.code == 0 and stamps(cache) == before, done.text[-300:]
    check_whole(cache, lab.whole)


@rot(
    "a cache of {case} stage version",
    "not used and not harmed; training says what is there",
    cases=("an older", "a newer"),
    short=True,
)
def version(lab: Lab, case: str) -> str:
    cache = lab.copy()
    config = load_config(overrides=lab.words(cache))
    from deiii.data.cache.stages import VERSIONS

    was = VERSIONS["logmel"]
    try:
        VERSIONS["logmel"] = was + (
            1 if case == "an older" else -1
        )  # the cache is of the version before or after
        with pytest.raises(CacheError, match=r"make preprocess.*logmel-"):
            FeatureSet.open(config, whole=True)
    finally:
        VERSIONS["logmel"] = was
    check_whole(cache, lab.whole)
