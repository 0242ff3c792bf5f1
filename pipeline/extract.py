"""All features of one clip: computed from its file, or read from the caches.

>>> from deiii import extract                    # doctest: +SKIP
>>> clip = extract("a.mp4")                         # doctest: +SKIP
>>> clip.frames.shape, clip.flow.shape, clip.logmel.shape   # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deiii.data.cache.flow_codec import decode_flow
from deiii.data.cache.index import StageIndex, read_index, stage_folder
from deiii.data.cache.outcomes import Outcome, StageResult
from deiii.data.cache.recipes import recipes
from deiii.data.config.schema import Config
from deiii.data.corpora.clips import Clip, Corpus


@dataclass(frozen=True)
class Features:
    """A clip's features on one media clock; arrays are ``None`` where the outcome says why.

    Attributes:
        path: the media file.
        frames: uint8 [n,S,S,3], aligned face crops, RGB.
        box: float32 [n,4], x y w h, and landmarks float32 [n,5,2], px of the upright source; NaN
            where there is no face.
        flow: float32 [n,S,S,2], px of the crop from frame i to i+1; zero where not ``flow_valid``.
        video_time: float64 [n], s.
        valid, interpolated, flow_valid: bool [n].
        logmel: float16 [m,n_mels], dB.
        audio_time: float64 [m], s, same zero as ``video_time``.
        outcomes: by stage.
    """

    path: str
    outcomes: dict[str, Outcome]
    frames: np.ndarray | None = None
    box: np.ndarray | None = None
    landmarks: np.ndarray | None = None
    valid: np.ndarray | None = None
    interpolated: np.ndarray | None = None
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
        config: settings (`deiii.data.config.load.load_config`); the defaults need no weights.

    Returns:
        the arrays with each stage's outcome; a stage that found nothing says so there, and raises nothing.
    """
    results = run_stages(path, config or Config())
    arrays: dict[str, np.ndarray] = {}
    for stage, result in results.items():
        arrays |= _arrays(stage, result.arrays)
    return Features(str(path), {stage: result.outcome for stage, result in results.items()}, **arrays)


def run_stages(
    path: str | Path, config: Config, stages: Collection[str] = ("faces", "flow", "logmel")
) -> dict[str, StageResult]:
    """What the stages would store of one media file, by stage; models are loaded once a process.

    Sound is read while faces are followed. Memory holds all of the clip's crops.

    Args:
        path: the media file.
        config: settings.
        stages: which to run; ``flow`` needs ``faces``.
    """
    from deiii.pipeline.flow.stage import FaceClip, compute_flow
    from deiii.pipeline.stages.clip import flow_engine, run_clip

    results: dict[str, StageResult] = {}
    with ThreadPoolExecutor(1) as other:
        sound = other.submit(run_clip, "logmel", str(path), config) if "logmel" in stages else None
        if "faces" in stages:
            results["faces"] = faces = run_clip("faces", str(path), config)
            a = faces.arrays
            if "flow" in stages and a:
                clip = FaceClip(a["frames"], a["time"], a["valid"])
                results["flow"] = next(iter(compute_flow([clip], config.flow, flow_engine(config))))
            elif "flow" in stages:
                reason = f"no crops: {faces.outcome.reason}"
                results["flow"] = StageResult(Outcome(faces.outcome.status, reason, 0.0))
        if sound is not None:
            results["logmel"] = sound.result()
    return results


def read_cached(config: Config, corpus: Corpus, clip: Clip) -> Features:
    """A clip's features as preprocessing stored them.

    Raises:
        CacheError: where a configured stage of the corpus is not finished.
    """
    outcomes: dict[str, Outcome] = {}
    arrays: dict[str, np.ndarray] = {}
    for stage, index in read_indices(config, corpus).items():
        record = next(s for s in index.shards if any(row.id == clip.id for row in s.clips))
        shard = record.open(stage_folder(config.cache, corpus.name, stage, index.key))
        outcomes[stage] = shard.outcome(clip.id)
        arrays |= _arrays(stage, shard.clip(clip.id))
    return Features(str(Path(corpus.root) / clip.path), outcomes, **arrays)


def read_indices(config: Config, corpus: Corpus) -> dict[str, StageIndex]:
    """The index of every configured stage. Raises CacheError where one is not finished."""
    folders = {s: stage_folder(config.cache, corpus.name, s, r.key) for s, r in recipes(config).items()}
    return {stage: read_index(folder) for stage, folder in folders.items()}


def _arrays(stage: str, stored: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A stage's stored arrays under the names of `Features`."""
    if not stored:
        return {}
    if stage == "faces":
        names = ("frames", "box", "landmarks", "valid", "interpolated")
        return {"video_time": stored["time"]} | {n: stored[n] for n in names}
    if stage == "flow":
        return {"flow": decode_flow(stored), "flow_valid": stored["valid"]}
    return {"logmel": stored["logmel"], "audio_time": stored["time"]}
