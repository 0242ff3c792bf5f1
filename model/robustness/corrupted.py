"""Score a run on corrupted test recordings, from the media files through the stages of the run.

``RUN/robustness/`` receives ``<corruption>.csv`` (predictions), ``robustness.json``, ``robustness.csv`` and
``robustness.png``. The clean result, ``RUN/metrics.json``, stays as it is.

>>> evaluate_corrupted("runs/latest", ["noise=20", "noise=10", "noise=0"])     # doctest: +SKIP
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from deiii.data.cache.outcomes import Status
from deiii.data.cache.stages import FACES, get_stage, stage_of_stream
from deiii.data.config.load import to_yaml
from deiii.data.corpora.clips import Clip
from deiii.data.corpora.scan import copy_version
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.stage_arrays import StageLevels
from deiii.data.tools.atomic_files import file_sha256, write_json
from deiii.data.tools.counts import counted
from deiii.data.tools.machine import usable_cores
from deiii.data.tools.processes.main_guard import refuse_in_worker
from deiii.data.tools.progress import ProgressBar, progress_bar
from deiii.data.tools.row_times import end_of_rows
from deiii.data.tools.writer_lock import writer_lock
from deiii.model.evaluation.evaluate import now, open_features
from deiii.model.evaluation.predictions import PredictionTable, read_predictions, write_predictions
from deiii.model.evaluation.sections.ceiling import ceiling_lines
from deiii.model.intervals import PAIRED_FORM
from deiii.model.network.streams import enabled_streams
from deiii.model.prediction.loading import load
from deiii.model.prediction.predictor import Predictor
from deiii.model.prediction.result import HeadOutputs
from deiii.model.robustness.features import Made, Work, make_all, workers
from deiii.model.robustness.report import condition_figures, write_report
from deiii.model.scored_weights import own_members
from deiii.model.training.origin import require_test
from deiii.model.training.run_folder import RunError, RunFolder
from deiii.model.training.trained import load_network
from deiii.pipeline.corrupt.kinds import Corruption, CorruptionError, parse_corruptions
from deiii.pipeline.corrupt.write import NOWHERE, FaceBoxes

FOLDER = "robustness"
RESULT = "robustness.json"
MOST_NAMED = 4  # most clips that are named in warnings
# Outcomes of which the machine or the program may be the cause, and not the corruption.
FAILURES = frozenset({Status.FAILED, Status.MISSING, Status.TIMED_OUT, Status.OUT_OF_MEMORY})


def evaluate_corrupted(
    path: str | Path,
    words: Sequence[str],
    cache: str | None = None,
    device: str | None = None,
    again: bool = False,
    seed: int = 0,
    jobs: int = 0,
    progress: bool = True,
) -> tuple[dict[str, Any], Path]:
    """Score a run under corruptions; those that were scored before with these weights and seed are kept.

    Args:
        path: a run folder that was evaluated.
        words: corruptions (`deiii.pipeline.corrupt.kinds`).
        cache: folder that holds the feature caches now; that of the training if not given.
        device: device of the network.
        again: score all of them again.
        seed: seed of noise and places of rectangles.
        jobs: processes that decode, corrupt and run the stages; one for each core where 0.
        progress: whether to show a bar.

    Returns:
        what ``robustness.json`` holds, and the folder.

    Raises:
        CorruptionError: a corruption is unknown, or changes only a stream that the network does not read.
        RunError: the run was not evaluated or is an ensemble, or media files are missing.
        Locked: another process trains or scores the run.
    """
    refuse_in_worker()
    corruptions = parse_corruptions(words)
    run = RunFolder(path)
    run.read_info()
    if own_members(run.path):
        raise RunError(f"{run.path} is an ensemble; corruptions are scored for one run at a time")
    with writer_lock(run.path, wait=False):
        return _evaluate_corrupted(run, corruptions, cache, device, again, seed, jobs, progress)


def _evaluate_corrupted(
    run: RunFolder,
    corruptions: Sequence[Corruption],
    cache: str | None,
    device: str | None,
    again: bool,
    seed: int,
    jobs: int,
    progress: bool,
) -> tuple[dict[str, Any], Path]:
    """Score a run that no other process writes to."""
    require_test(run)
    metrics = run.read_metrics()  # refuses a run that was not evaluated, or whose weights changed
    raters = [f"{line}, without the corruption" for line in ceiling_lines(metrics.get("ceilings", {}))]
    trained = load_network(run.path)
    if cache is not None:
        trained.config.cache = cache
    features = open_features(run, trained.config, trained.task, dict(trained.info))
    clean = read_predictions(run.predictions)
    network = load(run.path, device or trained.config.train.device)
    _check_streams(network, corruptions)
    clips = _clips(features, clean)
    _check_media(features, clips, run)
    folder = run.path / FOLDER
    identity = {"seed": seed, "weights": file_sha256(run.best)}
    result = _earlier(folder / RESULT, identity)
    scored = {word for word, figures in result["conditions"].items() if not figures.get("failed")}
    kept = [] if again else [c for c in corruptions if str(c) in scored]
    todo = [c for c in corruptions if c not in kept]
    test = _Test(network, features, clips, clean, seed)
    folder.mkdir(exist_ok=True)
    bar = progress_bar(
        total=len(todo) * len(clips), desc="corrupted test clips", unit="clip", shown=progress and bool(todo)
    )
    with closing(bar), workers(min(jobs or usable_cores(), len(clips))) as pool:
        for corruption in todo:
            bar.set_postfix_str(str(corruption))
            table = test.predict(pool, corruption, bar)
            write_predictions(folder / f"{corruption.name}.csv", table)
            run.add_evaluation({"time": now(), "epoch": trained.epoch, "corruption": str(corruption)})
            figures = condition_figures(corruption, table, clean)
            figures |= {"copies": copy_version(corruption.kind), "failed": len(test.failed)}
            for clip, why in list(test.failed.items())[:MOST_NAMED]:
                print(f"warning: {corruption}: {clip}: {why}", file=sys.stderr)
            result["conditions"][str(corruption)] = figures
            result["notes"] = [*network.notes, *raters, *_failures(result["conditions"])]
            write_report(folder, result, clean)
            write_json(folder / RESULT, result)  # last: with it the corruption counts as scored
    return result, folder


@dataclass(frozen=True)
class _Test:
    """The test clips of a run, and its network.

    Attributes:
        network: the network with the settings of its stages.
        features: the clean features; the faces' boxes are taken from them.
        clips: rows of the feature set and clips, in the order of ``clean``.
        clean: the predictions of the evaluation.
        seed: seed of the random numbers.
        failed: clips of the last prediction of which a stage failed (`FAILURES`) that did not fail without
            the corruption: the reason by the clip's id.
    """

    network: Predictor
    features: FeatureSet
    clips: Sequence[tuple[int, Clip]]
    clean: PredictionTable
    seed: int
    failed: dict[str, str] = field(default_factory=dict)

    def predict(self, pool: Any, corruption: Corruption | None, bar: ProgressBar) -> PredictionTable:
        """Return the predictions under a corruption; a clip without a prediction has NaN and no class."""
        self.failed.clear()
        by_speaker = bool(self.network.by_speaker)
        probabilities = np.full(self.clean.probabilities.shape, np.nan)
        attributes = np.full(self.clean.attribute_predicted.shape, np.nan)
        speakers = dict.fromkeys(self.clean.speakers) if by_speaker else {"": None}
        for speaker in speakers:
            rows = [n for n, who in enumerate(self.clean.speakers) if not by_speaker or who == speaker]
            made: Iterable[Made] = self._made(pool, corruption, rows, bar)
            levels = None
            if by_speaker:
                made = kept = list(made)
                levels = self.network.levels_of([m.arrays for m in kept])
            for row, one in zip(rows, made, strict=True):
                found = self._score(one, levels)
                if found is not None:
                    if self.clean.classes:
                        probabilities[row] = found.probabilities["fused"][0]
                    if self.clean.attributes:
                        attributes[row] = found.attributes["fused"][0]
        predicted = tuple(
            "" if np.isnan(p).any() else self.clean.classes[int(p.argmax())] for p in probabilities
        ) if self.clean.classes else ()  # fmt: skip
        return replace(
            self.clean, predicted=predicted, probabilities=probabilities, attribute_predicted=attributes
        )

    def _made(
        self, pool: Any, corruption: Corruption | None, rows: Sequence[int], bar: ProgressBar
    ) -> Iterator[Made]:
        settings = to_yaml(self.network.config)
        works = []
        for n in rows:
            row, clip = self.clips[n]
            path = str(_root(self.features) / clip.path)
            faces = NOWHERE
            if corruption is not None and corruption.kind in ("blur", "occlude"):
                faces = self._faces(row)
            stages = tuple(self.network.stages)
            works.append(Work(path, clip.id, corruption, self.seed, settings, stages, faces))
        for n, made in zip(rows, make_all(pool, works), strict=True):
            bar.update()
            row, clip = self.clips[n]
            usable = self.features.arrays(row)
            for stage, outcome in made.outcomes.items():
                if outcome.status in FAILURES and stage in usable:
                    self.failed.setdefault(clip.id, f"{stage} {outcome.status} ({outcome.reason})")
            yield made

    def _faces(self, row: int) -> FaceBoxes:
        stored = self.features.arrays(row).get(FACES.name, {})
        if "box" not in stored or not len(stored["box"]):
            return NOWHERE
        return FaceBoxes(np.asarray(stored["time"]), np.asarray(stored["box"]))

    def _score(self, made: Made, levels: StageLevels | None) -> HeadOutputs | None:
        """Return the outputs for one whole clip; ``None`` where no input is usable."""
        if not made.arrays:
            return None
        seconds = max(end_of_rows(arrays["time"]) for arrays in made.arrays.values())
        hidden = set(self.network.config.split.hide)  # the same streams are hidden as from the clean clips
        found = self.network.scorer(made.arrays, [(0.0, seconds)], [hidden], levels)
        return found if found.present["fused"][0] else None


def _failures(conditions: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a note for each condition in which stages failed for some clips."""
    return [
        f"{word}: a stage failed for {counted(n, 'clip')}, not because of the corruption; the next run of "
        "the same command scores it again"
        for word, figures in conditions.items()
        if (n := figures.get("failed", 0))
    ]


def _check_streams(network: Predictor, corruptions: Sequence[Corruption]) -> None:
    """Refuse a corruption of a stream that the network does not read."""
    config = network.config
    shown = [name for name in enabled_streams(config.model) if name not in config.split.hide]
    read = {get_stage(stage_of_stream(name)).modality for name in shown}
    for corruption in corruptions:
        if corruption.about.stream and corruption.about.stream not in read:
            raise CorruptionError(
                f"{corruption}: the network reads no {corruption.about.stream}, so this changes nothing"
            )


def _clips(features: FeatureSet, clean: PredictionTable) -> list[tuple[int, Clip]]:
    """Return the row and clip of each prediction of the clean test."""
    place = {clip.id: (row, clip) for row, clip in enumerate(features.clips)}
    return [place[name] for name in clean.clips]


def _root(features: FeatureSet) -> Path:
    """Return the root of the tested clips; for a mixture, the root of the only corpus that is tested."""
    return Path((features.corpus.divided or features.corpus).root)


def _check_media(features: FeatureSet, clips: Sequence[tuple[int, Clip]], run: RunFolder) -> None:
    root = _root(features)
    missing = [clip.path for _, clip in clips if not (root / clip.path).is_file()]
    if missing:
        raise RunError(
            f"corruptions are made from the media files, but {len(missing)} of "
            f"{counted(len(clips), 'test file')} of {run.path} are not in {root}, such as {missing[0]}; put "
            "them there, where they were when they were preprocessed"
        )


def _earlier(path: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """Return the stored result of the same weights and seed, else an empty one.

    Conditions of which the copies are made in another way now are left out, with a note.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if all(stored[name] == value for name, value in identity.items()):
            conditions = stored["conditions"]
            stored["conditions"] = {
                word: figures
                for word, figures in conditions.items()
                if figures.get("copies", 1) == copy_version(figures["kind"])
            }
            if left := [word for word in conditions if word not in stored["conditions"]]:
                print(
                    f"note: {path} loses the results for {', '.join(left)} of an earlier version, because "
                    "copies of this kind are made in another way now; name it again to score it anew",
                    file=sys.stderr,
                )
            return stored
    except (OSError, ValueError, KeyError, TypeError):
        pass  # nothing was scored, or by other weights
    return {**identity, "conditions": {}, "interval_form": PAIRED_FORM}  # older results have no known form
