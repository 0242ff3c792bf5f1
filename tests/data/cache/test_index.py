"""Indices and clip tables: what is written is read back, what is edited is refused."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest

from deiii.data.cache.index import (
    CacheError,
    StageIndex,
    load_corpus,
    read_index,
    read_packed,
    read_table,
    record_shard,
    write_index,
    write_sealed,
    write_table,
)
from deiii.data.cache.outcomes import Outcome, Status
from deiii.data.cache.shard_writer import ShardWriter
from deiii.data.corpora.clips import Clip, Corpus
from deiii.data.tools.atomic_files import atomic_path, remove_temporary, write_json


@pytest.fixture
def stage(tmp_path):
    """A stage folder with one shard of two clips."""
    with ShardWriter(tmp_path / "s.h5", "logmel", "k", {}) as shard:
        shard.add("a", Outcome(Status.OK), {"logmel": np.ones((5, 3), np.float16)}, "1f")
        shard.add("b", Outcome(Status.NO_AUDIO, "silent", 0.0), {}, "2f")
    write_index(tmp_path, StageIndex("logmel", "k", {"n_mels": 3}, [record_shard(tmp_path / "s.h5")]))
    return tmp_path


def test_index_opens_shards_without_hdf5(stage, monkeypatch):
    import h5py

    index = read_index(stage)
    monkeypatch.setattr(h5py, "File", None)
    shard = index.shards[0].open(stage)
    assert shard.clip("a")["logmel"].sum() == 15
    assert index.clips["b"].outcome == Outcome(Status.NO_AUDIO, "silent", 0.0)
    assert (index.stage, index.key, index.provenance) == ("logmel", "k", {"n_mels": 3})


def test_missing_and_cut_shards_are_named(stage):
    record = read_index(stage).shards[0]
    content = (stage / "s.h5").read_bytes()
    (stage / "s.h5").write_bytes(content[:-1])
    with pytest.raises(CacheError, match="s.h5 has .* bytes"):
        record.open(stage)
    (stage / "s.h5").unlink()
    with pytest.raises(CacheError, match="s.h5 is missing; run `deiii preprocess`"):
        record.open(stage)


@pytest.mark.parametrize(
    "edit",
    [
        lambda t: t["shards"][0].update(name="../s"),
        lambda t: t["shards"][0]["fields"]["logmel"].__setitem__(0, 10**12),
        lambda t: t["shards"][0]["fields"]["logmel"].__setitem__(2, [2**40, 3]),
        lambda t: t["shards"][0]["fields"]["logmel"].__setitem__(1, "|O"),
        lambda t: t["shards"][0]["clips"][0].__setitem__(2, 9),
        lambda t: t["shards"][0]["clips"][1].__setitem__(3, "fine"),
        lambda t: t.update(format=99),
        lambda t: t.pop("shards"),
    ],
)
def test_index_that_claims_the_impossible_is_refused_whatever_its_digest(stage, edit):
    tree = json.loads((stage / "index.json").read_text())
    del tree["digest"]
    edit(tree)
    write_sealed(stage / "index.json", tree)
    with pytest.raises(CacheError, match="index.json"):
        read_index(stage)


def test_one_changed_character_is_seen(stage):
    text = (stage / "index.json").read_text()
    for at in (text.index("silent"), text.index("n_mels") + 9, len(text) - 3):
        (stage / "index.json").write_text(text[:at] + ("5" if text[at] != "5" else "6") + text[at + 1 :])
        with pytest.raises(CacheError, match="index.json is damaged"):
            read_index(stage)
    (stage / "index.json").write_text(text)
    assert read_index(stage).clips["b"].reason == "silent"


def test_no_index_says_what_to_run(tmp_path):
    with pytest.raises(CacheError, match="run `deiii preprocess`"):
        read_index(tmp_path)


@pytest.mark.parametrize("read", [read_index, read_packed, lambda folder: load_corpus(folder / "clips.json")])
def test_a_file_that_may_not_be_read_is_not_called_damaged(read, tmp_path, monkeypatch):
    """It belongs to another user, whose umask is 077; computing it again is no remedy."""

    def refuse(path, **_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(CacheError, match=r"\.json: permission denied; allow this user to use it"):
        read(tmp_path)


def test_clip_table_comes_back_whole(tmp_path):
    clips = (
        Clip("a", "a.mp4", "s1", "x", (0.5, 0.5), {"valence": -0.5}, "f1", "note"),
        Clip("b", "b.mp4", "s2"),
    )
    corpus = Corpus("mine", "/clips", ("x", "y"), clips, {"valence": (-1.0, 1.0)}, "speakers", "acted")
    (tmp_path / "mine").mkdir()
    write_table(tmp_path, corpus)
    assert read_table(tmp_path, "mine") == corpus
    with pytest.raises(CacheError, match="deiii preprocess"):
        read_table(tmp_path, "other")


def test_atomic_files_are_whole_or_absent(tmp_path):
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "a.json") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    (tmp_path / ".b.h5.17.tmp").write_text("left by a killed run")
    assert remove_temporary(tmp_path) == 1 and [p.name for p in tmp_path.iterdir()] == ["a.json"]
