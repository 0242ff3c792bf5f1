"""Speech and silence: the rules for segments, and silero-vad on joined real voices with known silences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deiii.data.tools.weights import WeightsError
from deiii.pipeline.media.audio import read_audio
from deiii.pipeline.streaming.voice import (
    BEGINS,
    CHUNK,
    PAD_S,
    PAUSE_S,
    RATE,
    SHORTEST_S,
    VoiceDetector,
    segments_of,
    speech_segments,
)
from tests.helpers.clipmaker import numbered, write

STEP = CHUNK / RATE


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.2, 0.4, 0.6, 1.0]), st.integers(1, 30)), max_size=12))
def test_segments_hold_all_long_speech_and_no_long_silence(runs):
    p = [value for value, count in runs for _ in range(count)]
    found = segments_of(p, start_s=0.5)
    for (_, end), (begin, _) in zip(found, found[1:], strict=False):
        assert begin - end >= PAUSE_S - 2 * PAD_S - 1e-6
    for begin, end in found:
        assert begin >= 0.5 and end - begin >= SHORTEST_S
    at = 0.5 + STEP * (np.arange(len(p)) + 0.5)
    inside = np.zeros(len(p), bool)
    for begin, end in found:
        inside |= (at > begin) & (at < end)
    first = 0
    for value, count in runs:
        rows = slice(first, first + count)
        if value >= BEGINS and count * STEP >= SHORTEST_S:
            assert inside[rows].all()
        if value == 0.0 and count * STEP > PAUSE_S + 2 * STEP:
            assert not inside[first + 2 : first + count - 2].any()
        first += count


def test_speech_goes_on_while_the_probability_stays_above_the_lower_threshold():
    assert segments_of([0.4] * 50) == []
    assert len(segments_of([0.6] + [0.4] * 50)) == 1


@pytest.fixture(scope="module")
def detector(test_data):
    return VoiceDetector(str(test_data / "weights/silero_vad_16k_op15.onnx"))


def joined(test_data, names, seed):
    """Voices with silences of 0.7 to 1.6 s between them, and where each voice begins and ends, s."""
    rng = np.random.default_rng(seed)

    def silence():
        return 1e-4 * rng.standard_normal(int(rng.uniform(0.7, 1.6) * RATE))

    parts, spans = [silence()], []
    for name in names:
        samples, _, _ = read_audio(name, RATE)
        level = np.sqrt(np.convolve(samples**2, np.ones(400) / 400, "same"))
        loud = np.flatnonzero(level > 0.05 * level.max())
        voice = samples[loud[0] : loud[-1]]
        begin = sum(map(len, parts)) / RATE
        spans.append((begin, begin + len(voice) / RATE))
        parts += [voice / np.abs(voice).max() / 2, silence()]
    return np.concatenate(parts).astype(np.float32), spans


def test_known_silences_between_real_voices_are_found(test_data, detector, tmp_path):
    files = sorted((test_data / "media/ravdess_speech_16k").rglob("*.flac"))[::97]
    right = total = starts = 0
    for k in range(0, 12, 4):
        samples, spans = joined(test_data, files[k : k + 4], k)
        # Any parts give the segments of the whole.
        found = segments_of(detector.probabilities(np.array_split(samples, 11)))
        assert found == segments_of(detector.probabilities([samples]))
        at = (np.arange(int(len(samples) / RATE / 0.01)) + 0.5) * 0.01
        said, meant = (sum((at >= b) & (at < e) for b, e in some) > 0 for some in (found, spans))
        right += int((said == meant).sum())
        total += len(at)
        starts += sum(any(abs(b - begin) < 0.25 for b, _ in found) for begin, _ in spans)
        for (_, end), (begin, _) in zip(spans, spans[1:], strict=False):
            middle = (end + begin) / 2
            assert not any(b <= middle < e for b, e in found)
    assert right / total > 0.9 and starts >= 11
    path = write(tmp_path / "voices.mp4", numbered(25), audio=samples)
    done = []
    again = speech_segments(path, detector, done.append)
    assert done == sorted(done) and done[-1] == pytest.approx(len(samples) / RATE, abs=0.1)
    assert len(again) == len(found)
    assert np.abs(np.array(again) - np.array(found)).max() < 0.15
    assert speech_segments(write(tmp_path / "mute.mp4", numbered(25)), detector) == []


def test_damaged_weights_are_named(tmp_path):
    damaged = tmp_path / "silero_vad_16k_op15.onnx"
    damaged.write_bytes(b"not a network")
    with pytest.raises(WeightsError, match=rf"^{damaged} does not hold the voice activity detector .*; give"):
        VoiceDetector(str(damaged))


def test_another_network_is_refused(test_data):
    other = str(test_data / "weights/face_detection_yunet_2023mar.onnx")
    with pytest.raises(WeightsError, match=r"it reads input, not input, sr and state"):
        VoiceDetector(other)
