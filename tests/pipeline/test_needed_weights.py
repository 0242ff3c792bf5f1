"""Weights are fetched before workers start, and only those that are needed."""

from __future__ import annotations

import pytest

from data.config import load_config
from data.weights import WeightsError
from pipeline import needed_weights

BOTH = ["faces.detector=yunet", "flow.method=raft"]


@pytest.fixture
def fetched(monkeypatch):
    names = []
    monkeypatch.setattr(needed_weights, "locate", lambda name: (None, []))
    monkeypatch.setattr(needed_weights, "resolve", lambda given, default: names.append(given or default))
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
def test_only_what_is_needed_is_fetched_and_told(fetched, settings, stages, count):
    told = []
    needed_weights.fetch_needed(load_config(overrides=settings), stages, told.append)
    assert len(fetched) == len(told) == count
    assert all(name in line for name, line in zip(fetched, told, strict=True))


def test_weights_that_are_here_are_not_told_of(tmp_path):
    path = tmp_path / "own.onnx"
    path.write_bytes(b"weights")
    told = []
    config = load_config(overrides=["faces.detector=yunet", f"faces.weights={path}"])
    needed_weights.fetch_needed(config, ("faces",), told.append)
    assert not told


def test_a_path_that_leads_nowhere_stops_before_any_worker_starts():
    config = load_config(overrides=["faces.detector=yunet", "faces.weights=/nowhere/own.onnx"])
    with pytest.raises(WeightsError, match="no such weights file"):
        needed_weights.fetch_needed(config, ("faces",), print)
