"""Log-mel: against a direct computation, its clock, and audio without content."""

import librosa
import numpy as np
import pytest

from deiii.data.cache.outcomes import ClipError, Status
from deiii.data.config.schema import LogMelConfig
from deiii.pipeline.logmel import stage as logmel
from deiii.pipeline.logmel.stage import extract_logmel, log_mel
from tests.helpers.clipmaker import needs_shared, numbered, shared, tone, write


def reference(samples, config):
    """The same definition, written out with plain NumPy for one window after another."""
    window, hop = round(config.window_ms * 16), round(config.hop_ms * 16)
    n_fft = 512
    filters = librosa.filters.mel(
        sr=16000, n_fft=n_fft, n_mels=config.n_mels, fmin=config.fmin, fmax=config.fmax
    )
    shape = np.zeros(n_fft)
    left = (n_fft - window) // 2
    shape[left : left + window] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    padded = np.pad(samples, n_fft // 2)
    rows = []
    for start in range(0, len(samples) + 1, hop):
        power = np.abs(np.fft.rfft(padded[start : start + n_fft] * shape)) ** 2
        rows.append(10 * np.log10(np.maximum(filters @ power, 1e-12)))
    rows = np.array(rows)
    return np.maximum(rows, rows.max() + config.floor_db)


def test_against_a_direct_computation(monkeypatch):
    rng = np.random.default_rng(0)
    samples = (tone(1.0, 700) + 0.01 * rng.standard_normal(16000)).astype(np.float32)
    config = LogMelConfig()
    expected = reference(samples, config)
    np.testing.assert_allclose(log_mel(samples, config), expected, atol=2e-3)
    monkeypatch.setattr(logmel, "BLOCK", 7)  # blocks must not show
    np.testing.assert_allclose(log_mel(samples, config), expected, atol=2e-3)


def test_a_click_has_the_time_of_its_video_frame(tmp_path):
    frames = [np.full((48, 64, 3), 250 if i == 20 else 10, np.uint8) for i in range(50)]
    click = 0.001 * np.random.default_rng(0).standard_normal(16000)
    click[4800:4960] = 0.9  # 0.3 s after the start of the audio at 0.5 s, like the flash in frame 20
    path = write(tmp_path / "a.mkv", frames, audio=click, audio_at=0.5)
    arrays = extract_logmel(path, LogMelConfig()).arrays
    loud = arrays["time"][arrays["logmel"].astype(np.float32).mean(axis=1).argmax()]
    assert loud == pytest.approx(0.805, abs=0.015)
    np.testing.assert_allclose(np.diff(arrays["time"]), 0.01)
    assert arrays["logmel"].dtype == np.float16 and arrays["time"].dtype == np.float64


@pytest.mark.parametrize(
    ("seconds", "amplitude", "status"),
    [
        (0.5, 0.0, Status.NO_AUDIO),
        (0.5, 1e-5, Status.NO_AUDIO),
        (0.005, 0.5, Status.TOO_SHORT),
    ],
)
def test_silent_and_short_audio(tmp_path, seconds, amplitude, status):
    samples = np.full(round(seconds * 16000), amplitude)
    path = write(tmp_path / "a.wav", audio=samples, audio_codec="pcm_f32le")
    with pytest.raises(ClipError) as caught:
        extract_logmel(path, LogMelConfig())
    assert caught.value.outcome.status is status and caught.value.outcome.reason


def test_no_audio_stream(tmp_path):
    with pytest.raises(ClipError) as caught:
        extract_logmel(write(tmp_path / "a.mp4", numbered(3)), LogMelConfig())
    assert caught.value.outcome.status is Status.NO_AUDIO


def test_settings_change_the_shape(tmp_path):
    path = write(tmp_path / "a.mp4", audio=tone(1.0))
    arrays = extract_logmel(path, LogMelConfig(n_mels=40, hop_ms=20, fmax=20000)).arrays
    assert arrays["logmel"].shape[1] == 40 and len(arrays["time"]) == pytest.approx(51, abs=8)
    assert np.isfinite(arrays["logmel"]).all()


@needs_shared
def test_real_speech_twice():
    one, two = (extract_logmel(shared("media/grid/bbaf2n.mpg"), LogMelConfig()) for _ in range(2))
    assert (
        one.outcome.status is Status.OK and one.arrays["logmel"].tobytes() == two.arrays["logmel"].tobytes()
    )
    values = one.arrays["logmel"].astype(np.float32)
    assert values.shape == (298, 80) and values.max() - values.min() <= 80.1


def test_silence_at_both_ends_is_trimmed_and_the_clock_stays(tmp_path):
    """A tone between 0.5 s and 1.0 s of two: what is left is that, 50 ms and half a window around it."""
    rng = np.random.default_rng(0)
    samples = 1e-5 * rng.standard_normal(32000)
    samples[8000:16000] += tone(0.5, 500)
    path = write(tmp_path / "tone.mp4", audio=samples)
    whole = extract_logmel(path, LogMelConfig()).arrays
    part = extract_logmel(path, LogMelConfig(trim_db=40.0)).arrays
    assert 0.43 <= part["time"][0] <= 0.46 and 1.04 <= part["time"][-1] <= 1.07
    same = (whole["time"] >= part["time"][0]) & (whole["time"] <= part["time"][-1])
    assert np.array_equal(whole["logmel"][same], part["logmel"])
