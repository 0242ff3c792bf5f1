"""Measure the CCC of valence and arousal of the synthetic corpus on unseen speakers, by input stream.

Valence determines only the curve of the resting mouth; arousal determines the size of the tremor and the
loudness of the audio (to within 1 dB over a range of 12). Both are independent of the classes. Frames
alone can therefore predict valence but not arousal, audio alone arousal but not valence: a CCC far from 0
where nothing can be predicted indicates a leak. Finished runs are kept: run the command again to
continue. The tables, every prediction (``predictions.tar.xz``) and the last
validation figures (``validation.csv``) are written into runs/continuous.

    python -m benchmarks.continuous
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ablation_tasks import AUDIO_ONLY, FILES, FRAMES_ONLY, SETTINGS
from benchmarks.run_tables import arguments, column_kind, origin, pack_predictions
from deiii.data.command_line.entry import Command, run
from deiii.data.config.schema import Config
from deiii.data.config.words import read_settings
from deiii.data.corpora.scan import scan_corpus
from deiii.data.tools.atomic_files import write_json, write_text
from deiii.data.tools.machine import machine
from deiii.data.tools.text.csv_text import csv_text
from deiii.data.tools.text.figure_text import number, span
from deiii.model.evaluation.many_runs import run_all
from deiii.model.evaluation.predictions import read_predictions
from deiii.model.intervals import CCC_LIMITS, INTERVAL_FORM, estimate
from deiii.model.metrics import ccc
from deiii.model.training.run_folder import RunFolder
from deiii.pipeline.preprocess.graph import preprocess

NAMES = ("valence", "arousal")
# Predictable: valence from frames; arousal from flow or audio, not from single frames.
VARIANTS = {
    "full": ("frames, flow and audio", ()),
    "frames_only": ("frames alone", FRAMES_ONLY),
    "audio_only": ("audio alone", AUDIO_ONLY),
    # If it is also trained on arousal, which frames do not show, the network learns valence late or not at
    # all.
    "frames_valence": (
        "frames alone, trained on valence alone",
        (*FRAMES_ONLY, "model.attributes=[valence]"),
    ),
}
# With 4 steps and 20 epochs, as in the ablation, one seed of three learned valence, on validation speakers;
# with these settings three of five did.
TASK = (
    "model.attributes=[valence,arousal]", "model.classes=false", "loader.steps=8",
    "train.epochs=40", "train.patience=40",
)  # fmt: skip


def variant_config(folder: Path, variant: str, seed: int, extra: Sequence[str] = ()) -> Config:
    """Return the settings of one run."""
    own = [*VARIANTS[variant][1], f"train.seed={seed}", f"train.run={run_path(folder, variant, seed)}"]
    return read_settings([*FILES, *SETTINGS["cues"], *TASK, *extra, *own])


def run_path(folder: Path, variant: str, seed: int) -> Path:
    """Return the folder of a run."""
    return folder / f"{variant}-seed{seed}"


def figures(folder: Path, variant: str, seeds: Sequence[int]) -> dict[str, Any]:
    """Return mean and deviation of each CCC over seeds, and its interval over seeds and speakers.

    Raises:
        ValueError: the seeds were scored on different clips.
    """
    tables = []
    for seed in seeds:
        table = read_predictions(RunFolder(run_path(folder, variant, seed)).predictions)
        tables.append(table.select(np.argsort(table.clips)))
    if any(table.clips != tables[0].clips for table in tables):
        raise ValueError(f"the seeds of {variant} in {folder} were scored on different clips; run it again")
    speakers = tables[0].speakers
    found: dict[str, Any] = {"about": VARIANTS[variant][0], "clips": len(speakers)}
    for name in (n for n in NAMES if n in tables[0].attributes):
        pairs = [table.attribute_pair(name) for table in tables]
        truth, guess = np.array([t for t, _ in pairs]), np.array([g for _, g in pairs])
        by_seed = _each(truth, guess)
        found_ci = estimate(
            speakers, lambda rows, t=truth, g=guess: _each(t[:, rows], g[:, rows]).tolist(), CCC_LIMITS
        )
        found[name] = {
            "ccc": float(by_seed.mean()),
            "sd": float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else None,
            "ci": found_ci and found_ci.interval, "by_seed": dict(zip(seeds, by_seed.tolist(), strict=True)),
        }  # fmt: skip
    return found


def _each(truth_SN: np.ndarray, guess_SN: np.ndarray) -> np.ndarray:
    """Return the CCC of every seed, [S]; 0 where it is undefined, i.e. for a constant prediction."""
    return np.array([ccc(t, g) or 0.0 for t, g in zip(truth_SN, guess_SN, strict=True)])


def markdown(rows: dict[str, Any], notes: str) -> str:
    """Return the table as Markdown."""
    seeds = max(len(row[name]["by_seed"]) for row in rows.values() for name in NAMES if name in row)
    kind = f"{column_kind(seeds)}, {INTERVAL_FORM}"
    head = f"| input | CCC valence | sd over seeds | {kind} | CCC arousal | sd | 95 % |"
    lines = ["# Valence and arousal of the synthetic corpus", "", notes, "", head, "|---" * 7 + "|"]
    for row in rows.values():
        cells = [row["about"]]
        for name in NAMES:
            found = row.get(name)
            if found is None:
                cells += ["", "", ""]
                continue
            sd = "–" if found["sd"] is None else f"{found['sd']:.3f}"
            cells += [number(found["ccc"]), sd, span(found["ci"], "–", "+")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def validation(runs: Sequence[Path]) -> str:
    """Return the CCC of the validation speakers in the last epoch of each run, as CSV."""
    names = [f"val_ccc_{name}" for name in NAMES]
    last = [(run.name, RunFolder(run).read_history()[-1]) for run in runs]
    return csv_text([["run", *names], *([name, *(row.get(n, "") for n in names)] for name, row in last)])


def main() -> int:
    args = arguments("continuous", __doc__).parse_args()
    started = time.perf_counter()
    configs = {(v, s): variant_config(args.folder, v, s, args.settings) for s in args.seeds for v in VARIANTS}
    first = next(iter(configs.values()))
    preprocess(first, scan_corpus(first))
    for (variant, seed), seconds in run_all(configs, args.jobs):
        print(f"{variant} seed {seed} done; {seconds:.0f} s", flush=True)
    rows = {v: figures(args.folder, v, args.seeds) for v in VARIANTS}
    runs = [run_path(args.folder, v, s) for v, s in configs]
    about, notes = origin(runs, args.seeds)
    notes += f" {rows['full']['clips']} clips of unseen speakers."
    write_json(args.folder / "table.json", about | {"variants": rows})
    write_text(args.folder / "table.md", markdown(rows, notes))
    pack_predictions(args.folder / "predictions.tar.xz", runs)
    write_text(args.folder / "validation.csv", validation(runs))
    print(markdown(rows, notes))
    result = {"bench": "continuous", "seeds": args.seeds, "hardware": machine()}
    result |= {n: {v: round(r[n]["ccc"], 4) for v, r in rows.items() if n in r} for n in NAMES}
    result["seconds"] = round(time.perf_counter() - started)
    print("RESULT " + json.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(run(lambda: Command(main)))
