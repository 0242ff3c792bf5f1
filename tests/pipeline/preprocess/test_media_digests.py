"""Digests of media files are computed once and again only for files that changed."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from deiii.data.cache.identity import recorded_media
from deiii.data.corpora.clips import Corpus
from deiii.pipeline.preprocess import media_digests
from deiii.pipeline.preprocess.media_digests import MediaDigests

CONTENT = {"a.mp4": b"first", "b.mp4": b"second"}


@pytest.fixture
def corpus(tmp_path):
    root = tmp_path / "raw"
    root.mkdir()
    for name, content in CONTENT.items():
        (root / name).write_bytes(content)
    (tmp_path / "cache/mine").mkdir(parents=True)
    return Corpus("mine", str(root), ("x",), ())


@pytest.fixture
def read(monkeypatch):
    """The names of the files that were read."""
    names = []
    real = media_digests.source_digest

    def recorded(path: Path) -> str:
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(media_digests, "source_digest", recorded)
    return names


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_digests_are_those_of_the_files(corpus, tmp_path):
    found = MediaDigests(tmp_path / "cache", corpus).of(["a.mp4", "b.mp4", "gone.mp4"])
    assert found == {"a.mp4": sha256(b"first"), "b.mp4": sha256(b"second"), "gone.mp4": ""}


def test_only_changed_files_are_read_again(corpus, tmp_path, read):
    digests = MediaDigests(tmp_path / "cache", corpus)
    digests.of(list(CONTENT))
    digests.save({})
    (Path(corpus.root) / "b.mp4").write_bytes(b"another")
    read.clear()
    found = MediaDigests(tmp_path / "cache", corpus).of(list(CONTENT))
    assert read == ["b.mp4"]
    assert found["b.mp4"] == sha256(b"another")


def test_digests_that_shards_recorded_are_stored(corpus, tmp_path, read):
    MediaDigests(tmp_path / "cache", corpus).save({"a.mp4": sha256(b"first"), "gone.mp4": "0" * 64})
    found = MediaDigests(tmp_path / "cache", corpus).of(["a.mp4"])
    assert found == {"a.mp4": sha256(b"first")} and read == []


def test_a_file_that_is_replaced_during_the_run_is_read_again(corpus, tmp_path):
    digests = MediaDigests(tmp_path / "cache", corpus)
    time.sleep(0.05)  # longer than a file system's clock may be behind
    (Path(corpus.root) / "a.mp4").write_bytes(b"other")  # after a worker has read it
    digests.save({"a.mp4": sha256(b"first"), "b.mp4": sha256(b"second")})
    found = MediaDigests(tmp_path / "cache", corpus).of(list(CONTENT))
    assert found == {"a.mp4": sha256(b"other"), "b.mp4": sha256(b"second")}


def test_a_damaged_store_only_costs_time(corpus, tmp_path, read):
    digests = MediaDigests(tmp_path / "cache", corpus)
    digests.path.write_text("[1, 2")
    assert MediaDigests(tmp_path / "cache", corpus).of(["a.mp4"]) == {"a.mp4": sha256(b"first")}
    assert read == ["a.mp4"]


def test_a_file_that_could_not_be_read_is_read_again(corpus, tmp_path, monkeypatch):
    """Its rights change neither its size nor its time."""
    real = media_digests.source_digest
    monkeypatch.setattr(media_digests, "source_digest", lambda path: "")
    digests = MediaDigests(tmp_path / "cache", corpus)
    assert digests.of(["a.mp4"]) == {"a.mp4": ""}
    digests.save({})
    monkeypatch.setattr(media_digests, "source_digest", real)
    assert MediaDigests(tmp_path / "cache", corpus).of(["a.mp4"]) == {"a.mp4": sha256(b"first")}


def test_files_that_were_exchanged_are_read_again_although_size_and_time_are_equal(corpus, tmp_path):
    """Files of one length that were unpacked from one archive differ in nothing but their content."""
    root = Path(corpus.root)
    (root / "a.mp4").write_bytes(b"1st")
    (root / "b.mp4").write_bytes(b"2nd")
    for name in CONTENT:
        os.utime(root / name, (10**9, 10**9))
    digests = MediaDigests(tmp_path / "cache", corpus)
    digests.of(list(CONTENT))
    digests.save({})
    (root / "a.mp4").rename(root / "c.mp4")
    (root / "b.mp4").rename(root / "a.mp4")
    (root / "c.mp4").rename(root / "b.mp4")
    found = MediaDigests(tmp_path / "cache", corpus).of(list(CONTENT))
    assert found == {"a.mp4": sha256(b"2nd"), "b.mp4": sha256(b"1st")}


def test_entries_without_a_change_time_are_read_once_more(corpus, tmp_path, read):
    digests = MediaDigests(tmp_path / "cache", corpus)
    stat = (Path(corpus.root) / "a.mp4").stat()
    digests.path.write_text(json.dumps({"a.mp4": [stat.st_size, stat.st_mtime_ns, sha256(b"first")]}))
    assert recorded_media(tmp_path / "cache", "mine")["a.mp4"][2] == sha256(b"first")
    for _ in range(2):
        digests = MediaDigests(tmp_path / "cache", corpus)
        assert digests.of(["a.mp4"]) == {"a.mp4": sha256(b"first")}
        digests.save({})
    assert read == ["a.mp4"]
    assert recorded_media(tmp_path / "cache", "mine")["a.mp4"] == [
        stat.st_size,
        stat.st_mtime_ns,
        sha256(b"first"),
    ]
