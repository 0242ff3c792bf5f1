"""Prediction within other programs: their settings of PyTorch, random numbers, threads, wrong arguments."""

from __future__ import annotations

import io
import json
import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from deiii import load
from deiii.pipeline.stages import clip


@pytest.fixture(scope="module")
def wanted(seen_run):
    return load(seen_run / "run", device="cpu").predict(seen_run / "raw/c0.mp4").tree()


@contextmanager
def default_type(kind):
    torch.set_default_dtype(kind)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


SETTINGS = {
    "float64": lambda: default_type(torch.float64),
    "float16": lambda: default_type(torch.float16),
    "meta": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference": torch.inference_mode,
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_the_caller_change_no_prediction(seen_run, wanted, name, monkeypatch):
    monkeypatch.setattr(clip, "_loaded", {})  # models are loaded again, under these settings
    with SETTINGS[name]():
        network = load(seen_run / "run", device="cpu")
        found = network.predict(seen_run / "raw/c0.mp4").tree()
    assert found == wanted
    assert {p.dtype for p in network.network.parameters()} == {torch.float32}
    assert not any(p.is_inference() for p in network.network.parameters())
    assert network.predict(seen_run / "raw/c0.mp4").tree() == wanted


def test_random_numbers_of_the_caller_stay_the_same(seen_run):
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    expected = torch.rand(1), np.random.rand(), random.random()
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    load(seen_run / "run", device="cpu").predict(seen_run / "raw/c0.mp4")
    assert (torch.rand(1), np.random.rand(), random.random()) == expected


def test_threads_that_share_a_network_get_the_same_predictions(seen_run, wanted):
    network = load(seen_run / "run", device="cpu")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(network.predict, [seen_run / "raw/c0.mp4"] * 4))
    assert [p.tree() for p in found] == [wanted] * 4


@pytest.mark.parametrize("given", [b"\x00\x00\x00 ftyp", bytearray(b"x"), io.BytesIO(b"x"), None, 0])
def test_what_is_no_path_is_one_error_that_says_what_is_needed(seen_run, given):
    """The bytes of a file ended in an error about embedded null bytes."""
    network = load(seen_run / "run", device="cpu")
    told = "the path of a media file is needed, not .* temporary file"
    for use in (network.predict, network.predict_people, network.stream):
        with pytest.raises(TypeError, match=told):
            use(given)
    with pytest.raises(TypeError, match=told):
        network.speaker_levels([given])
    with pytest.raises(TypeError, match="takes a list"):
        network.speaker_levels("clip.mp4")


def test_the_tree_of_a_prediction_is_its_json(seen_run, wanted):
    assert json.loads(json.dumps(wanted)) == wanted
    assert wanted["file"] == str(seen_run / "raw/c0.mp4") and wanted["timeline"]["steps"]
