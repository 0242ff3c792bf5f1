"""Where another folder is named than the cache, the error names the cache."""

from __future__ import annotations

import shutil

import pytest

from deiii.data.cache.index import TABLE, CacheError, read_index, read_table, stage_folder
from deiii.data.cache.integrity import verify
from deiii.data.cache.packed import pack, unpack
from tests.helpers.caches import CORPUS, KEYS, make_cache


@pytest.fixture
def named(tmp_path):
    """Folders that users name in place of a cache: those in it, and the one above it."""
    cache = tmp_path / "all" / "cache"
    make_cache(cache, [3, 2], [4, 5])
    folder = stage_folder(cache, CORPUS, "logmel", KEYS["logmel"])
    return cache, (folder.parent, folder, cache.parent)


def remedy(call, *arguments) -> str:
    with pytest.raises(CacheError) as found:
        call(*arguments)
    return str(found.value).rpartition("; ")[2]


def test_the_cache_is_named(named, tmp_path):
    cache, folders = named
    pytest.importorskip("hdf5plugin")
    for folder in folders:
        expected = f"name the folder {cache} instead"
        assert remedy(verify, folder) == expected
        assert remedy(pack, folder, tmp_path / "archive") == expected
        assert remedy(read_table, folder, CORPUS) == expected
        assert remedy(read_index, stage_folder(folder, CORPUS, "logmel", KEYS["logmel"])) == expected


def test_the_archive_is_named(named, tmp_path):
    pytest.importorskip("hdf5plugin")
    archive = tmp_path / "shared" / "archive"
    pack(named[0], archive, progress=False)
    folder = stage_folder(archive, CORPUS, "logmel", KEYS["logmel"])
    for other in (folder.parent, folder, archive.parent):
        assert remedy(unpack, other, tmp_path / "cache") == f"name the folder {archive} instead"


def test_without_a_cache_nearby_the_command_is_named(named, tmp_path):
    shutil.rmtree(named[0])
    assert "run `deiii preprocess` first" in remedy(read_table, named[0], CORPUS)
    (tmp_path / "empty").mkdir()
    assert not (tmp_path / "empty" / TABLE).exists()
    assert "run `deiii preprocess`" in remedy(verify, tmp_path / "empty")
