"""Unpacking into a cache that exists: the features of another corpus are not replaced."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deiii.__main__ import main
from deiii.data.cache.identity import SOURCES
from deiii.data.cache.index import read_table, write_table
from deiii.data.cache.packed import pack, unpack
from deiii.data.tools.atomic_files import write_json
from tests.helpers.caches import CORPUS, make_cache

FRAMES, HOPS = [30, 20, 0, 3], [40, 15, 30, 0]


@pytest.fixture
def root(tmp_path):
    """A folder with an archive of four clips."""
    make_cache(tmp_path / "cache", FRAMES, HOPS)
    pack(tmp_path / "cache", tmp_path / "archive", progress=False)
    return tmp_path


@pytest.mark.parametrize("case", ["clips", "media", "clips at the same place"])
def test_the_features_of_another_corpus_of_the_same_name_are_kept(root, case, capsys):
    """Its clip table was replaced, and its stages lost their shards."""
    own = root / "own"
    count = len(FRAMES) if case == "media" else 3
    make_cache(own, FRAMES[:count], HOPS[:count], seed=1)
    if case == "media":
        for cache, digest in (("own", "ab"), ("archive", "cd")):
            write_json(root / cache / CORPUS / SOURCES, {"c000.mp4": [7, 1, digest * 32]})
    else:
        table = read_table(own, CORPUS)
        names = [f"x{i}" for i in range(3)]
        clips = tuple(replace(clip, id=name) for clip, name in zip(table.clips, names, strict=True))
        write_table(own, replace(table, clips=clips, root="/nowhere" if "place" in case else "/mine"))
    before = {p: p.read_bytes() for p in own.rglob("*") if p.is_file()}
    assert main(["unpack", str(root / "archive"), str(own)]) == 1
    assert {p: p.read_bytes() for p in before} == before
    assert f"{own / CORPUS} is of another corpus" in capsys.readouterr().err


def test_an_archive_of_an_earlier_state_of_the_corpus_is_restored(root):
    make_cache(root / "own", [*FRAMES, 9], [*HOPS, 9])
    unpack(root / "archive", root / "own", progress=False)
    assert len(read_table(root / "own", CORPUS).clips) == len(FRAMES)
