"""Compare two stored cross-validations by their predictions, paired by seed and clip.

Each folder holds ``predictions.tar.xz`` with ``predictions-fold<F>-seed<S>.csv`` of every run, as in
docs/results. Both must have the same clips and seeds; the name of a corpus that a mixture writes before all
clips and speakers does not count. UAR is over the clips of all folds: the mean over
seeds, and that of the probabilities averaged over seeds. Intervals are 95 % t intervals over seeds and
speakers, of averaged networks over speakers (`deiii.model.intervals`).

    python -m benchmarks.stored_gap docs/results/NEW docs/results/OLD
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deiii.data.tools.text.figure_text import number, span
from deiii.model.intervals import estimate


@dataclass(frozen=True)
class Stored:
    """Predictions of a cross-validation.

    Attributes:
        clips, speakers, truth: names, speakers and true classes of the N clips with a class, sorted by name.
        classes: names of the C classes.
        seeds: seeds of the S networks of each fold.
        predicted: names of the predicted classes, [S,N].
        probabilities: float64 [S,N,C], rounded as stored.
    """

    clips: list[str]
    speakers: np.ndarray
    truth: np.ndarray
    classes: list[str]
    seeds: list[str]
    predicted: np.ndarray
    probabilities: np.ndarray


def read(folder: Path) -> Stored:
    """Read the predictions of a stored cross-validation.

    Raises:
        ValueError: the archive has no predictions, or not those of the same clips for each seed.
        OSError: the archive cannot be read.
    """
    archive = folder / "predictions.tar.xz"
    rows: dict[str, dict[str, dict[str, str]]] = {}  # by seed and clip
    with tarfile.open(archive) as tar:
        for entry in tar:
            name = re.fullmatch(r"predictions-fold\d+-seed(\d+)\.csv", entry.name)
            stream = tar.extractfile(entry) if name else None
            if name and stream:
                text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
                own = {row["clip"]: row for row in csv.DictReader(text) if row["truth"]}
                rows.setdefault(name[1], {}).update(own)
    seeds = sorted(rows)
    if not seeds:
        raise ValueError(f"{archive} has no file predictions-fold<F>-seed<S>.csv")
    rows = {seed: _without_corpus(own) for seed, own in rows.items()}
    clips = sorted(rows[seeds[0]])
    for seed in seeds:
        if sorted(rows[seed]) != clips:
            raise ValueError(
                f"{archive}: seed {seed} does not have the clips of seed {seeds[0]}; a fold is missing"
            )
    first = [rows[seeds[0]][clip] for clip in clips]
    classes = [key.removeprefix("p_") for key in first[0] if key.startswith("p_")]
    table = [[[float(rows[seed][clip][f"p_{k}"]) for k in classes] for clip in clips] for seed in seeds]
    return Stored(
        clips,
        np.array([row["speaker"] for row in first]),
        np.array([row["truth"] for row in first]),
        classes,
        seeds,
        np.array([[rows[seed][clip]["predicted"] for clip in clips] for seed in seeds]),
        np.array(table),
    )


def _without_corpus(rows: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """Remove the name of the corpus from clips and speakers, where it is the same before all of them."""
    names = {text.partition(":")[0] + ":" for clip, row in rows.items() for text in (clip, row["speaker"])}
    if len(names) > 1:
        return rows
    (name,) = names
    return {
        clip.removeprefix(name): {**row, "speaker": row["speaker"].removeprefix(name)}
        for clip, row in rows.items()
    }


def gaps(one: Stored, other: Stored) -> dict[str, Any]:
    """Return the UAR of the first minus that of the second: mean over seeds, and averaged networks.

    Raises:
        ValueError: their clips, classes, seeds, speakers or true classes differ.
    """
    if (one.clips, one.classes, one.seeds) != (other.clips, other.classes, other.seeds):
        raise ValueError("both must have the same clips, classes and seeds to be paired")
    for what, mine, theirs in (
        ("speaker", one.speakers, other.speakers), ("true class", one.truth, other.truth)
    ):  # fmt: skip
        if len(odd := np.flatnonzero(mine != theirs)):
            raise ValueError(f"the two differ in the {what} of {one.clips[odd[0]]}, so they cannot be paired")
    names = np.array(one.classes)

    def averaged(stored: Stored) -> np.ndarray:
        return names[stored.probabilities.mean(axis=0, keepdims=True).argmax(axis=-1)]

    def recall(hits: np.ndarray, rows: np.ndarray) -> np.ndarray:
        of_class = [
            hits[:, rows[one.truth[rows] == name]].mean(axis=1) for name in np.unique(one.truth[rows])
        ]
        return np.mean(of_class, axis=0)

    result: dict[str, Any] = {"clips": len(one.clips), "seeds": one.seeds}
    for kind, guesses in {
        "mean": (one.predicted, other.predicted),
        "averaged": (averaged(one), averaged(other)),
    }.items():
        pair = [guess == one.truth for guess in guesses]
        everything = np.arange(len(one.clips))
        found = estimate(
            one.speakers, lambda rows, pair=pair: (recall(pair[0], rows) - recall(pair[1], rows)).tolist()
        )
        result[kind] = {
            "uar": [round(float(recall(hits, everything).mean()), 4) for hits in pair],
            "gap": round(float(recall(pair[0], everything).mean() - recall(pair[1], everything).mean()), 4),
            "ci": [round(x, 4) for x in found.interval] if found else None,
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("one", type=Path, help="folder with predictions.tar.xz")
    parser.add_argument("other", type=Path, help="folder to subtract")
    args = parser.parse_args()
    result = gaps(read(args.one), read(args.other))
    for kind, words in (("mean", "mean over seeds"), ("averaged", "probabilities averaged over seeds")):
        row = result[kind]
        interval = f"95 % {span(row['ci'], sign='+')}" if row["ci"] else "no interval"
        gap = number(row["gap"], "+")
        print(f"{words}: {row['uar'][0]:.3f} - {row['uar'][1]:.3f} = {gap}, {interval}")
    print("RESULT " + json.dumps({"bench": "stored_gap", **result}))


if __name__ == "__main__":
    main()
