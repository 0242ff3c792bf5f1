"""A live source is opened when everything that its frames need is ready."""

from __future__ import annotations

import pytest

from deiii.data.cache.stages import FACES, FLOW, LOGMEL
from deiii.data.config.load import load_config
from deiii.pipeline.flow import stream as flow_stream
from deiii.pipeline.logmel import stream as mel_stream
from deiii.pipeline.streaming import live


class Opened(Exception):
    """The source is opened."""


@pytest.mark.parametrize(
    ("stages", "computed"),
    [({FLOW.name, LOGMEL.name}, ["log-mel", "flow"]), ({LOGMEL.name}, ["log-mel"]), ({FACES.name}, [])],
)
def test_log_mel_and_flow_are_computed_once_before_the_source_is_opened(stages, computed, monkeypatch):
    """The first call imports librosa and compiles; frames of an open source would be dropped meanwhile."""
    calls = []

    def recorded(module, function, name):
        original = getattr(module, function)
        monkeypatch.setattr(module, function, lambda *words: calls.append(name) or original(*words))

    def opened(*words):
        raise Opened

    recorded(mel_stream, "mel_rows", "log-mel")
    recorded(flow_stream, "compute_flow", "flow")
    monkeypatch.setattr(live, "LiveReader", opened)
    config = load_config("tiny", ["faces.detector=haar", "flow.method=dis"])
    with pytest.raises(Opened):
        live.LiveStream("camera", config, stages)
    assert sorted(calls) == sorted(computed)
