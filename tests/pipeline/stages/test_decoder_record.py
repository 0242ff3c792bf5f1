"""A cache that is continued with another version of FFmpeg says so."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from deiii.data.cluster.on_workers import decoder_version
from deiii.data.config.load import load_config
from deiii.pipeline.preprocess.graph import preprocess
from deiii.pipeline.stages import decoder_record
from deiii.pipeline.stages.decoder_record import DECODERS, record_decoder
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
