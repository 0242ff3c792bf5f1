"""The weights that a run needs, and no others, are fetched and checked before workers start."""

from __future__ import annotations

import pytest

from deiii.data.config.load import load_config
from deiii.data.tools.weights import WeightsError
from deiii.pipeline.preprocess import needed_weights

BOTH = ["faces.detector=yunet", "flow.method=raft"]


@pytest.fixture
def fetched(monkeypatch):
    names = []
    monkeypatch.setattr(needed_weights, "locate", lambda name: (None, []))
    monkeypatch.setattr(needed_weights, "resolve", lambda given, default: names.append(given or default))
    monkeypatch.setattr("deiii.pipeline.faces.detectors.load_detector", lambda config: None)
    return names


@pytest.mark.parametrize(
    ("settings", "stages", "count"),
    [
        (BOTH, ("faces", "flow", "logmel"), 2),
        (BOTH, ("faces",), 1),
        (BOTH, ("logmel",), 0),
        (["faces.detector=haar", "flow.method=dis"], ("faces", "flow"), 0),
        ([*BOTH, "scheduler=tcp://elsewhere:8786"], ("faces", "flow"), 0),
    ],
)
def test_only_needed_weights_are_fetched_and_reported(fetched, settings, stages, count):
    lines = []
    needed_weights.fetch_needed(load_config(overrides=settings), stages, lines.append)
    assert len(fetched) == len(lines) == count
    assert all(name in line for name, line in zip(fetched, lines, strict=True))


@pytest.mark.parametrize("content", [b"weights", b""])
def test_a_file_that_holds_no_detector_is_an_error_before_workers_start(tmp_path, content):
    path = tmp_path / "own.onnx"
    path.write_bytes(content)
    lines = []
    config = load_config(overrides=["faces.detector=yunet", f"faces.weights={path}"])
    with pytest.raises(WeightsError, match="own.onnx does not hold the face detector YuNet"):
        needed_weights.fetch_needed(config, ("faces",), lines.append)
    assert not lines  # nothing is fetched
    needed_weights.fetch_needed(config, ("logmel",), lines.append)  # logmel needs no weights


def test_a_missing_file_is_an_error_before_workers_start():
    config = load_config(overrides=["faces.detector=yunet", "faces.weights=/nowhere/own.onnx"])
    with pytest.raises(WeightsError, match="no such weights file"):
        needed_weights.fetch_needed(config, ("faces",), print)
