"""17. Levels: no audio is lost by mixing channels, scaled wrongly or taken for silence, and the reverse."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import av
import numpy as np

from deiii.data.cache.outcomes import Status
from deiii.data.config.schema import LogMelConfig
from deiii.pipeline.logmel.stage import extract_logmel
from deiii.pipeline.media.audio import read_audio
from tests.faults.harness import faults
from tests.faults.workspace import Workspace
from tests.helpers.clipmaker import outcome_of, tone

levels = faults("17 levels")
RATE = 16000
VOICE = tone(1.0).astype(np.float32)
OTHER = tone(1.0, 613.0).astype(np.float32)
NOTHING = 0 * VOICE
NOISE = np.random.default_rng(0).normal(0, 0.05, len(VOICE)).astype(np.float32)
LAYOUTS = {1: "mono", 2: "stereo", 4: "quad", 6: "5.1"}


def sound(path: Path, channels: list[np.ndarray], codec: str = "pcm_s16le") -> Path:
    """Write channels float [n] of 16 kHz with a PCM or lossless codec."""
    samples = np.stack(channels).astype(np.float32)
    with av.open(str(path), "w") as out:
        layout = LAYOUTS[len(channels)]
        stream: Any = out.add_stream(codec, rate=RATE, layout=layout)
        resampler = av.AudioResampler(stream.codec_context.format.name, layout, RATE)
        for start in range(0, samples.shape[1], 1000):
            block = np.ascontiguousarray(samples[:, start : start + 1000].T.reshape(1, -1))
            frame = av.AudioFrame.from_ndarray(block, format="flt", layout=layout)
            frame.sample_rate, frame.pts = RATE, start
            for piece in resampler.resample(frame):
                out.mux(stream.encode(piece))
        out.mux(stream.encode())
    return path


def _read(path: Path) -> tuple[np.ndarray, str]:
    remarks: list[str] = []
    samples, _, _ = read_audio(path, RATE, None, remarks)
    return samples[: len(VOICE)], "; ".join(remarks)


# Channels, and what comes out: samples, and whether a note says that channels cancel each other.
MIXES: dict[str, tuple[list[np.ndarray], np.ndarray, bool]] = {
    "opposite channels": ([VOICE, -VOICE], VOICE, True),
    "opposite channels, the second louder": ([0.5 * VOICE, -0.6 * VOICE], -0.6 * VOICE, True),
    "opposite channels with different offsets": ([VOICE + 0.1, 0.2 - VOICE], VOICE + 0.1, True),
    "two of four channels opposite": ([VOICE, -VOICE, NOTHING, NOTHING], VOICE, True),
    "opposite channels with noise": (
        [VOICE + 0.1 * NOISE, 0.1 * NOISE - 0.9 * VOICE],
        VOICE + 0.1 * NOISE,
        True,
    ),
    "equal channels": ([VOICE, VOICE], VOICE, False),
    "one silent channel": ([VOICE, NOTHING], VOICE / 2, False),
    "two voices": ([VOICE, OTHER], (VOICE + OTHER) / 2, False),
    "a quieter copy": ([VOICE, 0.5 * VOICE], 0.75 * VOICE, False),
    "5.1 with the voice in one channel": ([NOTHING, NOTHING, VOICE, *[NOTHING] * 3], VOICE / 6, False),
    "mono": ([VOICE], VOICE, False),
}


@levels("{case[1]} as {case[0]}", "the sound is kept; cancelled channels are noted",
        cases=list(product(("wav", "flac"), MIXES)), short=[("wav", "opposite channels")])  # fmt: skip
def mixes(work: Workspace, case: tuple[str, str]) -> str:
    channels, expected, noted = MIXES[case[1]]
    codec = "flac" if case[0] == "flac" else "pcm_s16le"
    found, remarks = _read(sound(work.folder() / f"a.{case[0]}", channels, codec))
    miss = float(np.abs(found - expected).max())
    assert miss < 2e-3, f"samples differ by {miss}"
    assert ("cancel" in remarks) == noted, remarks
    return remarks


SCALES = {
    "16-bit integers": (2.0**15, True), "24-bit integers": (2.0**23, True),
    "32-bit integers": (2.0**31, True), "full scale": (1.0, False), "twice full scale": (2.0, False),
    "7 times full scale": (7.0, False), "quiet": (0.05, False),
}  # fmt: skip


@levels("{case[0]} samples with the scale of {case[1]}", "divided with a note; else as they are",
        cases=list(product(("pcm_f32le", "pcm_f64le"), SCALES)))  # fmt: skip
def scales(work: Workspace, case: tuple[str, str]) -> str:
    scale, divided = SCALES[case[1]]
    loud = VOICE / VOICE.max()
    found, remarks = _read(sound(work.folder() / "a.wav", [loud * scale], case[0]))
    np.testing.assert_allclose(found, loud * (1.0 if divided else scale), atol=1e-5 * max(scale, 1.0))
    assert ("divided" in remarks) == divided, remarks
    return remarks


CLICK = NOTHING.copy()
CLICK[8000:8004] = 0.3
STEPS = NOTHING.copy()
STEPS[4000:12000] = 0.2
# Samples, and whether they are silence.
SILENCES: dict[str, tuple[list[np.ndarray], bool]] = {
    "zeros": ([NOTHING], True),
    "a constant": ([NOTHING + 0.05], True),
    "a large constant": ([NOTHING + 0.9], True),
    "a constant switched on and off": ([STEPS], True),
    "different constants in two channels": ([NOTHING + 0.1, NOTHING - 0.3], True),
    "dither of one step": ([np.sign(NOISE) * 3.1e-5], True),
    "a voice on a constant": ([VOICE + 0.2], False),
    "a quiet voice (-60 dB)": ([VOICE / 300], False),
    "a click": ([CLICK], False),
    "noise": ([NOISE], False),
    "a voice after half a second of zeros": ([np.where(np.arange(len(VOICE)) > 8000, VOICE, 0)], False),
    "zeros in one channel, a voice in the other": ([NOTHING, VOICE], False),
}


@levels("{case} as WAV", "no_audio where nothing can be heard, else ok", cases=SILENCES, short={"a constant"})
def silences(work: Workspace, case: str) -> str:
    channels, silent = SILENCES[case]
    path = sound(work.folder() / "a.wav", channels)
    if silent:
        outcome = outcome_of(extract_logmel, path, LogMelConfig())
        assert outcome.status is Status.NO_AUDIO and "silent" in outcome.reason, outcome
        return outcome.reason
    outcome = extract_logmel(path, LogMelConfig()).outcome
    assert outcome.status is Status.OK, outcome
    return str(outcome.status)


@levels("a {case} among float samples", "unreadable or its clip named; never features that are not finite",
        cases=("NaN", "infinity"))  # fmt: skip
def not_finite(work: Workspace, case: str) -> str:
    samples = VOICE.copy()
    samples[5000] = np.nan if case == "NaN" else np.inf
    outcome = outcome_of(
        extract_logmel, sound(work.folder() / "a.wav", [samples], "pcm_f32le"), LogMelConfig()
    )
    assert outcome.status is Status.UNREADABLE and "not finite" in outcome.reason, outcome
    return outcome.reason
