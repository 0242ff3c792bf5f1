"""DE-III and its peers with one recipe: every fold and seed, paired intervals, numbers of parameters.

Every network (docs/peers.md) is an ordinary ``deiii crossval`` of the given settings with another
``model.name``: the same caches, splits, batches, augmentation, losses, number of epochs and choice of the
epoch on validation speakers. Nothing is tuned for one of them. Test speakers are scored once. Finished runs
are kept: run the command again to continue.

UAR and WAR are over the clips of all folds, the mean over seeds. Intervals are 95 % t intervals over seeds
and speakers, of a difference paired by seed and clip (`deiii.model.intervals`); p-values are corrected for
the number of networks that are compared with DE-III (Holm). With ``--match``, each peer is also trained at
the width at which it has about as many parameters as DE-III.

VAVL is trained twice: as its paper describes it, and with ``model.batch_axis=true`` as its published code
runs. The latter's predictions depend on which clips share a batch, so it is also scored one clip at a time.

    python -m benchmarks.peers configs/ravdess_audio.yaml corpus.root=/data/ravdess --seeds 0,1
    python -m benchmarks.peers configs/synthetic.yaml configs/tiny.yaml --only late,mbt --folds 0 --match
"""

from __future__ import annotations

import io
import json
import tarfile
import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from benchmarks.ablation import arguments, origin
from deiii.data.cache.identity import find_corpus
from deiii.data.command_line.entry import Command, run
from deiii.data.config.load import load_stored, result_settings
from deiii.data.config.networks import check_network, described, network_names
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.config.words import read_settings
from deiii.data.corpora.splits import Split, number_of_folds
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.tools.atomic_files import atomic_path, write_json, write_text
from deiii.data.tools.machine import machine
from deiii.data.tools.progress import progress_bar
from deiii.model.evaluation.crossval import FoldSeed, crossval
from deiii.model.evaluation.figures import FIRST, GRID, INK, SECOND, save_png
from deiii.model.evaluation.predictions import read_predictions, write_predictions
from deiii.model.evaluation.results import prediction_table
from deiii.model.intervals import Estimate, estimate, holm
from deiii.model.metrics import matrix_figures
from deiii.model.network.task import Task
from deiii.model.peers.match import count_parameters, matched_width
from deiii.model.training.loaders import make_loader
from deiii.model.training.run_folder import RunFolder
from deiii.model.training.scoring import in_full_precision, score
from deiii.model.training.trained import load_network

FIRST_NETWORK = "deiii"
BATCH_AXIS = "vavl-batch-axis"  # VAVL as its published code runs
MATCHED = "-matched"  # at the width with DE-III's number of parameters
ALONE = "-alone"  # scored one clip at a time
ALONE_FILE = "predictions-alone.csv"
READ_AS = (
    "UAR and WAR are over the clips of all folds, the mean over seeds; intervals are t intervals over seeds "
    "and speakers, of a difference paired by seed and clip; p-values are corrected by Holm's method. One "
    "recipe for all; nothing was tuned for one of them."
)
HEAD = (
    "| network | width | parameters | UAR | 95 % | WAR | against DE-III | 95 %, paired | p, Holm | by seed |"
)


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Attributes:
        name: name of its folder.
        about: description in words.
        config: settings of its cross-validation; ``train.run`` is its folder.
        file: name of the file with its runs' predictions.
        trained: whether it is trained, or another variant's networks are scored in another way.
    """

    name: str
    about: str
    config: Config
    file: str = "predictions.csv"
    trained: bool = True


def variants(base: Config, folder: Path, only: Sequence[str], task: Task, match: bool) -> list[Variant]:
    """Return the rows of the table, DE-III first.

    Args:
        base: the settings that all networks share.
        folder: holds a folder for each.
        only: networks, `BATCH_AXIS` among them; DE-III is always there.
        task: what all predict.
        match: whether to add each peer at the width with DE-III's number of parameters.

    Raises:
        ConfigError: a network is not known, or the settings do not fit one.
    """
    known = [*network_names(), BATCH_AXIS]
    if unknown := [name for name in only if name not in known]:
        raise ConfigError(f"--only names {', '.join(unknown)}; the networks are {', '.join(known)}")
    found: list[Variant] = []
    for name in (n for n in known if n == FIRST_NETWORK or n in only):
        own = deepcopy(base)
        own.model.name = "vavl" if name == BATCH_AXIS else name
        own.model.batch_axis = name == BATCH_AXIS
        own.model.time_match = own.model.time_match and name == FIRST_NETWORK
        own.train.run = str(folder / name)
        check_network(own.model)
        title = described(own.model.name)[0]
        about = f"{title} along the batch, as published" if name == BATCH_AXIS else title
        found.append(Variant(name, about, own))
        if name == BATCH_AXIS:
            found.append(Variant(name + ALONE, f"{about}; one clip at a time", own, ALONE_FILE, False))
        if match and name != FIRST_NETWORK:
            wide = deepcopy(own)
            wide.model.width = matched_width(own, task)
            wide.train.run = str(folder / (name + MATCHED))
            found.append(Variant(name + MATCHED, f"{about}; width matched", wide))
    return found


def pooled(variant: Variant, folds: Sequence[int], seeds: Sequence[int]) -> dict[int, dict[Any, tuple]]:
    """By seed, true and predicted class of each test clip (fold, speaker, id); finished seeds only."""
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
    tested = [row for row in rows.values() if "p" in row]
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


def score_alone(variant: Variant, folds: Sequence[int], seeds: Sequence[int]) -> None:
    """Write the predictions of finished runs with one clip in each batch; those that exist stay."""
    pairs = [FoldSeed(fold, seed) for seed in seeds for fold in folds]
    runs = [RunFolder(Path(variant.config.train.run) / pair.name) for pair in pairs]
    todo = [r for r in runs if r.metrics_json.exists() and not (r.path / variant.file).exists()]
    if not todo:
        return
    features = FeatureSet.open(variant.config, whole=True)
    with progress_bar(total=len(todo), desc=variant.name, unit="run") as bar:
        for own in todo:
            trained = load_network(own.path)
            trained.config.loader.batch = 1
            rows = features.rows(Split.load(own.split).test)
            cpu = torch.device("cpu")
            loader = make_loader(features, rows, trained.config, cpu, training=False)
            found = score(trained.network, loader.epoch(0), cpu, in_full_precision(trained.config.train))
            write_predictions(own.path / variant.file, prediction_table(found, features, trained.task))
            bar.update()


def markdown(rows: Mapping[str, Mapping[str, Any]], notes: str) -> str:
    """Return the table as Markdown."""
    lines = ["# DE-III and its peers", "", notes, "", HEAD, "|---" * HEAD.count(" | ") + "|---|"]
    for name, row in rows.items():
        seeds = ", ".join(f"{v:.3f}" for v in row["by_seed"].values())
        cells = [
            f"`{name}`: {row['about']}", str(row["width"]), f"{row['parameters']:,}", f"{row['uar']:.3f}",
            _span(row["uar_ci"], ""), f"{row['war']:.3f}", f"{row['gap']:+.3f}" if "gap" in row else "",
            _span(row.get("gap_ci"), "+"), _p(row.get("p_holm")), seeds,
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _span(interval: Sequence[float] | None, sign: str) -> str:
    return f"{interval[0]:{sign}.3f} to {interval[1]:{sign}.3f}" if interval else ""


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


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
    right.set_xlabel("difference from DE-III, paired (95 %)", fontsize=8.5)
    for axes in (left, right):
        axes.grid(axis="x", color=GRID, lw=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(axis="x", labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def keep_predictions(found: Sequence[Variant], folder: Path) -> None:
    """Write all predictions, splits and the settings of each variant into ``peers.tar.xz``."""
    with atomic_path(folder / "peers.tar.xz") as temporary, tarfile.open(temporary, "w:xz") as tar:
        for variant in found:
            base = Path(variant.config.train.run)
            for path in sorted(base.glob(f"fold*-seed*/{variant.file}")):
                _add(tar, f"{variant.name}/{path.parent.name}.csv", path.read_bytes())
            if variant.trained and (some := sorted(base.glob("fold*-seed*/config.yaml"))):
                settings = result_settings(load_stored(some[0]))  # without the folders of this machine
                _add(tar, f"{variant.name}/settings.json", json.dumps(settings, indent=1).encode())
        for path in sorted(Path(found[0].config.train.run).glob("splits/fold*.json")):
            _add(tar, f"splits/{path.name}", path.read_bytes())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def write_tables(
    found: Sequence[Variant], rows: Mapping[str, Any], folds: Sequence[int], seeds: Sequence[int], task: Task
) -> str:
    """Write ``table.md``, ``table.json``, ``peers.png`` and ``peers.tar.xz``; returns the table."""
    folder = Path(found[0].config.train.run).parent
    first = Path(found[0].config.train.run)
    pairs = [FoldSeed(fold, seed) for seed in seeds for fold in folds]
    runs = [Path(v.config.train.run) / pair.name for v in found if v.trained for pair in pairs]
    runs = [path for path in runs if RunFolder(path).metrics_json.exists()]
    about, notes = origin(runs, seeds)
    about["runs"] = {f"{p.parent.name}/{p.name}": RunFolder(p).read_info().get("revision") for p in runs}
    info = RunFolder(first / pairs[0].name).read_info()
    splits = {f: Split.load(RunFolder(first / FoldSeed(f, seeds[0]).name).split) for f in folds}
    about |= {
        "corpus": info["corpus"], "classes": list(task.classes), "protocol": splits[folds[0]].protocol,
        "splits": {str(f): {"digest": s.digest, "test": list(s.speakers("test"))} for f, s in splits.items()},
        "keys": info["keys"],
    }  # fmt: skip
    counts = f"{rows[FIRST_NETWORK]['clips']} test clips of {rows[FIRST_NETWORK]['speakers']} speakers"
    notes = f"Corpus {info['corpus']}, {len(folds)} folds, {counts}. {notes} {READ_AS}"
    text = markdown(rows, " ".join(notes.split()))
    write_json(folder / "table.json", about | {"networks": rows})
    write_text(folder / "table.md", text)
    save_png(draw_figure(rows, 1 / len(task.classes)), folder / "peers.png")
    keep_predictions(found, folder)
    return text


def main() -> int:
    parser = arguments("peers", __doc__)
    parser.add_argument("--folds", type=lambda t: [int(w) for w in t.split(",")], help="default: all")
    parser.add_argument(
        "--only", type=lambda t: t.split(","), default=[*network_names(), BATCH_AXIS],
        metavar="late,mbt", help="networks beside DE-III; default: all",
    )  # fmt: skip
    parser.add_argument("--match", action="store_true", help="also at the width with DE-III's parameters")
    parser.add_argument("--tables", action="store_true", help="train nothing; write the tables")
    args = parser.parse_args()
    started = time.perf_counter()
    base = read_settings(args.settings)
    features = FeatureSet.open(base)
    task = Task.of(features, base)
    if not task.classes:
        raise ConfigError("this comparison is of classes; switch model.classes on")
    corpus = features.corpus if base.mix else find_corpus(base)
    folds = args.folds or list(range(number_of_folds(corpus, base.split)))
    found = variants(base, args.folder, args.only, task, args.match)
    for variant in found:
        print(f"{variant.name}: {count_parameters(variant.config, task):,} parameters", flush=True)
    for variant in [] if args.tables else found:
        if variant.trained:
            print(f"{variant.name}: {variant.about}", flush=True)
            crossval(variant.config, args.seeds, folds, args.jobs)
        else:
            score_alone(variant, folds, args.seeds)
    rows = collect(found, folds, args.seeds, task)
    if FIRST_NETWORK not in rows:
        print("nothing has been trained yet")
        return 1
    print(write_tables(found, rows, folds, args.seeds, task))
    result: dict[str, Any] = {"bench": "peers", "corpus": features.corpus.name, "seeds": args.seeds}
    result["networks"] = {
        name: {
            key: round(row[key], 4) if isinstance(row[key], float) else row[key]
            for key in ("uar", "war", "parameters", "gap", "p_holm")
            if key in row
        }
        for name, row in rows.items()
    }
    result |= {"machine": machine(), "seconds": round(time.perf_counter() - started)}
    print("RESULT " + json.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(run(lambda: Command(main)))
