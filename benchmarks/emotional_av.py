"""Compare audio, video and both on emotional clips of few speakers, with one speaker left out in turn.

The settings name the inputs of both modalities: frozen encoders as in configs/emotional_av.yaml, or frames,
flow and log-mel for networks from scratch. Every variant is an ordinary ``deiii crossval`` with other inputs,
so runs that are finished are not repeated. Variants with ``loader.normalise=speaker`` use the unlabelled
clips of the test speaker and are reported apart; they also have the settings of ``--by-speaker``.
Intervals are 95 % t intervals over speakers and seeds; with six speakers they are wide. With
``mix_test=false``, corpora of ``mix`` that lack a modality are trained on, too; ``--inputs`` then names the
variants whose inputs they have.

    python -m benchmarks.emotional_av configs/emotional_av.yaml corpus.root=/clips --seeds 0,1,2,3,4
    python -m benchmarks.emotional_av configs/emotional_av.yaml ... --against runs/emotional_av_scratch
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import made_by
from deiii.data.tools.atomic_files import write_json
from deiii.data.tools.text.figure_text import number
from deiii.model.evaluation.predictions import read_predictions
from deiii.model.intervals import estimate

INPUTS = {
    "audio": ["model.video=[]"],
    "video": ["model.audio=[]", "model.within_logmel=false"],
    "both": [],
}
BY_SPEAKER = " by speaker"
DISCRIMINANT = "train.optimizer=discriminant train.epochs=1"


class Hits:
    """The clips that the networks of a cross-validation classify correctly.

    Args:
        folder: folder of ``deiii crossval``.
        seeds: seeds that count.

    Attributes:
        truth, speaker: [N] of the clips, in the order of their ids.
        hits: bool [seeds,N].

    Raises:
        ValueError: the folder has no predictions of a seed.
    """

    def __init__(self, folder: Path, seeds: Sequence[str]):
        found: dict[str, dict[str, tuple[str, str, bool]]] = {}
        files = [path for seed in seeds for path in sorted(folder.glob(f"fold*-seed{seed}/predictions.csv"))]
        for path in files:
            table = read_predictions(path)
            own = (without_corpus(table.clips), without_corpus(table.speakers))
            # Not the largest of the stored probabilities: their four decimals may be equal.
            rows = zip(*own, table.truth, table.predicted, strict=True)
            of_seed = found.setdefault(path.parent.name.split("seed")[1], {})
            of_seed |= {clip: (speaker, truth, truth == name) for clip, speaker, truth, name in rows if truth}
        if missing := [seed for seed in seeds if seed not in found]:
            raise ValueError(
                f"{folder} lacks the seeds {', '.join(missing)}: train them, or name others with --seeds"
            )
        self.clips = sorted(next(iter(found.values())))
        first = next(iter(found.values()))
        self.speaker = [first[c][0] for c in self.clips]
        self.truth = np.array([first[c][1] for c in self.clips])
        self.hits = np.array([[rows[c][2] for c in self.clips] for rows in found.values()])

    def recall(self, some: np.ndarray) -> list[float]:
        """Return the UAR over some clips, for each seed."""
        truth, hits = self.truth[some], self.hits[:, some]
        return [float(np.mean([own[truth == k].mean() for k in np.unique(truth)])) for own in hits]


def without_corpus(names: Sequence[str]) -> list[str]:
    """Return names of clips or speakers without the name of the corpus, which a mixture puts before them."""
    heads = {name.partition(":")[0] if ":" in name else "" for name in names}
    return [name.partition(":")[2] for name in names] if len(heads) == 1 and "" not in heads else list(names)


def of_speakers(hits: Hits) -> dict[str, float]:
    """Return the UAR of each test speaker, the mean of the seeds."""
    names = np.array(hits.speaker)
    rows = {str(name): np.flatnonzero(names == name) for name in np.unique(names)}
    return {name: round(float(np.mean(hits.recall(own))), 4) for name, own in rows.items()}


def interval(speakers: list[str], figures, limits: tuple[float, float] | None = None) -> list[float]:
    """Return the 95 % t interval over seeds and speakers, within limits if given; empty if there is none."""
    found = estimate(speakers, figures, limits, len(speakers))
    return [round(x, 4) for x in found.interval] if found else []


def gap(one: Hits, other: Hits) -> dict[str, Any]:
    """Return the mean difference of UAR, paired by seed and clip, and its interval.

    Raises:
        ValueError: the two have other clips, labels or numbers of seeds.
    """
    if one.clips != other.clips or len(one.hits) != len(other.hits):
        raise ValueError("the two have other clips or another number of seeds; train both with the same")
    if not np.array_equal(one.truth, other.truth):
        raise ValueError("the two have other labels of the same clips; train both with the same")

    def gaps(some: np.ndarray) -> list[float]:
        return [a - b for a, b in zip(one.recall(some), other.recall(some), strict=True)]

    mean = float(np.mean(gaps(np.arange(len(one.clips)))))
    return {"gap": round(mean, 4), "ci": interval(one.speaker, gaps)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", nargs="+", metavar="CONFIG or KEY=VALUE")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--folder", type=Path, default=Path("runs/emotional_av"))
    parser.add_argument("--levels", choices=("all", "clip"), default="all", help="clip: none by speaker")
    parser.add_argument(
        "--by-speaker",
        default=DISCRIMINANT,
        metavar="WORDS",
        help="further settings of the networks by speaker, with spaces between them (default: "
        f"'{DISCRIMINANT}', which had the best validation score; '' for the same as without)",
    )
    parser.add_argument("--inputs", default=",".join(INPUTS), help="variants, separated by commas")
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="of a finished run to compare with")
    parser.add_argument("--jobs", default="0", help="runs at a time")
    args = parser.parse_args()
    hits: dict[str, Hits] = {}
    seeds = args.seeds.split(",")
    if unknown := set(args.inputs.split(",")) - INPUTS.keys():
        parser.error(f"--inputs takes {', '.join(INPUTS)}, not {', '.join(sorted(unknown))}")
    chosen = {name: words for name, words in INPUTS.items() if name in args.inputs.split(",")}
    levels: dict[str, list[str]] = {"": []}
    if args.levels == "all":
        levels[BY_SPEAKER] = ["loader.normalise=speaker", *args.by_speaker.split()]
    for level, more in levels.items():
        for inputs, switches in chosen.items():
            folder = args.folder / f"{inputs}{level}".replace(" ", "_")
            words = [*args.settings, *switches, *more, f"train.run={folder}"]
            command = [
                sys.executable,
                "-m",
                "deiii",
                "crossval",
                *words,
                "--seeds",
                args.seeds,
                "--jobs",
                args.jobs,
            ]
            if status := subprocess.run(command, check=False).returncode:
                sys.exit(status)  # the command has printed the reason
            hits[inputs + level] = Hits(folder, seeds)
    everything = np.arange(len(next(iter(hits.values())).clips))
    result: dict[str, Any] = {"bench": "emotional_av", "seeds": args.seeds, **made_by()}
    for name, own in hits.items():
        uar = float(np.mean(own.recall(everything)))
        result[name] = {"uar": round(uar, 4), "ci": interval(own.speaker, own.recall, (0, 1))}
        result[name]["by_speaker"] = of_speakers(own)
        print(f"{name}: UAR {uar:.3f}, 95 % {result[name]['ci']}")
    pairs = [("both" + level, single + level) for level in levels for single in ("audio", "video")]
    compared = {
        f"{one} - {other}": gap(hits[one], hits[other]) for one, other in pairs if {one, other} <= hits.keys()
    }
    if args.against:
        for name, own in hits.items():
            if (folder := args.against / name.replace(" ", "_")).is_dir():
                compared[f"{name} - {name} of {args.against.name}"] = gap(own, Hits(folder, seeds))
    for name, found in compared.items():
        result[name] = found
        print(f"{name}: {number(found['gap'], '+')}, 95 % {found['ci']}")
    write_json(args.folder / "emotional_av.json", result)
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
