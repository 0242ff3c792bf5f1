"""Mel bands that hold nothing are named before work, and those of the clips are the same ones."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from deiii.data.config.load import load_config
from deiii.data.config.strict_yaml import ConfigError
from deiii.pipeline.logmel.bands import note_on_bands
from deiii.pipeline.logmel.stage import log_mel


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["logmel.n_mels=128"],
        ["logmel.n_mels=256"],
        ["logmel.n_mels=512"],
        ["logmel.window_ms=5"],
        ["logmel.window_ms=1", "logmel.hop_ms=1"],
        ["logmel.sample_rate=8000", "logmel.fmax=4000"],
        ["logmel.fmin=0", "logmel.n_mels=160"],
    ],
)
def test_the_note_counts_the_bands_that_stay_at_the_floor(words):
    config = load_config(overrides=[*words, "logmel.floor_db=-200"])
    noise = np.random.default_rng(0).normal(size=2 * config.logmel.sample_rate).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        rows = log_mel(noise, config.logmel)
    silent = int((rows.max(axis=0) < -100).sum())  # noise fills every band that holds a frequency
    note = note_on_bands(config)
    assert note.startswith(f"{silent} of ") if silent else note == ""


def test_bands_beyond_half_of_the_sample_rate_are_named():
    note = note_on_bands(load_config(overrides=["logmel.sample_rate=8000"]))
    assert note.startswith(
        "logmel.fmax=7600 is above half of logmel.sample_rate=8000; the bands end at 4000 Hz"
    )


def test_a_lowest_frequency_beyond_half_of_the_sample_rate_is_refused():
    with pytest.raises(
        ConfigError, match="logmel.fmin=5000 must be less than half of logmel.sample_rate=8000"
    ):
        load_config(overrides=["logmel.sample_rate=8000", "logmel.fmin=5000"])
