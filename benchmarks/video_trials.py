"""Score changes of a configuration on validation speakers, fold by fold; no test speaker is scored.

The trials are for emotional clips of few speakers and networks from scratch: flow of several frames in a
step, and augmentation of the crops. Every trial trains each fold once and takes the validation UAR of its
last epoch (``train.monitor=last``). Differences are those from the first trial, paired by fold, with a 95 % t
interval over folds. Finished runs are kept: run the command again to continue.

    python -m benchmarks.video_trials configs/emotional_av_scratch.yaml corpus.root=/clips --out trials.json
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import made_by
from deiii.data.config.load import result_settings
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.config.words import read_settings
from deiii.data.corpora.splits import make_split
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.tools.atomic_files import write_json
from deiii.model.evaluation.many_runs import finished, run_all, run_one
from deiii.model.intervals import mean_interval
from deiii.model.training.monitor import monitored
from deiii.model.training.run_folder import RunFolder

AUGMENTED = ["loader.zoom=0.15", "loader.rotate=10", "loader.erase=0.3"]
TRIALS: dict[str, list[str]] = {
    "as it is": [],
    "zoom 0.15 and rotation 10 degrees": AUGMENTED[:2],
    "zoom 0.15, rotation 10 degrees and erasing 0.3": AUGMENTED,
    "flow of 3 frames, summed": ["loader.flow_frames=3"],
    "flow of 6 frames, summed": ["loader.flow_frames=6"],
    "flow of 3 frames, stacked": ["loader.flow_frames=3", "loader.flow_join=stack"],
}


def trial_configs(
    settings: Sequence[str], trials: Mapping[str, Sequence[str]], folds: Sequence[int], folder: Path
) -> dict[tuple[str, int], Config]:
    """Return the settings of each run, keyed by trial and fold.

    Raises:
        ConfigError: an epoch would be chosen, or there is no validation speaker.
    """
    found = {}
    for name, words in trials.items():
        plain = re.sub(r"[^a-z0-9.]+", "_", name)
        for fold in folds:
            own = [f"split.fold={fold}", f"train.run={folder / f'{plain}-fold{fold}'}"]
            found[name, fold] = read_settings([*settings, *words, *own])
    first = next(iter(found.values()))
    if first.train.monitor != "last" or not first.split.val_share:
        raise ConfigError(
            "the last epoch is scored on validation speakers: set train.monitor=last, and split.val_share "
            "above 0"
        )
    return found


def validation_uar(config: Config) -> float:
    """Return the validation UAR of the last epoch of a finished run."""
    return float(monitored(RunFolder(config.train.run).read_history()[-1], "auto"))


def figures(uars: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Return mean and difference from the first trial of each trial's UARs, one for each fold."""
    base = np.array(next(iter(uars.values())))
    rows = []
    for name, own in uars.items():
        row: dict[str, Any] = {"trial": name, "uar": round(float(np.mean(own)), 4), "by_fold": own}
        if len(rows):
            gap = mean_interval((np.array(own) - base).tolist())
            row |= {"minus_first": round(float(np.mean(own) - base.mean()), 4)}
            row |= {"ci": None if gap is None else [round(x, 4) for x in gap]}
        rows.append(row)
    return rows


def work(args: argparse.Namespace, trials: Mapping[str, Sequence[str]], bench: str) -> None:
    """Train and score trials, and write the result.

    Args:
        args: parsed by `arguments`.
        trials: changed settings by name of the trial; the first one changes nothing.
        bench: name of the benchmark in the result.
    """
    folds = [int(fold) for fold in args.folds.split(",")]
    chosen = {name: words for name, words in trials.items() if args.only in name or not words}
    configs = trial_configs(args.settings, chosen, folds, args.folder)
    config = next(iter(configs.values()))
    features = FeatureSet.open(config)
    speaker = {clip.id: clip.speaker for clip in features.clips}
    people = {}
    for (_, fold), own in configs.items():
        clips = make_split(features.corpus, own.split).val
        people[str(fold)] = sorted({speaker[clip] for clip in clips if clip in speaker})
    result: dict[str, Any] = {
        "bench": bench, **made_by(), "settings": result_settings(config),
        "validation_speakers": people, "changes": chosen, "trials": [],
    }  # fmt: skip
    unscored = partial(run_one, scored=False)
    trained = partial(finished, scored=False)
    for (name, fold), seconds in run_all(configs, args.jobs, False, unscored, trained):
        uar = validation_uar(configs[name, fold])
        print(f"{name}, fold {fold}: validation UAR {uar:.3f}, {seconds:.0f} s", flush=True)
    uars = {name: [round(validation_uar(configs[name, fold]), 4) for fold in folds] for name in chosen}
    result["trials"] = figures(uars)
    for row in result["trials"]:
        gap = f"{row['minus_first']:+.3f} {row['ci']}" if "ci" in row else ""
        print(f"{row['uar']:.3f} {row['trial']} {gap}")
    if args.out:
        write_json(args.out, result)
    print("RESULT " + json.dumps(result))


def arguments(description: str, folder: str) -> argparse.Namespace:
    """Parse the command line: settings, folds, a folder for the runs and a file for the result."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", nargs="+", metavar="CONFIG or KEY=VALUE")
    parser.add_argument("--folds", default="0,1,2,3,4,5", help="folds, separated by commas")
    parser.add_argument(
        "--only", metavar="TEXT", default="", help="the first trial, and those with this name"
    )
    parser.add_argument("--folder", type=Path, default=Path(folder), help="folder of the runs")
    parser.add_argument("--jobs", type=int, default=0, help="runs at a time")
    parser.add_argument("--out", type=Path, help="JSON file for the result")
    return parser.parse_args()


def main() -> None:
    work(arguments(__doc__ or "", "runs/video_trials"), TRIALS, "video_trials")


if __name__ == "__main__":
    main()
