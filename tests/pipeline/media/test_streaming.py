"""Audio in parts: the resampler and the peak are those of the whole."""

from __future__ import annotations

import os

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deiii.pipeline.media.levels import PeakMeter, audible_peak
from deiii.pipeline.media.streaming.audio import AudioReader, Resampler, settled_reader
from tests.helpers.clipmaker import tone, write


@pytest.mark.parametrize("rates", [(44100, 16000), (48000, 16000), (8000, 16000), (16000, 16000)])
def test_resampled_parts_equal_the_resampled_whole(rates):
    source, target = rates
    wave = np.random.default_rng(0).standard_normal(3 * source + 17).astype(np.float32)
    whole = librosa.resample(wave, orig_sr=source, target_sr=target, res_type="soxr_hq")
    resampler = Resampler(source, target, block_s=0.1)
    parts = [resampler.push(part) for part in np.array_split(wave, 37)]
    found = np.concatenate([*parts, resampler.push(wave[:0], last=True)])
    assert len(found) == len(whole)
    np.testing.assert_allclose(found, whole, atol=1e-5)


LEVELS = st.sampled_from([0.0, 3e-5, 0.05, -0.3])


@settings(max_examples=60)
@given(st.lists(st.tuples(LEVELS, LEVELS, st.integers(1, 2000)), min_size=1, max_size=6), st.integers(1, 5))
def test_peak_of_parts_is_that_of_the_whole(pieces, parts):
    rng = np.random.default_rng(0)
    samples = np.concatenate([offset + swing * rng.uniform(-1, 1, n) for offset, swing, n in pieces])
    samples = samples.astype(np.float32)
    meter = PeakMeter()
    for part in np.array_split(samples, parts):
        meter.add(part)
    assert meter.value() == audible_peak(samples)


def test_a_peak_that_is_no_number_stays():
    meter = PeakMeter()
    meter.add(np.array([0.1, np.nan], np.float32))
    meter.add(np.ones(600, np.float32))
    assert np.isnan(meter.value())


def test_a_file_that_changes_while_it_is_read_has_a_reader(tmp_path, monkeypatch):
    """It ended with a KeyError, as did a file whose facts many other files had displaced meanwhile."""
    path = write(tmp_path / "a.wav", audio=tone(0.5), audio_codec="pcm_s16le")
    samples = AudioReader._samples

    def touched(self):
        yield from samples(self)
        os.utime(path, ns=(0, 1))

    monkeypatch.setattr(AudioReader, "_samples", touched)
    assert sum(map(len, settled_reader(path, 16000))) == 8000
