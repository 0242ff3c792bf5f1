"""All features of one media file, without a cache.

>>> from pipeline import extract                    # doctest: +SKIP
>>> clip = extract("a.mp4")                         # doctest: +SKIP
>>> clip.frames.shape, clip.flow.shape, clip.logmel.shape   # doctest: +SKIP
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.compact import decode_flow
from data.outcomes import Outcome
from data.schema import Config


@dataclass(frozen=True)
class Features:
    """A clip's features on one media clock; arrays are ``None`` where the outcome says why.

    Attributes:
        path: the media file.
        frames: uint8 [n,S,S,3], aligned face crops, RGB.
        flow: float32 [n,S,S,2], px of the crop from frame i to i+1; zero where not ``flow_valid``.
        video_time: float64 [n], s.
        valid, flow_valid: bool [n].
        logmel: float16 [m,n_mels], dB.
        audio_time: float64 [m], s, same zero as ``video_time``.
        outcomes: by stage.
    """

    path: str
    outcomes: dict[str, Outcome]
    frames: np.ndarray | None = None
    valid: np.ndarray | None = None
    video_time: np.ndarray | None = None
    flow: np.ndarray | None = None
    flow_valid: np.ndarray | None = None
    logmel: np.ndarray | None = None
    audio_time: np.ndarray | None = None

    def describe(self) -> str:
        """The outcomes in a line."""
        reasons = {stage: f" ({o.reason})" if o.reason else "" for stage, o in self.outcomes.items()}
        return ", ".join(f"{stage} {o.status}{reasons[stage]}" for stage, o in self.outcomes.items())


def extract(path: str | Path, config: Config | None = None) -> Features:
    """Faces, flow and log-mel of one media file.

    Args:
        path: any media file that PyAV reads.
        config: settings (`data.config.load_config`); the defaults need no weights.

    Returns:
        the arrays with each stage's outcome; a stage that found nothing says so there, and raises nothing.
    """
    from pipeline.flow import compute_flow, load_engine
    from pipeline.stages import FaceClip, run_clip

    config = config or Config()
    path = str(path)
    faces, logmel = run_clip("faces", path, config), run_clip("logmel", path, config)
    outcomes = {"faces": faces.outcome}
    arrays: dict[str, np.ndarray] = {}
    if faces.arrays:
        a = faces.arrays
        arrays |= {"frames": a["frames"], "valid": a["valid"], "video_time": a["time"]}
        clip = FaceClip(a["frames"], a["time"], a["valid"])
        flow = next(iter(compute_flow([clip], config.flow, load_engine(config.flow))))
        outcomes["flow"] = flow.outcome
        if flow.arrays:
            arrays |= {"flow": decode_flow(flow.arrays), "flow_valid": flow.arrays["valid"]}
    outcomes["logmel"] = logmel.outcome
    if logmel.arrays:
        arrays |= {"logmel": logmel.arrays["logmel"], "audio_time": logmel.arrays["time"]}
    return Features(path, outcomes, **arrays)
