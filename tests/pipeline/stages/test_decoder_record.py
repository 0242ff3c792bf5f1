"""A cache that is continued with another version of FFmpeg says so."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from deiii.__main__ import main
from deiii.data.cache.identity import DECODERS
from deiii.data.cluster.on_workers import decoder_version
from deiii.data.config.load import load_config
from deiii.pipeline.preprocess.graph import preprocess
from deiii.pipeline.stages import decoder_record
from deiii.pipeline.stages.decoder_record import record_decoder
from tests.helpers.archive_server import serving
from tests.helpers.caches import CORPUS, KEYS, make_cache
from tests.helpers.clips import audio_corpus


@pytest.fixture
def decode_with(monkeypatch):
    """Return a function that sets the version of libavcodec."""
    return lambda version: monkeypatch.setattr(decoder_record, "decoder_version", lambda: version)


def test_only_a_stage_with_shards_of_another_version_is_named(tmp_path, decode_with):
    decode_with(61)
    assert record_decoder(tmp_path, {"faces-1": False, "logmel-2": False, "speech-3": True}) == []
    decode_with(62)
    (line,) = record_decoder(tmp_path, {"faces-1": True, "logmel-2": False, "speech-3": True})
    assert line.startswith("faces-1: libavcodec 61 decoded its finished shards, and 62 decodes the rest")
    assert json.loads((tmp_path / DECODERS).read_text()) == {"faces-1": [61, 62], "logmel-2": [62]}
    decode_with(61)
    assert "libavcodec 62" in record_decoder(tmp_path, {"faces-1": True})[0]


@pytest.mark.parametrize("damage", ["", "[]", '{"faces-1": 61}', '{"faces-1": ["61"]}'])
def test_a_damaged_record_is_no_record(tmp_path, damage, decode_with):
    (tmp_path / DECODERS).write_text(damage)
    decode_with(62)
    assert record_decoder(tmp_path, {"faces-1": True}) == []


def test_a_corpus_that_grows_after_an_upgrade_is_reported(tmp_path):
    corpus = audio_corpus(tmp_path / "raw", speakers=2)
    words = ["stages=[logmel]", f"cache={tmp_path / 'cache'}", "corpus.clips_per_shard=2", "workers=1"]
    config = load_config(overrides=words)
    first = tuple(clip for clip in corpus.clips if clip.speaker == corpus.speakers[0])
    preprocess(config, replace(corpus, clips=first), lambda line: None)
    (path,) = (tmp_path / "cache").glob(f"*/{DECODERS}")
    (stage,) = (recorded := json.loads(path.read_text()))
    assert recorded[stage] == [decoder_version()]
    path.write_text(json.dumps({stage: [1]}))
    lines: list[str] = []
    preprocess(config, corpus, lines.append)
    assert any(line.startswith(f"{stage}: libavcodec 1 decoded ") for line in lines)
    assert json.loads(path.read_text())[stage] == [1, decoder_version()]


def test_the_record_is_packed_fetched_and_unpacked(tmp_path, decode_with, capsys):
    """Without it, a fetched cache that is continued with another version would not say so."""
    pytest.importorskip("hdf5plugin")
    make_cache(tmp_path / "cache", [9, 5], [40, 15])
    faces, logmel = (f"{stage}-{KEYS[stage]}" for stage in ("faces", "logmel"))
    (tmp_path / "cache" / CORPUS / DECODERS).write_text(
        json.dumps({faces: [61], "speech-of-no-shards": [60]})
    )
    archive = tmp_path / "archive"
    assert main(["pack", str(tmp_path / "cache"), str(archive)]) == 0
    assert json.loads((archive / CORPUS / DECODERS).read_text()) == {faces: [61]}
    assert main(["pack", str(tmp_path / "cache"), str(archive)]) == 0  # the file is no foreign one
    with serving(archive) as server:
        assert main(["fetch-cache", server.url, str(tmp_path / "got")]) == 0
        (archive / CORPUS / DECODERS).write_bytes(
            (archive / CORPUS / DECODERS).read_bytes().replace(b"61", b"62")
        )
        capsys.readouterr()
        assert main(["fetch-cache", server.url, str(tmp_path / "changed")]) == 1
        assert f"{CORPUS}/{DECODERS} is not the file that archive.json lists" in capsys.readouterr().err
    back = tmp_path / "back" / CORPUS
    back.mkdir(parents=True)
    (back / DECODERS).write_text(json.dumps({faces: [60], "speech-1": [59]}))
    assert main(["unpack", str(tmp_path / "got"), str(tmp_path / "back")]) == 0
    assert json.loads((back / DECODERS).read_text()) == {faces: [61], "speech-1": [59]}
    decode_with(62)
    (line,) = record_decoder(back, {faces: True, logmel: True})
    assert line.startswith(f"{faces}: libavcodec 61 decoded its finished shards")


def test_an_archive_without_the_record_is_packed_and_unpacked(tmp_path):
    pytest.importorskip("hdf5plugin")
    make_cache(tmp_path / "cache", [9, 5], [40, 15])
    assert main(["pack", str(tmp_path / "cache"), str(tmp_path / "archive")]) == 0
    assert main(["unpack", str(tmp_path / "archive"), str(tmp_path / "back")]) == 0
    assert not list(tmp_path.rglob(DECODERS))
