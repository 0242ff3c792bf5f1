"""Score the runs of a cross-validation on corrupted recordings, paired by clip with the clean ones.

The networks are not trained again: every run of the folder (``fold<F>-seed<S>``) is scored with each
corruption, as `deiii evaluate RUN --corrupt` does. UAR is that of the test clips of all folds together, the
mean over seeds. Intervals are 95 % t intervals over seeds and speakers. Corruptions that were scored before
are kept. ``table.md``, ``table.json`` and every prediction are written into ``--folder``.

    deiii crossval emotional_av_scratch corpus.root=/clips train.run=runs/scratch --seeds 0,1,2
    python -m benchmarks.corrupted_runs runs/scratch --seeds 0,1,2 --corrupt noise=20 noise=0 blur=2
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.corrupted_copies import CLEAN, Tables, difference, keep_predictions, own_recall, scored_tables
from benchmarks.run_tables import origin
from deiii.data.command_line.entry import Command, run
from deiii.data.tools.atomic_files import writable_folder, write_json, write_text
from deiii.data.tools.progress import progress_bar
from deiii.data.tools.text.figure_text import number, span
from deiii.model.intervals import PAIRED_FORM
from deiii.model.robustness.corrupted import evaluate_corrupted
from deiii.model.training.run_folder import RunError, RunFolder


def runs_of(folder: Path, seeds: Sequence[int]) -> dict[int, list[Path]]:
    """Return the runs of each seed, in the order of the folds.

    Raises:
        RunError: a seed has no run, or the seeds have different folds.
    """
    found = {seed: sorted(folder.glob(f"fold*-seed{seed}")) for seed in seeds}
    folds = {seed: [path.name.split("-")[0] for path in paths] for seed, paths in found.items()}
    if not all(folds.values()) or len({tuple(names) for names in folds.values()}) > 1:
        listed = "; ".join(f"seed {seed}: {', '.join(names) or 'none'}" for seed, names in folds.items())
        raise RunError(f"{folder} needs runs of the same folds for each seed (found: {listed}); see --seeds")
    return found


def collect(tables: Tables) -> dict[str, Any]:
    """Return UAR and interval of each corruption, and of its difference from the clean recordings.

    Args:
        tables: predictions keyed by corruption, `CLEAN` among them; an entry for each seed.
    """
    result = {corruption: own_recall(answers) for corruption, answers in tables.items()}
    for corruption, row in result.items():
        if corruption != CLEAN:
            found = difference(tables[corruption], tables[CLEAN])
            row |= {"gap": found["gap"], "gap_ci": found["ci"]}
    return result


def markdown(result: Mapping[str, Any], notes: str) -> str:
    """Return the table of `collect` as Markdown."""
    lines = [
        "# Scored on corrupted recordings", "", notes, "",
        "| corruption | UAR | 95 % | minus clean, paired | 95 % |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for corruption, row in result.items():
        gap = [number(row["gap"], "+"), span(row["gap_ci"], sign="+")] if "gap" in row else ["", ""]
        cells = [corruption, number(row["uar"]), span(row["ci"]), *gap]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main() -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m benchmarks.corrupted_runs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", type=Path, help="folder of the cross-validation")
    parser.add_argument(
        "--seeds", type=lambda t: [int(w) for w in t.split(",")], default=[0, 1, 2, 3, 4], metavar="0,1,2"
    )
    parser.add_argument(
        "--corrupt", nargs="+", required=True, metavar="KIND=VALUE", help="corruptions at test"
    )
    parser.add_argument("--folder", type=Path, default=Path("runs") / "corrupted_runs")
    args = parser.parse_args()
    started = time.perf_counter()
    found = runs_of(args.runs, args.seeds)
    writable_folder(args.folder)
    paths = [path for of_seed in found.values() for path in of_seed]
    with progress_bar(desc="runs", unit="run", total=len(paths)) as bar:
        for path in paths:
            evaluate_corrupted(path, args.corrupt)
            bar.update(1)
    tables = scored_tables(list(found.values()), args.corrupt)
    result = collect(tables)
    about, words = origin(paths, args.seeds)
    clips = tables[CLEAN][0].names
    config = RunFolder(paths[0]).read_config()
    notes = (
        f"{config.model.name} on {len(clips)} test clips of {len(set(clips[:, 1]))} speakers, all folds, "
        f"trained on clean clips; UAR of all clips, mean over seeds; 95 % {about['interval']}, "
        f"{PAIRED_FORM}. {words}"
    )
    text = markdown(result, notes)
    write_json(args.folder / "table.json", about | {"corruptions": result})
    write_text(args.folder / "table.md", text)
    keep_predictions(tables, args.seeds, args.folder / "predictions.tar.xz")
    print(text)
    seconds = round(time.perf_counter() - started)
    line = {"bench": "corrupted_runs", "seeds": args.seeds, "uar": {c: r["uar"] for c, r in result.items()}}
    print("RESULT " + json.dumps(line | {"seconds": seconds}))
    return 0


if __name__ == "__main__":
    raise SystemExit(run(lambda: Command(main)))
