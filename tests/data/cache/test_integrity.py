"""Checking finished shards: size, bytes, and agreement with the index."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from deiii.data.cache.index import CacheError, read_index, stage_folder
from deiii.data.cache.integrity import UNLISTED, find_defects, require_whole, shard_defect, verify
from tests.helpers.caches import CORPUS, KEYS, make_cache


@pytest.fixture
def stage(tmp_path):
    """A stage's folder and the records of its shards."""
    make_cache(tmp_path, [3, 4, 5], [5, 6, 7], clips_per_shard=1)
    folder = stage_folder(tmp_path, CORPUS, "faces", KEYS["faces"])
    return folder, read_index(folder).shards


def test_unchanged_shards_have_no_defect(stage):
    folder, records = stage
    assert len(records) == 3 and find_defects([(folder, r) for r in records], every_byte=True) == []


def test_every_kind_of_defect_is_found(stage):
    folder, (first, second, third) = stage
    one, two = (folder / f"{r.name}.h5" for r in (first, second))
    content = bytearray(one.read_bytes())
    content[len(content) // 2] ^= 4
    one.write_bytes(content)
    assert "changed" in shard_defect(folder, first) and not shard_defect(folder, first, every_byte=False)
    two.write_bytes(two.read_bytes()[:-1])
    assert "instead of" in shard_defect(folder, second, every_byte=False)
    assert "another shard" in shard_defect(folder, replace(third, digest="0" * 64))
    two.unlink()
    assert shard_defect(folder, second) == "missing"
    found = find_defects([(folder, r) for r in (first, second, third)], every_byte=True)
    assert [f.path for f in found] == [one, two]


def test_every_byte_of_a_shard_is_covered(stage):
    folder, (record, *_) = stage
    path = folder / f"{record.name}.h5"
    content = path.read_bytes()
    edges = {e for f in record.fields.values() for e in (f.offset, f.offset + f.nbytes - 1)}
    around = {at + step for at in edges for step in (-1, 0, 1)} - {len(content)}
    for at in sorted(around | set(range(0, len(content), 211))):
        with open(path, "r+b") as file:
            file.seek(at)
            file.write(bytes([content[at] ^ 1]))
            file.flush()
            assert shard_defect(folder, record), f"byte {at} of {len(content)}"
            file.seek(at)
            file.write(content[at : at + 1])
    assert not shard_defect(folder, record)


def test_damaged_caches_are_refused_with_the_command(stage):
    folder, records = stage
    (folder / f"{records[1].name}.h5").unlink()
    with pytest.raises(CacheError, match=rf"{records[1].name}.*missing.*deiii preprocess"):
        require_whole([(folder, r) for r in records], every_byte=False)


def test_verify_counts_the_shards_of_every_stage(stage, tmp_path):
    checked, defects = verify(tmp_path)
    assert checked == 3 * len(KEYS) and defects == []


@pytest.mark.parametrize(
    ("made", "message"),
    [([], "no cache folder"), (["cache"], "no features"), (["cache/mine"], "no features")],
)
def test_verifying_what_is_no_cache_is_an_error(tmp_path, made, message):
    for folder in made:
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(CacheError, match=rf"{message}.*cache=FOLDER.*deiii preprocess"):
        verify(tmp_path / "cache")


def test_verify_finds_unlisted_files(stage):
    folder, _ = stage
    (folder / ".a.h5.1.tmp").touch()
    (folder / "other.h5").touch()
    _, defects = verify(folder.parents[1])
    assert [d.path.name for d in defects] == [".a.h5.1.tmp", "other.h5"]


def test_a_shard_that_no_index_lists_is_named_with_what_to_do(stage, tmp_path):
    folder, (first, *_) = stage
    other = folder / "older-000-0123456789.h5"
    shutil.copyfile(folder / f"{first.name}.h5", other)
    _, defects = verify(tmp_path)
    assert [(d.path, d.defect) for d in defects if d.path.parent == folder] == [(other, UNLISTED)]
    assert "delete it" in UNLISTED
