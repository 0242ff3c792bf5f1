"""Levels: cancelled channels, integers stored as floats, offsets."""

import wave

import numpy as np
import pytest

from deiii.data.cache.outcomes import Status
from deiii.data.config.schema import LogMelConfig
from deiii.pipeline.logmel.stage import extract_logmel
from deiii.pipeline.media.audio import read_audio
from deiii.pipeline.media.levels import Levels, PeakMeter, audible_peak
from tests.helpers.clipmaker import outcome_of, tone, write

LEFT = tone(1.0).astype(np.float32)
OTHER = tone(1.0, 613.0).astype(np.float32)


def wav(path, channels):
    """Write int16 samples of channels float [c,n]."""
    with wave.open(str(path), "wb") as out:
        out.setparams((len(channels), 2, 16000, 0, "NONE", ""))
        out.writeframes(np.round(np.stack(channels, axis=1) * 32767).astype("<i2").tobytes())
    return str(path)


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        ([LEFT, -LEFT], {2: 0}),
        ([0.7 * LEFT, -0.8 * LEFT], {2: 1}),
        ([LEFT + 0.1, 0.1 - LEFT], {2: 0}),  # an offset is no signal
        ([LEFT, -LEFT, 0 * LEFT, 0 * LEFT], {4: 0}),
        ([LEFT, LEFT], {}),
        ([LEFT, 0 * LEFT], {}),
        ([LEFT, OTHER], {}),
        ([0 * LEFT, 0 * LEFT], {}),
    ],
)
def test_cancelled_channels(channels, expected):
    levels = Levels()
    for block in np.array_split(np.stack(channels), 7, axis=1):
        levels.add(block, is_float=False)
    assert levels.cancelled() == expected


def test_opposite_channels_leave_the_stronger_one(tmp_path):
    remarks = []
    samples, _, _ = read_audio(wav(tmp_path / "a.wav", [0.8 * LEFT, -LEFT]), 16000, None, remarks)
    np.testing.assert_allclose(samples, -LEFT, atol=1e-4)
    assert "cancel" in remarks[0]


@pytest.mark.parametrize(("scale", "bits"), [(2.0**15, 16), (2.0**23, 24), (2.0**31, 32)])
def test_integers_stored_as_floats_are_scaled(tmp_path, scale, bits):
    path = write(tmp_path / "a.wav", audio=LEFT * scale, audio_codec="pcm_f32le")
    remarks = []
    samples, _, _ = read_audio(path, 16000, None, remarks)
    np.testing.assert_allclose(samples[: len(LEFT)], LEFT, atol=1e-6)
    assert f"{bits}-bit" in remarks[0]


def test_loud_floats_stay(tmp_path):
    path = write(tmp_path / "a.wav", audio=LEFT * 5, audio_codec="pcm_f32le")
    remarks = []
    samples, _, _ = read_audio(path, 16000, None, remarks)
    np.testing.assert_allclose(samples[: len(LEFT)], LEFT * 5, rtol=1e-6)
    assert remarks == []


def test_a_constant_is_silence_and_a_signal_on_it_is_none(tmp_path):
    constant = np.full(16000, 0.05, np.float32)
    switched = np.concatenate([np.zeros(5000, np.float32), constant, np.zeros(5000, np.float32)])
    for samples in (constant, switched):
        assert audible_peak(samples) == 0.0
        outcome = outcome_of(extract_logmel, wav(tmp_path / "a.wav", [samples]), LogMelConfig())
        assert outcome.status is Status.NO_AUDIO and "constant" in outcome.reason
    assert audible_peak(constant + LEFT) == pytest.approx(0.35, abs=1e-3)
    click = np.zeros(16000, np.float32)
    click[8000] = 0.5
    assert audible_peak(click) == 0.5
    assert (
        extract_logmel(wav(tmp_path / "b.wav", [constant + LEFT]), LogMelConfig()).outcome.status is Status.OK
    )


@pytest.mark.parametrize("count", [2, 63, 512, 513, 1024, 1025, 1030, 1087, 1088, 1600])
def test_noise_of_any_length_is_audible(count):
    """The last sample after whole blocks is constant by itself; it made short noise an offset."""
    noise = np.random.default_rng(0).normal(0, 0.1, count).astype(np.float32)
    meter = PeakMeter()
    for part in np.array_split(noise, 3):
        meter.add(part)
    assert audible_peak(noise) == meter.value() == np.abs(noise).max()
    assert audible_peak(np.full(count, 0.1, np.float32)) == 0
