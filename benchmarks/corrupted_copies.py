"""Compare training with and without corrupted copies, on corrupted test recordings, paired by clip.

One cross-validation trains on the clips alone, the other on the clips and on their copies (the setting
``copies``). Both score their test clips as they are, and with every corruption of ``--corrupt`` (`deiii
evaluate RUN --corrupt`). Intervals are 95 % t intervals over seeds and speakers. Finished runs and
corruptions are kept: run the command again to continue.

    deiii preprocess ravdess_speech corpus.root=/data/ravdess_speech "copies=[noise=15, noise=5]"
    python -m benchmarks.corrupted_copies ravdess_speech corpus.root=/data/ravdess_speech \\
        "copies=[noise=15, noise=5]" --corrupt noise=20 noise=10 noise=0 --seeds 0 --folder runs/noise
"""

from __future__ import annotations

import csv
import io
import json
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.run_tables import add_file, arguments, origin
from deiii.data.command_line.entry import Command, run
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.config.words import read_settings
from deiii.data.tools.atomic_files import atomic_path, write_json, write_text
from deiii.data.tools.text.figure_text import number, span
from deiii.model.evaluation.crossval import FoldSeed, crossval
from deiii.model.evaluation.predictions import PredictionTable, read_predictions
from deiii.model.intervals import PAIRED_FORM, estimate
from deiii.model.metrics import uar
from deiii.model.robustness.corrupted import evaluate_corrupted
from deiii.model.training.run_folder import RunFolder
from deiii.pipeline.corrupt.kinds import parse_corruptions

WITHOUT, WITH = "without copies", "with copies"
CLEAN = "none"


@dataclass(frozen=True)
class Answers:
    """Predicted classes of the clips of all folds.

    Attributes:
        names: text [N,4]: clip, speaker, true and predicted class.
        classes: names of the classes.
    """

    names: np.ndarray
    classes: Sequence[str]

    def numbers(self, column: int) -> np.ndarray:
        """Return the numbers of the classes of a column, int64 [N]; -1 without a class or a prediction."""
        number = {name: n for n, name in enumerate(self.classes)}
        return np.array([number.get(name, -1) for name in self.names[:, column]])


Tables = Mapping[str, Sequence[Answers]]  # key: corruption; one entry for each seed


def trained_tables(
    config: Config, folder: Path, words: Sequence[str], seeds: Sequence[int], jobs: int
) -> tuple[dict[str, list[Answers]], list[Path]]:
    """Train a cross-validation and score it with every corruption.

    Args:
        config: settings of the runs.
        folder: folder of the cross-validation.
        words: corruptions.
        seeds: seeds of the runs.
        jobs: number of trainings at the same time.

    Returns:
        the predictions by corruption, `CLEAN` among them, a table of all folds for each seed; and the runs.
    """
    config = replace(config, train=replace(config.train, run=str(folder)))
    report = crossval(config, seeds, None, jobs)
    folds = sorted({int(entry["fold"]) for entry in report["runs"]})
    runs = [folder / FoldSeed(fold, seed).name for seed in seeds for fold in folds]
    for path in runs:
        evaluate_corrupted(path, words)
    of_seeds = [[folder / FoldSeed(fold, seed).name for fold in folds] for seed in seeds]
    return scored_tables(of_seeds, words), runs


def scored_tables(runs: Sequence[Sequence[Path]], words: Sequence[str]) -> dict[str, list[Answers]]:
    """Return the stored predictions of runs that were scored with every corruption.

    Args:
        runs: the runs of all folds, for each seed.
        words: corruptions.

    Returns:
        the predictions by corruption, `CLEAN` among them; a table of all folds for each seed.
    """
    names = {CLEAN: "predictions.csv"}
    names |= {str(c): f"robustness/{c.name}.csv" for c in parse_corruptions(words)}
    return {
        corruption: [joined([read_predictions(path / name) for path in paths]) for paths in runs]
        for corruption, name in names.items()
    }


def joined(tables: Sequence[PredictionTable]) -> Answers:
    """Return the predictions of all folds, sorted by clip."""
    clips = [zip(t.clips, t.speakers, t.truth, t.predicted, strict=True) for t in tables]
    names = np.array(sorted(row for rows in clips for row in rows))
    return Answers(names, tables[0].classes)


def recalls(answers: Sequence[Answers], rows: np.ndarray) -> list[float]:
    """Return the UAR of some clips, for each seed; a clip without a prediction counts as wrong."""
    found = [uar(own.numbers(2)[rows], own.numbers(3)[rows]) for own in answers]
    return [value for value in found if value is not None]


def estimated(
    answers: Sequence[Answers],
    figures: Callable[[np.ndarray], list[float]],
    limits: tuple[float, float] | None = None,
) -> tuple[float, list[float] | None]:
    """Return the mean over seeds of a figure of the clips with a class, and its 95 % interval, if any.

    Args:
        answers: predictions for the same clips.
        figures: maps row numbers to the figure of each seed.
        limits: limits of the figure.

    Raises:
        ValueError: the predictions are for different clips.
    """
    first = answers[0].names[:, :3]
    if any(not np.array_equal(own.names[:, :3], first) for own in answers):
        raise ValueError(
            "the predictions to be paired are for different clips or other labels; remove the runs that were "
            "scored before the corpus or its features changed, and run the command again"
        )
    known = answers[0].numbers(2) >= 0
    found = estimate(first[:, 1], figures, limits, known=known)
    value = float(np.mean(figures(np.flatnonzero(known))))
    return round(value, 4), rounded((found.low, found.high)) if found else None


def collect(found: Mapping[str, Tables]) -> dict[str, Any]:
    """Return UAR and interval of each cross-validation and corruption, and the paired differences."""
    result: dict[str, Any] = {
        name: {corruption: own_recall(answers) for corruption, answers in tables.items()}
        for name, tables in found.items()
    }
    result["difference"] = {
        corruption: difference(found[WITH][corruption], without)
        for corruption, without in found[WITHOUT].items()
    }
    return result


def own_recall(answers: Sequence[Answers]) -> dict[str, Any]:
    """Return the UAR of all clips, mean over seeds, and its 95 % interval over seeds and speakers."""
    value, interval = estimated(answers, partial(recalls, answers), (0.0, 1.0))
    return {"uar": value, "ci": interval}


def difference(one: Sequence[Answers], other: Sequence[Answers]) -> dict[str, Any]:
    """Return the UAR of one minus that of the other, paired by seed and clip, and its 95 % interval."""

    def gaps(rows: np.ndarray) -> list[float]:
        return np.subtract(recalls(one, rows), recalls(other, rows)).tolist()

    value, interval = estimated([*one, *other], gaps)
    return {"gap": value, "ci": interval}


def rounded(interval: Sequence[float]) -> list[float]:
    """Return an interval with four decimals."""
    return [round(float(limit), 4) for limit in interval]


def markdown(result: Mapping[str, Any], notes: str) -> str:
    """Return the table of `collect` as Markdown."""
    lines = [
        "# Trained on corrupted copies, scored on corrupted recordings", "", notes, "",
        "| at test | without copies | 95 % | with copies | 95 % | difference, paired | 95 % |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for corruption in result[WITHOUT]:
        one, two, gap = (result[name][corruption] for name in (WITHOUT, WITH, "difference"))
        cells = [
            corruption, f"{one['uar']:.3f}", span(one["ci"]), f"{two['uar']:.3f}",
            span(two["ci"]), number(gap["gap"], "+"), span(gap["ci"], sign="+"),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def keep_predictions(tables: Tables, seeds: Sequence[int], path: Path) -> None:
    """Write every predicted class into a tar archive, ``<key>/seed0.csv`` for each key of the tables."""
    with atomic_path(path) as temporary, tarfile.open(temporary, "w:xz") as tar:
        for folder, of_seeds in tables.items():
            for seed, answers in zip(seeds, of_seeds, strict=True):
                text = io.StringIO()
                writer = csv.writer(text, lineterminator="\n")
                writer.writerow(["clip", "speaker", "truth", "predicted"])
                writer.writerows(answers.names.tolist())
                add_file(tar, f"{folder}/seed{seed}.csv", text.getvalue().encode())


def main() -> int:
    parser = arguments("corrupted_copies", __doc__)
    parser.add_argument(
        "--corrupt", nargs="+", required=True, metavar="KIND=VALUE", help="corruptions at test"
    )
    args = parser.parse_args()
    started = time.perf_counter()
    config = read_settings(args.settings)
    if not config.copies:
        raise ConfigError('name the copies to train on, such as "copies=[noise=15, noise=5]"')
    found, runs = {}, []
    for name, copies in ((WITHOUT, []), (WITH, config.copies)):
        folder = args.folder / name.replace(" ", "-")
        tables, own = trained_tables(
            replace(config, copies=copies), folder, args.corrupt, args.seeds, args.jobs
        )
        found[name], runs = tables, [*runs, *own]
    result = collect(found)
    about, words = origin(runs, args.seeds)
    about["runs"] = {f"{p.parent.name}/{p.name}": RunFolder(p).read_info().get("revision") for p in runs}
    clips = found[WITHOUT][CLEAN][0].names
    notes = (
        f"{len(clips)} test clips of {len(set(clips[:, 1]))} speakers, all folds; UAR of all clips, mean "
        f"over seeds; 95 % {about['interval']}, {PAIRED_FORM}. Copies: {', '.join(config.copies)}. {words}"
    )
    text = markdown(result, notes)
    write_json(args.folder / "table.json", about | {"copies": config.copies} | result)
    write_text(args.folder / "table.md", text)
    kept = {
        f"{name.replace(' ', '-')}/{corruption}": answers
        for name, own in found.items()
        for corruption, answers in own.items()
    }
    keep_predictions(kept, args.seeds, args.folder / "predictions.tar.xz")
    print(text)
    figures = {name: {c: row["uar"] for c, row in result[name].items()} for name in (WITHOUT, WITH)}
    seconds = round(time.perf_counter() - started)
    line = {"bench": "corrupted_copies", "seeds": args.seeds, **figures, "seconds": seconds}
    print("RESULT " + json.dumps(line))
    return 0


if __name__ == "__main__":
    raise SystemExit(run(lambda: Command(main)))
