"""5. Damage on disk: changed files are named, refused by training, and recomputed, and no others."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import pytest

from deiii.data.cache.index import CacheError
from deiii.data.cache.integrity import verify
from deiii.data.cache.shards import read_info
from deiii.data.cache.stages import stages
from deiii.data.config.load import load_config
from deiii.data.loader.feature_set import FeatureSet
from tests.faults.checks import check_done, check_identical, stamps
from tests.faults.harness import Lost, faults
from tests.faults.workspace import Workspace, shards

rot = faults("5 rot")
CAUGHT = "verify names it, training refuses it and names the command to run"
REBUILT = f"{CAUGHT}; preprocess recomputes it and nothing else"


def flip(path: Path, at: int, bit: int = 0) -> None:
    """Flip one bit; size and modification time do not change, as with damage on a disk."""
    stat = path.stat()
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ (1 << bit)]))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def check_caught(work: Workspace, cache: Path, victim: Path) -> None:
    """verify names the file; training refuses the cache, names the file and the command to run."""
    _, findings = verify(cache)
    assert [f.path for f in findings] == [victim], f"verify names {[str(f.path) for f in findings]}"
    with pytest.raises(CacheError, match="deiii preprocess") as refused:
        FeatureSet.open(load_config(overrides=work.words(cache)), whole=True)
    assert victim.name in str(refused.value), str(refused.value)


def check_rebuilt(work: Workspace, cache: Path, victim: Path) -> str:
    """preprocess recomputes this shard and no other; afterwards the cache is as before."""
    before = stamps(cache)
    done = check_done(work.preprocess(cache))
    name = str(victim.relative_to(cache))
    touched = {n for n, stamp in stamps(cache).items() if before.get(n) != stamp}
    assert touched == {name}, f"recomputed: {touched}"
    kept = victim.with_name(victim.name + ".damaged")
    if name in before:
        if not kept.exists():
            raise Lost("the damaged file was not kept under another name")
        kept.unlink()
        assert victim.name in done.text, "preprocess does not say which shard was damaged"
    check_identical(cache, work.undisturbed)
    assert verify(cache)[1] == []
    return "1 shard recomputed"


@rot("one bit flipped in {case}", CAUGHT, short=True,
     cases=("frames", "offsets", "clip_id", "flow", "logmel", "header", "padding", "last byte"))  # fmt: skip
def flipped(work: Workspace, case: str) -> str:
    cache = work.copy()
    stage = {"flow": "flow", "logmel": "logmel"}.get(case, "faces")
    victim = work.random.choice(sorted(cache.glob(f"*/{stage}-*/*.h5")))
    size, info = victim.stat().st_size, read_info(victim)
    if case in info.fields:
        layout = info.fields[case]
        at = layout.offset + work.random.randrange(layout.nbytes)
    else:
        first = min(f.offset for f in info.fields.values())
        at = {"header": 20, "padding": first - 1, "last byte": size - 1}.get(case, -1)
        if at < 0:
            with h5py.File(victim) as file:
                at = file[case].id.get_offset()
    flip(victim, at, work.random.randrange(8))
    check_caught(work, cache, victim)
    return f"byte {at} of {size}"


@rot("one bit flipped at a random place, trial {case}", CAUGHT, cases=range(1, 9))
def anywhere(work: Workspace, case: int) -> str:
    cache = work.copy()
    victim = work.random.choice(shards(cache))
    at = work.random.randrange(victim.stat().st_size)
    flip(victim, at, work.random.randrange(8))
    check_caught(work, cache, victim)
    return f"byte {at} of {victim.parent.name.split('-')[0]}"


@rot(
    "one bit flipped in a {case} shard, then preprocess",
    REBUILT,
    cases=("faces", "flow", "logmel"),
    short={"faces"},
)
def recomputed(work: Workspace, case: str) -> str:
    cache = work.copy()
    victim = work.random.choice(sorted(cache.glob(f"*/{case}-*/*.h5")))
    flip(victim, work.random.randrange(victim.stat().st_size))
    check_caught(work, cache, victim)
    return check_rebuilt(work, cache, victim)


@rot("a shard truncated to {case} %", REBUILT, cases=(0, 50, 99))
def cut(work: Workspace, case: int) -> str:
    cache = work.copy()
    victim = work.random.choice(shards(cache))
    content = victim.read_bytes()
    victim.write_bytes(content[: len(content) * case // 100])
    check_caught(work, cache, victim)
    return check_rebuilt(work, cache, victim)


@rot("a shard removed", REBUILT, short=False)
def removed(work: Workspace) -> str:
    cache = work.copy()
    victim = work.random.choice(shards(cache))
    victim.unlink()
    check_caught(work, cache, victim)
    return check_rebuilt(work, cache, victim)


@rot("one shard in place of another", REBUILT)
def swapped(work: Workspace) -> str:
    cache = work.copy()
    other, victim = sorted(cache.glob("*/logmel-*/*.h5"))[:2]
    shutil.copyfile(other, victim)
    check_caught(work, cache, victim)
    return check_rebuilt(work, cache, victim)


def _check_rewritten(work: Workspace, cache: Path, index: Path) -> str:
    """Training refuses the file; preprocess writes it again and computes no shard.

    A folder in its place is kept under another name.
    """
    folder = index.is_dir()
    config = load_config(overrides=work.words(cache))
    findings = verify(cache)[1]
    assert index in [f.path for f in findings], f"verify names {[str(f.path) for f in findings]}"
    with pytest.raises(CacheError, match="deiii preprocess"):
        FeatureSet.open(config, whole=True)
    before = stamps(cache)
    done = work.preprocess(cache)
    check_done(done, "nothing to do")
    assert stamps(cache) == before, "shards were recomputed"
    if folder:
        assert "it is a folder" in done.text
        shutil.rmtree(index.with_name(index.name + ".damaged"))
    check_identical(cache, work.undisturbed)
    return "written again, no shard recomputed"


KEPT = "training refuses it; preprocess writes it again and keeps every shard"


INDEX = ("missing", "edited", "truncated to half", "empty", "not JSON", "of a newer format", "a folder")


@rot("index {case}", KEPT, short={"edited"}, cases=INDEX)
def index(work: Workspace, case: str) -> str:
    cache = work.copy()
    path = work.random.choice(sorted(cache.glob("*/*-*/index.json")))
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
                "truncated to half": text[: len(text) // 2],
                "empty": "",
                "not JSON": "\0\xff not JSON",
                "of a newer format": text.replace('"format": 2', '"format": 99'),
            }[case]
        )
    return _check_rewritten(work, cache, path)


@rot("the clip table {case}", KEPT, cases=("edited: a label changed by hand", "a folder"))
def table(work: Workspace, case: str) -> str:
    cache = work.copy()
    path = next(cache.glob("*/clips.json"))
    if case == "a folder":
        path.unlink()
        path.mkdir()
        return _check_rewritten(work, cache, path)
    tree = json.loads(path.read_text())
    tree["clips"][0]["label"] = tree["clips"][1]["label"]
    path.write_text(json.dumps(tree))
    return _check_rewritten(work, cache, path)


@rot("sources.json {case}", "ignored and written again; every shard kept", cases=("garbage", "a list"))
def sources(work: Workspace, case: str) -> str:
    cache = work.copy()
    path = next(cache.glob("*/sources.json"))
    path.write_text("\0garbage" if case == "garbage" else "[1, 2]")
    before = stamps(cache)
    done = work.preprocess(cache)
    assert done.code == 0 and stamps(cache) == before, done.text[-300:]
    check_identical(cache, work.undisturbed)


@rot(
    "a cache of {case} stage version",
    "not used and not changed; training says which caches exist",
    cases=("an older", "a newer"),
    short=True,
)
def version(work: Workspace, case: str) -> str:
    cache = work.copy()
    config = load_config(overrides=work.words(cache))
    was = stages()["logmel"]
    step = 1 if case == "an older" else -1  # so that the cache is of the version before or after
    try:
        stages()["logmel"] = replace(was, version=was.version + step)
        with pytest.raises(CacheError, match=r"deiii preprocess.*logmel-"):
            FeatureSet.open(config, whole=True)
    finally:
        stages()["logmel"] = was
    check_identical(cache, work.undisturbed)
