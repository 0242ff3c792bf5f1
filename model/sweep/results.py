"""Results of a sweep: the score of each setting, a table, a picture and the best settings as YAML."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from deiii.data.cache.recipes import stage_keys
from deiii.data.config.load import result_settings
from deiii.data.config.schema import Config
from deiii.data.tools.atomic_files import write_json, write_text
from deiii.data.tools.counts import counted
from deiii.data.tools.pictures import figure_text
from deiii.data.tools.text.canonical_json import canonical_json
from deiii.model.evaluation.figures import FIRST, GRID, INK, SECOND, save_png, show_spines
from deiii.model.scored_weights import is_untested
from deiii.model.sweep.space import Axis, quoted, text
from deiii.model.training.monitor import known_monitor, monitored
from deiii.model.training.run_folder import RunFolder

FAILED = "failed.json"  # file in the folder of a run that cannot be trained
SCORES = {"uar": "validation UAR", "ccc": "validation CCC", "loss": "negated validation loss"}
LETTER_IN = 0.07  # inches; width of a letter of the picture's title, rounded up


@dataclass(frozen=True)
class Trial:
    """One combination of settings.

    Attributes:
        settings: value by dotted name.
        folders: folders of its runs, one for each seed.
    """

    settings: Mapping[str, Any]
    folders: tuple[Path, ...]

    @property
    def words(self) -> str:
        """The settings as they are typed."""
        return " ".join(f"{key}={text(value)}" for key, value in self.settings.items())


@dataclass(frozen=True)
class Result:
    """The validation scores of a combination, one for each seed; ``problem`` states why there are none.

    ``clips`` is the number of validation clips of each run that recorded it;
    ``monitor`` is the figure, one of `SCORES`, where it is known.
    """

    trial: Trial
    scores: tuple[float, ...] = ()
    seconds: float = 0.0
    problem: str = ""
    clips: tuple[int, ...] = ()
    monitor: str = ""

    @property
    def score(self) -> str:
        """The name of the score."""
        return SCORES.get(self.monitor, "validation score")

    @property
    def mean(self) -> float:
        """The mean over the seeds; minus infinity where a run failed."""
        return statistics.fmean(self.scores) if self.scores else -math.inf

    @property
    def deviation(self) -> float | None:
        """The standard deviation over the seeds; ``None`` for one seed."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None


def read_result(trial: Trial) -> Result:
    """Return the score of each run of a combination: of the best epoch, or the last with ``monitor=last``."""
    scores: list[float] = []
    clips: list[int] = []
    seconds = 0.0
    name = ""
    for folder in trial.folders:
        if failure := read_failure(folder):
            return Result(trial, problem=str(failure.get("error", "unknown")))
        run = RunFolder(folder)
        rows = run.read_history()
        # With monitor=last, the column val_monitor holds the number of the epoch and is no score.
        monitor = run.read_config().train.monitor
        name = known_monitor(rows[-1], "auto" if monitor == "last" else monitor)
        if monitor == "last":
            scores.append(monitored(rows[-1], "auto"))
        else:
            scores.append(max(row["val_monitor"] for row in rows if row["val_monitor"] is not None))
        seconds += sum(row["seconds"] or 0.0 for row in rows)
        clips += [count for part, count in run.read_info().get("clips", {}).items() if part == "val"]
    return Result(trial, tuple(scores), seconds, clips=tuple(clips), monitor=name)


def settings_digest(config: Config) -> str:
    """Return the SHA-256 of all settings that change a result, with the stage keys of the features."""
    content = repr(sorted(result_settings(config).items())) + canonical_json(stage_keys(config))
    return hashlib.sha256(content.encode()).hexdigest()


def write_failure(config: Config, reason: str, again: bool = False) -> None:
    """Record in the folder of a run why it cannot be trained with these settings.

    Args:
        config: settings of the run.
        reason: what happened.
        again: whether the next sweep tries the run again, because the machine was the reason.
    """
    folder = Path(config.train.run)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FAILED, {"error": reason, "settings": settings_digest(config), "again": again})


def read_failure(folder: Path, config: Config | None = None) -> dict[str, Any]:
    """Return what `write_failure` recorded; empty without a record, or with one of other settings.

    Without ``config`` the settings are not compared. With it, a failure that is to be tried again does not
    count, and a damaged file, or one of an earlier version, counts as one of other settings: the run is tried
    again.
    """
    try:
        tree = json.loads((folder / FAILED).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        tree = {"error": f"{folder / FAILED} is damaged ({error})"}
    same = isinstance(tree, dict) and (
        config is None or tree.get("settings") == settings_digest(config) and not tree.get("again")
    )
    return tree if same else {}


def other_clips(results: Sequence[Result]) -> str:
    """Return a sentence if the combinations were validated on unequal numbers of clips; empty otherwise.

    A clip is validated if any stage that the network reads has features of it, and the stages, their settings
    and the inputs of the network may be varied.
    """
    counts = sorted({count for result in results for count in result.clips})
    if len(counts) < 2:
        return ""
    return (
        f"The combinations were validated on {counts[0]} to {counted(counts[-1], 'clip')}, because not every "
        "clip has features with every setting: differences between their scores may be due to that."
    )


def score_name(results: Sequence[Result]) -> str:
    """Return the name of the score by which results are ranked, in general words where it is not known."""
    names = {result.score for result in results if result.scores}
    return names.pop() if len(names) == 1 else "validation score"


def equal_best(results: Sequence[Result]) -> str:
    """Return a sentence if several combinations have the best score; empty otherwise."""
    means = [result.mean for result in results if result.scores]
    equal = sum(math.isclose(mean, max(means), rel_tol=1e-12) for mean in means)
    if equal < 2:
        return ""
    return (
        f"{equal} combinations share the best score; best.yaml holds the first of them, which is not better "
        "than the others."
    )


def ranked(results: Sequence[Result]) -> list[Result]:
    """Return the results by their mean score, the best first; equal ones in the order of their settings."""
    return sorted(results, key=lambda result: (-result.mean, result.trial.words))


def write_results(
    base: Path, axes: Sequence[Axis], results: Sequence[Result], seeds: Sequence[int]
) -> Result | None:
    """Write ``sweep.json``, ``sweep.md``, ``sweep.png`` and ``best.yaml``; returns the best result.

    Returns:
        ``None`` where every combination failed; there is no picture and no ``best.yaml`` then.
    """
    order = ranked(results)
    best = next((result for result in order if result.scores), None)
    rows = [
        {
            "settings": dict(result.trial.settings),
            "mean": result.mean if result.scores else None,
            "sd": result.deviation,
            "scores": list(result.scores),
            "seconds": round(result.seconds, 1),
            "problem": result.problem,
            "runs": [folder.name for folder in result.trial.folders],
        }
        for result in order
    ]
    write_json(base / "sweep.json", {"axes": [str(a) for a in axes], "seeds": list(seeds), "results": rows})
    write_text(base / "sweep.md", _table(order, axes, seeds))
    if best is None:
        for name in ("sweep.png", "best.yaml"):  # of an earlier sweep in this folder
            (base / name).unlink(missing_ok=True)
        return None
    save_png(draw(axes, order), base / "sweep.png")
    write_text(base / "best.yaml", best_yaml(best, len(order), _notes(order)))
    return best


def _notes(results: Sequence[Result]) -> list[str]:
    return [note for note in (equal_best(results), other_clips(results)) if note]


def best_yaml(best: Result, tried: int, notes: Sequence[str] = ()) -> str:
    """Return the settings of a result as a config, with notes as comments."""
    tree: dict[str, dict[str, str]] = {}
    for key, value in best.trial.settings.items():
        section, _, name = key.rpartition(".")
        tree.setdefault(section, {})[name] = quoted(value) if isinstance(value, str) else text(value)
    lines = [
        f"# The best of {counted(tried, 'combination')} by the mean {best.score}, {best.mean:.4f}.",
        "# The best of many validation scores is too high by chance; score the settings on test speakers.",
        *(f"# {note}" for note in notes),
    ]
    for section, values in tree.items():
        indent = ""
        for part in section.split(".") if section else ():
            lines.append(f"{indent}{part}:")
            indent += "  "
        lines += [f"{indent}{name}: {value}" for name, value in values.items()]
    return "\n".join(lines) + "\n"


def _table(order: Sequence[Result], axes: Sequence[Axis], seeds: Sequence[int]) -> str:
    keys = [axis.key for axis in axes]
    then = "score the chosen settings once with `deiii evaluate`."
    if any(is_untested(folder) for result in order for folder in result.trial.folders):
        then = (
            "the split of these runs has no test speakers, so that the figure of the chosen settings is that "
            "of a cross-validation with another `split.protocol`."
        )
    lines = [
        f"# Sweep: {counted(len(order), 'combination')}, {counted(len(seeds), 'seed')}",
        "",
        f"Mean {score_name(order)} over the seeds; test speakers were not read. The best of many scores is "
        f"too high by chance: {then}",
        *(line for note in _notes(order) for line in ("", note)),
        "",
        f"| {' | '.join(keys)} | {score_name(order)} | sd over seeds | s |",
        f"|{'---|' * (len(keys) + 3)}",
    ]
    for result in order:
        cells = [text(result.trial.settings[key]).replace("|", r"\|") for key in keys]
        mean = f"{result.mean:.4f}" if result.scores else f"failed: {result.problem}".replace("|", "/")
        sd = "" if result.deviation is None else f"{result.deviation:.4f}"
        lines.append(f"| {' | '.join(cells)} | {mean} | {sd} | {result.seconds:.0f} |")
    return "\n".join(lines) + "\n"


def draw(axes: Sequence[Axis], order: Sequence[Result]) -> Figure:
    """Draw the score over each setting that was varied; the best combination is marked."""
    shown = [result for result in order if result.scores]
    columns = min(3, len(axes))
    lines = math.ceil(len(axes) / columns)
    figure = Figure(figsize=(3.4 * columns + 0.6, 2.9 * lines), layout="constrained", facecolor="white")
    for number, axis in enumerate(axes):
        panel = figure.add_subplot(lines, columns, number + 1)
        values = [result.trial.settings[axis.key] for result in shown]
        numeric = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
        if axis.kind or (numeric and len(set(values)) > 6):
            places = [float(value) for value in values]
        else:
            names = [text(v) for v in axis.values]
            places = [float(names.index(text(value))) for value in values]
            shown_names = list(map(figure_text, names))
            panel.set_xticks(range(len(names)), shown_names, rotation=30 if max(map(len, names)) > 12 else 0)
            panel.set_xlim(-0.5, len(names) - 0.5)
        if axis.kind == "log":
            panel.set_xscale("log")
        errors = [result.deviation or 0.0 for result in shown]
        means = [result.mean for result in shown]
        panel.errorbar(places, means, errors, fmt="o", ms=4, color=FIRST, ecolor=GRID)
        panel.plot(places[0], means[0], "D", ms=8, mfc="none", mec=SECOND, mew=2)
        panel.set_xlabel(axis.key, color=INK)
        if number % columns == 0:
            panel.set_ylabel(score_name(shown), color=INK)
        panel.grid(color=GRID, lw=0.6)
        panel.tick_params(colors=INK)
        show_spines(panel, "left", "bottom")
    title = "each point: one combination, mean and sd over seeds; diamond: the best"
    figure.suptitle(textwrap.fill(title, int(figure.get_figwidth() / LETTER_IN)), fontsize=9)
    return figure
