"""Compute all features of one clip from its file, or read them from the caches.

>>> from deiii import extract                    # doctest: +SKIP
>>> clip = extract("a.mp4")                         # doctest: +SKIP
>>> clip.frames.shape, clip.flow.shape, clip.logmel.shape   # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deiii.data.cache.index import CacheError, StageIndex, read_index, stage_folder
from deiii.data.cache.outcomes import ClipError, Outcome, StageResult
from deiii.data.cache.recipes import recipes
from deiii.data.cache.stages import BUILT_IN, FACES, get_stage, import_function, with_upstream
from deiii.data.config.schema import Config
from deiii.data.corpora.clips import Clip, Corpus
from deiii.data.tools.counts import counted
from deiii.data.tools.shapes import check_axes, describe_shapes

if TYPE_CHECKING:
    from deiii.pipeline.faces.people import FacePerson

# Axes of each field: n frames, S crop size, m hops, M mel bands.
AXES = {
    "frames": ("n", "S", "S", 3),
    "box": ("n", 4),
    "landmarks": ("n", 5, 2),
    "valid": ("n",),
    "interpolated": ("n",),
    "video_time": ("n",),
    "flow": ("n", "S", "S", 2),
    "flow_valid": ("n",),
    "logmel": ("m", "M"),
    "audio_time": ("m",),
}


@dataclass(frozen=True, repr=False)
class Features:
    """The features of a clip on one media clock; an array is ``None`` if its stage stored nothing.

    Attributes:
        path: the media file.
        frames: uint8 [n,S,S,3], aligned face crops, RGB.
        box: float32 [n,4], x, y, width and height in px of the upright source; NaN without a face.
        landmarks: float32 [n,5,2], px of the upright source; NaN without a face.
        flow: float32 [n,S,S,2], px of the crop from frame i to i+1; zero where not ``flow_valid``.
        video_time: float64 [n], s.
        valid, interpolated, flow_valid: bool [n].
        logmel: float16 [m,M], dB.
        audio_time: float64 [m], s, same zero as ``video_time``.
        outcomes: the outcome of each stage, with the reason.
        more: the arrays of all other stages (frozen encoders, stages of packages), by stage and field.

    Raises:
        ValueError: arrays of one clock differ in length; names the field and the shapes.
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
    more: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_axes(self, AXES)

    def __repr__(self) -> str:
        return describe_shapes(self)

    def describe(self) -> str:
        """Return the outcomes of all stages in one line."""
        reasons = {stage: f" ({o.reason})" if o.reason else "" for stage, o in self.outcomes.items()}
        return ", ".join(f"{stage} {o.status}{reasons[stage]}" for stage, o in self.outcomes.items())


def extract(path: str | Path, config: Config | None = None) -> Features:
    """Compute faces, flow and log-mel of one media file, and the further stages that the settings name.

    Args:
        path: any media file that PyAV can read.
        config: settings (`deiii.data.config.load.load_config`); the defaults need no weights. Frozen encoders
            and stages of packages are computed if ``config.stages`` names them.

    Returns:
        the arrays and the outcome of each stage; a stage that finds nothing raises no error.

    Raises:
        ModuleNotFoundError: a package that a stage needs is not installed.
        WeightsError: weights that the settings name cannot be found, downloaded or loaded.

    >>> extract("a.mp4").describe()  # doctest: +SKIP
    'faces ok, flow ok, logmel ok'
    """
    config = config or Config()
    names = [stage.name for stage in BUILT_IN]
    return _features(path, run_stages(path, config, [*names, *config.stages]))


def load_first(stages: Collection[str], config: Config) -> None:
    """Load the models of the stages that read media files: if one is missing, no media file is to blame.

    The models of later stages are loaded when a file gets that far: audio without video needs no flow.

    Args:
        stages: names of stages.
        config: settings.

    Raises:
        ModuleNotFoundError: a package that a stage needs is not installed.
        MachineFault: code that a stage needs cannot be imported for another reason.
        WeightsError: weights cannot be found, downloaded or loaded; the message states what to do.

    >>> load_first(["logmel"], Config())
    """
    from deiii.pipeline.stages.clip import load_models
    from deiii.pipeline.stages.first_clips import MachineFault

    try:
        for name in stages:
            if get_stage(name).upstream is None:
                load_models(name, config)
    except MachineFault as error:
        if isinstance(error.__cause__, ModuleNotFoundError):  # the command names it with its remedy
            raise error.__cause__ from None
        raise


def run_stages(path: str | Path, config: Config, stages: Collection[str]) -> dict[str, StageResult]:
    """Compute what the stages store for one media file; models are loaded once per process.

    Audio is read while faces are tracked. Memory holds all crops of the clip.

    Args:
        path: the media file.
        config: settings.
        stages: names of the stages to run; the stages upstream of them also run.

    Returns:
        the stages' results, those upstream included, in the order in which stages are declared.

    Raises:
        ModuleNotFoundError, MachineFault, WeightsError: as `load_first`.
    """
    from deiii.pipeline.stages.clip import inherited, run_clip, run_downstream

    names = with_upstream(stages)
    load_first(names, config)
    results: dict[str, StageResult] = {}
    with ThreadPoolExecutor(1) as other:
        on_way: dict[str, Future[StageResult]] = {}
        for name in names:
            if get_stage(name).upstream is None and get_stage(name).modality == "audio":
                on_way[name] = other.submit(run_clip, name, str(path), config)
        for name in sorted(names, key=lambda n: n in on_way):  # video first; audio is read at the same time
            upstream = get_stage(name).upstream
            if name in on_way:
                results[name] = on_way[name].result()
            elif upstream is None:
                results[name] = run_clip(name, str(path), config)
            else:
                before = results[upstream] if upstream in results else on_way[upstream].result()
                if before.outcome.usable:
                    results[name] = next(run_downstream(name, [before.arrays], config))
                else:
                    results[name] = inherited(name, before.outcome)
    return {name: results[name] for name in names}


def run_people(
    path: str | Path, config: Config, stages: Collection[str]
) -> Iterator[tuple[FacePerson, dict[str, StageResult]]]:
    """Compute the stages for each person in a media file, one person at a time.

    Stages that do not depend on the face are computed once. A file without video, or without a face, yields
    nothing.

    Args:
        path: the media file.
        config: settings.
        stages: names of the stages to run; faces and the stages upstream of them also run.

    Yields:
        each person, in the order of their numbers, and the stages' results for them.
    """
    from deiii.pipeline.faces.people import find_people
    from deiii.pipeline.faces.stage import crops_of
    from deiii.pipeline.stages.clip import inherited, loaded_models, run_downstream

    names = with_upstream([*stages, FACES.name])
    (detector,) = loaded_models(FACES, config)
    try:
        found = find_people(path, config.faces, detector)
    except ClipError:  # running the stages records the error as an outcome
        return
    of_face = [name for name in names if FACES.name in with_upstream([name])]
    common = run_stages(path, config, [n for n in names if n not in of_face]) if found.people else {}
    for person in found.people:
        results = {FACES.name: crops_of(path, found.tracked, person.tracks, config.faces, detector, own=True)}
        for name in of_face[1:]:
            before = results[get_stage(name).upstream or FACES.name]
            if before.outcome.usable:
                results[name] = next(run_downstream(name, [before.arrays], config))
            else:
                results[name] = inherited(name, before.outcome)
        yield person, {name: (common | results)[name] for name in names}


def read_cached(config: Config, corpus: Corpus, clip: Clip) -> Features:
    """Read the features of a clip from the caches.

    Raises:
        CacheError: a configured stage of the corpus is not finished.
    """
    results: dict[str, StageResult] = {}
    for stage, index in read_indices(config, corpus).items():
        record = next(s for s in index.shards if any(row.id == clip.id for row in s.clips))
        shard = record.open(stage_folder(config.cache, corpus.name, stage, index.key))
        results[stage] = StageResult(shard.outcome(clip.id), shard.clip(clip.id))
    return _features(Path(corpus.root) / clip.path, results)


def read_indices(config: Config, corpus: Corpus) -> dict[str, StageIndex]:
    """Return the index of each configured stage.

    Raises:
        CacheError: one is not finished, or lacks clips of the corpus.
    """
    folders = {s: stage_folder(config.cache, corpus.name, s, r.key) for s, r in recipes(config).items()}
    indices = {stage: read_index(folder) for stage, folder in folders.items()}
    for stage, index in indices.items():
        if lacking := sorted({clip.id for clip in corpus.clips} - index.clips.keys()):
            raise CacheError(
                f"{folders[stage]} lacks {counted(len(lacking), 'clip')} of the corpus "
                f"({', '.join(lacking[:3])}{', ...' if len(lacking) > 3 else ''}), which came after "
                "preprocessing; run `deiii preprocess` with the same settings"
            )
    return indices


def _features(path: str | Path, results: Mapping[str, StageResult]) -> Features:
    """Return the results of stages as `Features`; arrays of stages without public names are in ``more``."""
    named: dict[str, np.ndarray] = {}
    more: dict[str, Mapping[str, np.ndarray]] = {}
    for name, result in results.items():
        stage, stored = get_stage(name), dict(result.arrays)
        public = {field: f.public for field, f in stage.fields.items() if f.public}
        if not public and stored:
            more[name] = stored
        if stored and stage.decode:
            stored[stage.large] = import_function(stage.decode)(stored)
        named |= {new: stored[field] for field, new in public.items() if field in stored}
    return Features(str(path), {name: r.outcome for name, r in results.items()}, **named, more=more)
