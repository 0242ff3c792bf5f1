"""The table of the comparison with peers: figures of finished runs, paired with DE-III's by seed and clip."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.peers_variants import BATCH_AXIS, CORRECTED, FIRST_NETWORK, Variant
from benchmarks.run_tables import add_file, fewer_seeds, origin, seeds_of
from deiii.data.config.load import load_stored, result_settings
from deiii.data.corpora.splits import Split
from deiii.data.tools.atomic_files import atomic_path, write_json, write_text
from deiii.data.tools.text.figure_text import number, p_value, span
from deiii.model.evaluation.crossval import FoldSeed
from deiii.model.evaluation.figures import FIRST, GRID, INK, SECOND, save_png
from deiii.model.evaluation.predictions import read_predictions
from deiii.model.evaluation.sections.all_runs import ceilings_of_runs
from deiii.model.evaluation.sections.ceiling import ceiling_lines
from deiii.model.intervals import PAIRED_FORM, Estimate, estimate, holm
from deiii.model.metrics import matrix_figures
from deiii.model.network.task import Task
from deiii.model.peers.match import count_parameters
from deiii.model.training.run_folder import RunFolder

READ_AS = (
    "UAR and WAR are over the clips of all folds, the mean over seeds; each interval is a {kind}, "
    f"{PAIRED_FORM}; that of a difference is paired by seed and clip; p-values are corrected by Holm's "
    "method for the number of all differences in the table. One recipe for all; nothing was tuned for one of "
    "them."
)
PRICE = "minus_batch_axis"  # key of VAVL's difference from itself with attention along the batch
HEAD = (
    "| network | width | parameters | UAR | 95 % | WAR | against DE-III | 95 %, paired | p, Holm | by seed |"
)


def pooled(variant: Variant, folds: Sequence[int], seeds: Sequence[int]) -> dict[int, dict[Any, tuple]]:
    """Return true and predicted class of each test clip (fold, speaker, id), keyed by finished seed."""
    found: dict[int, dict[Any, tuple]] = {}
    for seed in seeds:
        runs = [RunFolder(Path(variant.config.train.run) / FoldSeed(fold, seed).name) for fold in folds]
        if all((r.path / variant.file).exists() and r.metrics_json.exists() for r in runs):
            rows: dict[Any, tuple] = {}
            for fold, own in zip(folds, runs, strict=True):
                table = read_predictions(own.path / variant.file)
                for speaker, clip, *pair in zip(
                    table.speakers, table.clips, table.truth, table.predicted, strict=True
                ):
                    rows[fold, speaker, clip] = tuple(pair)
            found[seed] = {key: pair for key, pair in rows.items() if pair[0]}
    return found


class Confusions:
    """UAR and WAR of every seed over some of the clips.

    Args:
        found: what `pooled` returned, for the seeds that count.
        clips: their order.
        classes: class names.
    """

    def __init__(
        self, found: Mapping[int, Mapping[Any, tuple]], clips: Sequence[Any], classes: Sequence[str]
    ):
        number = {name: i for i, name in enumerate(classes)}
        self.classes = len(classes)
        self.cells = np.array(
            [[number[own[c][0]] * self.classes + number[own[c][1]] for c in clips] for own in found.values()]
        )

    def figure(self, name: str, rows: np.ndarray) -> list[float]:
        """Return ``uar`` or ``war`` of each seed over the rows."""
        size = self.classes
        counts = (np.bincount(cells[rows], minlength=size * size).reshape(size, size) for cells in self.cells)
        return [matrix_figures(own)[name] for own in counts]


def collect(
    found: Sequence[Variant], folds: Sequence[int], seeds: Sequence[int], task: Task
) -> dict[str, dict[str, Any]]:
    """Return the figures of the finished variants, with the difference from DE-III where that is finished."""
    data = {v.name: pooled(v, folds, seeds) for v in found}
    rows: dict[str, dict[str, Any]] = {}
    for variant in (v for v in found if data[v.name]):
        own = data[variant.name]
        clips = sorted(next(iter(own.values())))
        confusion = Confusions(own, clips, task.classes)
        speakers = [speaker for _, speaker, _ in clips]
        uar, war = (confusion.figure(name, np.arange(len(clips))) for name in ("uar", "war"))
        interval = estimate(speakers, partial(confusion.figure, "uar"), (0.0, 1.0), len(clips))
        rows[variant.name] = {
            "about": variant.about, "network": variant.config.model.name,
            "width": variant.config.model.width,
            "parameters": count_parameters(variant.config, task), "uar": float(np.mean(uar)),
            "war": float(np.mean(war)), "uar_ci": interval and interval.interval,
            "by_seed": dict(zip(own, uar, strict=True)), "clips": len(clips),
            "speakers": len(set(speakers)),
        }  # fmt: skip
        if variant.name != FIRST_NETWORK and (
            gap := difference(own, data.get(FIRST_NETWORK, {}), task.classes)
        ):
            rows[variant.name] |= {"gap": gap.value, "gap_ci": gap.interval, "p": gap.p}
    if {CORRECTED, BATCH_AXIS} <= rows.keys():
        price = difference(data[CORRECTED], data[BATCH_AXIS], task.classes)
        if price:
            seeds_of_both = rows[CORRECTED]["by_seed"].keys() & rows[BATCH_AXIS]["by_seed"].keys()
            uars = [rows[name]["by_seed"] for name in (CORRECTED, BATCH_AXIS)]
            rows[CORRECTED][PRICE] = {
                "gap": price.value, "gap_ci": price.interval, "p": price.p,
                "by_seed": {seed: uars[0][seed] - uars[1][seed] for seed in sorted(seeds_of_both)},
            }  # fmt: skip
    # One table is one family of tests: a difference that is not from DE-III counts, too.
    tested = [row for row in rows.values() if "p" in row]
    tested += [row[PRICE] for row in rows.values() if PRICE in row]
    for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p_holm"] = p
    return rows


def difference(
    own: Mapping[int, Mapping[Any, tuple]], first: Mapping[int, Mapping[Any, tuple]], classes: Sequence[str]
) -> Estimate | None:
    """Return the difference in UAR from the first network, paired by seed and clip, if there are pairs."""
    seeds = sorted(set(own) & set(first))
    if not seeds:
        return None
    clips = sorted(first[seeds[0]])
    a, b = (Confusions({s: data[s] for s in seeds}, clips, classes) for data in (own, first))

    def gaps(rows: np.ndarray) -> list[float]:
        return [x - y for x, y in zip(a.figure("uar", rows), b.figure("uar", rows), strict=True)]

    return estimate([speaker for _, speaker, _ in clips], gaps)


def markdown(rows: Mapping[str, Mapping[str, Any]], notes: str) -> str:
    """Return the table as Markdown."""
    lines = ["# DE-III and its peers", "", notes, "", HEAD, "|---" * HEAD.count(" | ") + "|---|"]
    for name, row in rows.items():
        seeds = ", ".join(f"{v:.3f}" for v in row["by_seed"].values())
        cells = [
            f"`{name}`: {row['about']}", str(row["width"]), f"{row['parameters']:,}", f"{row['uar']:.3f}",
            span(row["uar_ci"]), f"{row['war']:.3f}", number(row["gap"], "+") if "gap" in row else "",
            span(row.get("gap_ci"), sign="+"), p_value(row.get("p_holm")), seeds,
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    for name, price in ((name, row[PRICE]) for name, row in rows.items() if PRICE in row):
        what = f"*`{name}` minus `{BATCH_AXIS}`, both in batches: the price of the batch axis*"
        seeds = ", ".join(number(v, "+") for v in price["by_seed"].values())
        cells = [
            what, "", "", "", "", "", number(price["gap"], "+"), span(price["gap_ci"], sign="+"),
            p_value(price["p_holm"]), seeds,
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def draw_figure(rows: Mapping[str, Mapping[str, Any]], chance: float) -> Figure:
    """Draw UAR with its interval, every seed as a dot, beside the paired difference from DE-III."""
    figure = Figure(figsize=(9.5, 0.38 * len(rows) + 1.3), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.3, 1))
    for y, row in enumerate(rows.values()):
        colour = FIRST if y == 0 else SECOND
        if row["uar_ci"]:
            left.plot(row["uar_ci"], [y, y], color=colour, lw=2)
        left.plot(list(row["by_seed"].values()), [y] * len(row["by_seed"]), "o", color=INK, ms=3)
        left.plot(row["uar"], y, "D", color=colour, ms=6)
        if "gap" in row:
            right.plot(row["gap_ci"], [y, y], color=colour, lw=2)
            right.plot(row["gap"], y, "D", color=colour, ms=6)
    left.axvline(chance, color=INK, lw=0.8, ls=":")
    right.axvline(0.0, color=FIRST, lw=1)
    names = [f"{row['about']}\n{row['parameters']:,} parameters" for row in rows.values()]
    left.set_yticks(range(len(rows)), names, fontsize=7.5)
    left.set_ylim(len(rows) - 0.5, -0.5)
    left.set_xlabel("UAR on unseen speakers (dots: seeds; dotted: chance)", fontsize=8.5)
    right.xaxis.set_major_locator(MaxNLocator(5))  # with more, labels such as -0.025 would touch
    right.set_xlabel("difference from DE-III, paired (95 %)", fontsize=8.5)
    for axes in (left, right):
        axes.grid(axis="x", color=GRID, lw=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(axis="x", labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def keep_predictions(found: Sequence[Variant], pairs: Sequence[FoldSeed], folder: Path) -> None:
    """Write the predictions of the table, splits and the settings of each variant into ``peers.tar.xz``.

    Args:
        found: the rows of the table.
        pairs: its folds and seeds; the folder may hold runs of others.
        folder: receives the archive.
    """
    names = sorted(pair.name for pair in pairs)
    with atomic_path(folder / "peers.tar.xz") as temporary, tarfile.open(temporary, "w:xz") as tar:
        for variant in found:
            base = Path(variant.config.train.run)
            for path in (base / name / variant.file for name in names):
                if not path.exists():
                    continue
                add_file(tar, f"{variant.name}/{path.parent.name}.csv", path.read_bytes())
            if variant.trained and (some := sorted(base.glob("fold*-seed*/config.yaml"))):
                settings = result_settings(load_stored(some[0]))  # without the folders of this machine
                add_file(tar, f"{variant.name}/settings.json", json.dumps(settings, indent=1).encode())
        for path in sorted(Path(found[0].config.train.run).glob("splits/fold*.json")):
            add_file(tar, f"splits/{path.name}", path.read_bytes())


def write_tables(
    found: Sequence[Variant],
    rows: Mapping[str, Any],
    folds: Sequence[int],
    seeds: Sequence[int],
    task: Task,
    missing: Sequence[str] = (),
) -> str:
    """Write ``table.md``, ``table.json``, ``peers.png`` and ``peers.tar.xz``; returns the table.

    Args:
        found: the rows of the table.
        rows: what `collect` returned.
        folds, seeds, task: what was compared.
        missing: sentences on rows that were left out.
    """
    folder = Path(found[0].config.train.run).parent
    first = Path(found[0].config.train.run)
    pairs = [FoldSeed(fold, seed) for seed in seeds for fold in folds]
    runs = [Path(v.config.train.run) / pair.name for v in found if v.trained for pair in pairs]
    runs = [path for path in runs if RunFolder(path).metrics_json.exists()]
    about, notes = origin(runs, seeds_of(rows))
    about["runs"] = {f"{p.parent.name}/{p.name}": RunFolder(p).read_info().get("revision") for p in runs}
    info = RunFolder(first / pairs[0].name).read_info()
    splits = {f: Split.load(RunFolder(first / FoldSeed(f, seeds[0]).name).split) for f in folds}
    about |= {
        "corpus": info["corpus"], "classes": list(task.classes), "protocol": splits[folds[0]].protocol,
        "splits": {str(f): {"digest": s.digest, "test": list(s.speakers("test"))} for f, s in splits.items()},
        "keys": info["keys"],
    }  # fmt: skip
    counts = f"{rows[FIRST_NETWORK]['clips']} test clips of {rows[FIRST_NETWORK]['speakers']} speakers"
    read_as = READ_AS.format(kind=about["interval"])
    notes = f"Corpus {info['corpus']}, {len(folds)} folds, {counts}. {notes} {read_as}"
    notes += fewer_seeds(rows)
    scored = [RunFolder(first / FoldSeed(f, seeds[0]).name) for f in folds]
    metrics = [run.read_metrics() for run in scored if run.metrics_json.exists()]
    notes += "".join(f" {line}, mean over folds." for line in ceiling_lines(ceilings_of_runs(metrics)))
    notes += "".join(f" `{name}` {words}." for name, _, words in (text.partition(" ") for text in missing))
    text = markdown(rows, " ".join(notes.split()))
    write_json(folder / "table.json", about | {"networks": rows, "left_out": list(missing)})
    write_text(folder / "table.md", text)
    save_png(draw_figure(rows, 1 / len(task.classes)), folder / "peers.png")
    keep_predictions(found, pairs, folder)
    return text
