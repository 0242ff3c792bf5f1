"""Audio alone, video alone and both on emotional clips of few speakers: one speaker out, paired intervals.

Every variant is an ordinary ``deiii crossval`` of the given settings with other inputs, so runs that are
finished are not repeated. Variants with ``loader.normalise=speaker`` use the unlabelled clips of the test
speaker and are reported apart. Intervals are 95 % t intervals over speakers and seeds; with six speakers
they are wide.

    python -m benchmarks.emotional_av configs/emotional_av.yaml corpus.root=/clips --seeds 0,1,2,3,4
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from deiii.data.tools.atomic_files import write_json
from deiii.data.tools.machine import machine
from deiii.model.evaluation.predictions import read_predictions
from deiii.model.intervals import estimate

INPUTS = {
    "audio": ["model.audio=[speech]", "model.video=[]"],
    "video": ["model.audio=[]", "model.video=[appearance]", "model.within_logmel=false"],
    "both": ["model.audio=[speech]", "model.video=[appearance]"],
}
LEVELS = {"": [], " by speaker": ["loader.normalise=speaker"]}


class Hits:
    """Which clips the networks of a cross-validation classify correctly.

    Attributes:
        truth, speaker: [N] of the clips, in the order of their ids.
        hits: bool [seeds,N].
    """

    def __init__(self, folder: Path):
        found: dict[str, dict[str, tuple[str, str, bool]]] = {}
        for path in sorted(folder.glob("fold*-seed*/predictions.csv")):
            table = read_predictions(path)
            names = np.asarray(table.classes)[np.asarray(table.probabilities).argmax(axis=1)]
            rows = zip(table.clips, table.speakers, table.truth, names, strict=True)
            of_seed = found.setdefault(path.parent.name.split("seed")[1], {})
            of_seed |= {clip: (speaker, truth, truth == name) for clip, speaker, truth, name in rows}
        self.clips = sorted(next(iter(found.values())))
        first = next(iter(found.values()))
        self.speaker = [first[c][0] for c in self.clips]
        self.truth = np.array([first[c][1] for c in self.clips])
        self.hits = np.array([[rows[c][2] for c in self.clips] for rows in found.values()])

    def recall(self, some: np.ndarray) -> list[float]:
        """UAR over some clips, of each seed."""
        truth, hits = self.truth[some], self.hits[:, some]
        return [float(np.mean([own[truth == k].mean() for k in np.unique(truth)])) for own in hits]


def interval(speakers: list[str], figures) -> list[float]:
    found = estimate(speakers, figures)
    return [round(x, 4) for x in found.interval] if found else []


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", nargs="+", metavar="CONFIG or KEY=VALUE")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--folder", type=Path, default=Path("runs/emotional_av"))
    parser.add_argument("--jobs", default="0", help="runs at a time")
    args = parser.parse_args()
    hits: dict[str, Hits] = {}
    for level, more in LEVELS.items():
        for inputs, switches in INPUTS.items():
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
            subprocess.run(command, check=True)
            hits[inputs + level] = Hits(folder)
    everything = np.arange(len(next(iter(hits.values())).clips))
    result: dict = {"bench": "emotional_av", "seeds": args.seeds, "machine": machine()}
    for name, own in hits.items():
        uar = float(np.mean(own.recall(everything)))
        result[name] = {"uar": round(uar, 4), "ci": interval(own.speaker, own.recall)}
        print(f"{name}: UAR {uar:.3f}, 95 % {result[name]['ci']}")
    for level in LEVELS:
        both = hits["both" + level]
        for single in ("audio", "video"):
            other = hits[single + level]

            def gaps(some: np.ndarray, both: Hits = both, other: Hits = other) -> list[float]:
                return [a - b for a, b in zip(both.recall(some), other.recall(some), strict=True)]

            gap, name = float(np.mean(gaps(everything))), f"both - {single}{level}"
            result[name] = {"gap": round(gap, 4), "ci": interval(both.speaker, gaps)}
            print(f"{name}: {gap:+.3f}, 95 % {result[name]['ci']}")
    write_json(args.folder / "emotional_av.json", result)
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
