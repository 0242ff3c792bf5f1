"""Genuine RAVDESS files: the sound of a 01 file and of its 03 recording agrees to a millisecond."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import correlate

from deiii.pipeline.media.audio import read_audio


@pytest.mark.parametrize("code", ["01-01-01-01-01-01", "01-08-02-02-02-01"])
def test_sound_of_one_take_agrees(test_data, code):
    """Their files do not state the delay of their encoder, 1,600 samples; it is left out."""
    video, start, _ = read_audio(test_data / f"media/ravdess_video/01-{code}.mp4", 16000)
    sound, _, _ = read_audio(test_data / f"media/ravdess_speech_16k/03-{code}.flac", 16000)
    found = correlate(video, sound, method="fft")
    lag = (int(found.argmax()) - (len(sound) - 1)) / 16000 + start
    assert abs(lag) <= 0.001
    size = np.linalg.norm(video) * np.linalg.norm(sound)
    assert found.max() / size > 0.95
