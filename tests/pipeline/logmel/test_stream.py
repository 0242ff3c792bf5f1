"""Log-mel in parts equals that of the whole file, with all that only the whole file tells."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deiii.data.cache.outcomes import ClipError
from deiii.data.config.schema import LogMelConfig
from deiii.data.loader.stage_arrays import LEAST_DB, band_levels
from deiii.pipeline.logmel.stage import extract_logmel, mel_rows, sizes
from deiii.pipeline.logmel.stream import MelStream, SpooledLogMel
from tests.helpers.clipmaker import numbered, tone, write
from tests.helpers.tracks import write_tracks


@example([512, 2000, 2000, 100], 1, 60.0)  # parts that end between two windows
@settings(max_examples=20)
@given(
    st.lists(st.integers(0, 3000), min_size=1, max_size=6),
    st.integers(1, 30),
    st.sampled_from([10.0, 32.0, 33.0, 60.0]),  # the FFT has 32 ms
)
def test_parts_of_any_length_give_the_rows_of_the_whole(lengths, least, hop_ms):
    config = LogMelConfig(n_mels=8, hop_ms=hop_ms)
    n_fft, _, hop = sizes(config)
    samples = np.random.default_rng(0).standard_normal(sum(lengths)).astype(np.float32)
    stream = MelStream(config, least)
    parts = [stream.push(part) for part in np.split(samples, np.cumsum(lengths)[:-1])]
    found = np.concatenate([*parts, stream.finish()])
    assert len(found) == 1 + len(samples) // hop
    whole = mel_rows(np.pad(samples, n_fft // 2), config)
    np.testing.assert_allclose(found, whole[: len(found)], atol=1e-3)


def recordings(folder):
    """Files by what only a whole recording tells."""
    rng = np.random.default_rng(1)
    loud_late = np.concatenate([0.001 * rng.standard_normal(16000), tone(2.0), np.zeros(12000)])
    speech = np.concatenate([np.zeros(8000), tone(1.0), np.zeros(8000)])
    left_right = np.stack([tone(1.5), -0.9 * tone(1.5)])
    silent = (np.zeros((1, 16000)), "mono", "default")
    yield "loudest at the end", write(folder / "late.mp4", numbered(10), audio=loud_late)
    yield "another rate", write(folder / "rate.mp4", numbered(10), audio=tone(2.0, rate=44100), rate=44100)
    yield "late audio", write(folder / "offset.mp4", numbered(40), audio=speech, audio_at=0.3)
    yield "channels cancel", write_tracks(folder / "phase.mkv", [(left_right, "stereo", "default")])
    yield "first is silent", write_tracks(folder / "two.mkv", [silent, (tone(1.0)[None], "mono", "")])


@pytest.mark.parametrize(
    "changes", [{}, {"trim_db": 30.0, "hop_ms": 8.0, "n_mels": 40}], ids=["default", "trim"]
)
def test_spooled_equals_the_stage(tmp_path, changes):
    config = LogMelConfig(**changes)
    for name, path in recordings(tmp_path):
        whole = extract_logmel(path, config)
        with SpooledLogMel(config) as spooled:
            spooled.compute(path)
            assert spooled.outcome == whole.outcome, name
            found = spooled.between(-1.0, 100.0)
            np.testing.assert_allclose(found["time"], whole.arrays["time"], atol=1e-9, err_msg=name)
            meant = whole.arrays["logmel"].astype(np.float32)
            np.testing.assert_allclose(found["logmel"].astype(np.float32), meant, atol=0.13, err_msg=name)
            part = spooled.between(0.5, 0.9)
            inside = (whole.arrays["time"] >= 0.5) & (whole.arrays["time"] < 0.9)
            assert set(whole.arrays["time"][inside].round(9)) <= set(part["time"].round(9)), name
            for one, other in zip(spooled.levels(LEAST_DB), band_levels([found["logmel"]]), strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-9)
            assert spooled.end_s == pytest.approx(whole.arrays["time"][-1] + np.diff(found["time"])[0])


def test_silent_files_end_as_in_the_stage(tmp_path):
    path = write(tmp_path / "silent.mp4", numbered(10), audio=np.zeros(16000))
    mute = write(tmp_path / "mute.mp4", numbered(10))
    for file in (path, mute):
        with pytest.raises(ClipError) as whole:
            extract_logmel(file, LogMelConfig())
        with SpooledLogMel(LogMelConfig()) as spooled, pytest.raises(ClipError) as streamed:
            spooled.compute(file)
        assert streamed.value.outcome == whole.value.outcome
