"""A run folder: everything that is needed to check, repeat, resume and use one training run.

``config.yaml`` (all settings), ``run.json`` (cache keys, classes, digests of clips and labels, versions,
revision, evaluations), ``split.json``, ``clips.json`` (the clip table), ``media.json`` (digests of the media
files), ``start.json`` (clips of the runs behind ``train.start``), ``metrics.csv``, ``events/`` (TensorBoard),
``last.safetensors``, ``best.safetensors``, ``state.safetensors`` (to resume), and from evaluation
``metrics.json``, ``predictions.csv``, ``figures/``, ``report.html``.
"""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deiii.data.cache.stages import stages
from deiii.data.config.load import BEFORE, changed_settings, stored_config, to_yaml
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError, read_yaml
from deiii.data.corpora.splits import Split, SplitError
from deiii.data.tools.atomic_files import remove_temporary, write_json, write_text
from deiii.data.tools.processes.made_folders import make_folder
from deiii.model.file_names import RUN, RUN_WEIGHTS, near_network
from deiii.model.scored_weights import MEMBERS, changed_weights, not_evaluated
from deiii.model.training.monitor import TrainingState, longer, training_state

RECORDED = ("keys", "classes", "attributes", "ranges")  # entries of run.json that every version writes
# Entries of run.json that must be equal in a run that is continued, and those that it keeps.
COMPARED = ("keys", "split", "classes", "clip_digest", "label_digest")
KEPT = ("evaluations", "ensembles", "other_corpora", "record", "cost", "start", "imagenet", "features")
INFO_TYPES: dict[str, type] = {  # of entries of run.json
    **dict.fromkeys(("keys", "clips", "seconds", "versions", "cost"), dict),
    **dict.fromkeys(("classes", "attributes", "ranges", "encoders", "features"), list),
    **dict.fromkeys(("evaluations", "ensembles", "other_corpora"), list),
    **dict.fromkeys(("corpus", "split", "command"), str),
}
METRICS_TYPES: dict[str, type] = dict.fromkeys(("test", "val", "without"), dict)  # of entries of metrics.json
WORDS: dict[type, str] = {dict: "an object", list: "a list", str: "text"}
SECTIONS = ("corpus", "split", "loader", "model", "train")  # of config.yaml that every version writes
FIRST_LINE = "# All settings of a run. The last line of this file is '...', the end of a YAML document.\n"
LAST_LINE = "...\n"  # a file with the first line and without this one was cut off
AGAIN = "train the run again, in a new folder"


class RunError(ValueError):
    """A run folder lacks something that the command needs; the message says what to do."""


class RunFolder:
    """Paths and small files of one run.

    Args:
        path: the folder; made by `create`.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.info = self.path / RUN
        self.split = self.path / "split.json"
        self.metrics_csv = self.path / "metrics.csv"
        self.last = self.path / "last.safetensors"
        self.best = self.path / RUN_WEIGHTS
        self.state = self.path / "state.safetensors"
        self.events = self.path / "events"
        self.metrics_json = self.path / "metrics.json"
        self.predictions = self.path / "predictions.csv"
        self.figures = self.path / "figures"
        self.report = self.path / "report.html"

    def create(self, config: Config, info: dict[str, Any], resume: bool) -> None:
        """Start a run, or check that an existing one may continue with these settings.

        Settings that change no result (devices, threads, the folder of the caches) may differ, and so may
        those of a stage that is not used or whose key is the same; the new ones are recorded.

        Args:
            config: all settings.
            info: content of ``run.json``; for a run that is continued, the entries `COMPARED` must be equal.
            resume: whether the folder may hold a run.

        Raises:
            RunError: the folder holds a run and ``resume`` is off, or a run of other settings or data.
        """
        # Without a checkpoint nothing was trained: a command that failed early can be repeated as it is.
        started = self._started()
        if started and not resume:
            raise RunError(
                f"{self.path} already holds a run; continue it with --resume, or choose another folder "
                "with train.run=... (with make: ARGS=--resume, or RUN=...)"
            )
        if started and self.metrics_csv.exists() and not self.state.exists():  # the state is written before
            raise RunError(f"{self.state} is missing, so the run cannot go on; put back a copy, or {AGAIN}")
        make_folder(self.path)
        remove_temporary(self.path)
        text = to_yaml(config)
        before = self.read_info() if started else {}
        if started:
            self.check_settings(config, info["keys"])
        for what in COMPARED:
            if what in before and before[what] != json.loads(json.dumps(info.get(what))):
                raise RunError(f"{self.path} was started with other data ({what} differ); start a new run")
        write_text(self.config, f"{FIRST_LINE}{text}{LAST_LINE}")
        write_json(self.info, {**info, **{name: before[name] for name in KEPT if name in before}})

    def _started(self) -> bool:
        """Return whether the folder holds what training or evaluation wrote after the first epoch."""
        return any(path.exists() for path in (self.state, self.last, self.best, self.metrics_json))

    def add(self, **entries: Any) -> dict[str, Any]:
        """Record entries in ``run.json``, where there is one; returns them."""
        if self.info.exists():
            write_json(self.info, {**self.read_info(), **entries})
        return entries

    def check_settings(self, config: Config, keys: Mapping[str, str]) -> None:
        """Check that the run in the folder, if there is one, may continue with these settings.

        Args:
            config: all settings.
            keys: keys of the stages with these settings. The settings of a stage whose key is that of the run
                are not compared.

        Raises:
            RunError: settings that change a result differ; names them. Or ``config.yaml`` or ``run.json`` of
                a run with checkpoints is missing or damaged.
        """
        if not self._started():
            return
        before = self.read_info().get("keys", {})
        same = [stage for stage in stages() if keys.get(stage) == before.get(stage)]
        changed = self._changed(config, same)
        if changed:
            raise RunError(
                f"{self.path} was started with other settings ({'; '.join(changed[:3])}); "
                f"resume with the same ones{_older(changed)}, or choose another folder with train.run=..."
                f"{longer(self.path, changed, config.is_mixture)}"
            )

    def add_evaluation(self, entry: dict[str, Any]) -> None:
        """Record in ``run.json`` that the test speakers were scored."""
        self.add(evaluations=[*self.read_info().get("evaluations", []), entry])

    def evaluations(self) -> list[dict[str, Any]]:
        """Return the times at which the test speakers were scored; an earlier version recorded no time."""
        recorded = self.read_info().get("evaluations", [])
        return recorded or ([{"time": "unknown"}] if self.metrics_json.exists() else [])

    def read_config(self) -> Config:
        """Return the settings of the run.

        Raises:
            RunError: ``config.yaml`` is missing or damaged.
            ConfigError: this version does not know one of its settings or values.
        """
        return stored_config(self._read_settings(), str(self.config))

    def _read_settings(self) -> dict[str, Any]:
        """Return the content of ``config.yaml``.

        Raises:
            RunError: it is missing, cut off, or no YAML.
        """
        remedy = f"put back a copy of it, or {AGAIN} (`command` in {self.info} tells how it was trained)"
        try:
            text = self.config.read_text(encoding="utf-8")
            if text.startswith(FIRST_LINE) and not text.endswith(LAST_LINE):
                raise ConfigError("it is cut off")
            tree = read_yaml(self.config)
            if lacking := [name for name in SECTIONS if not isinstance(tree.get(name), dict)]:
                raise ConfigError(f"it lacks {', '.join(lacking)}")
        except (FileNotFoundError, NotADirectoryError):
            if not self.path.is_dir():
                raise RunError(self._no_run()) from None
            raise RunError(f"{self.config} is missing; {remedy}") from None
        except ValueError as error:
            words = " ".join(str(error).replace(str(self.config), "it").split())
            raise RunError(f"{self.config} is damaged ({words}); {remedy}") from None
        return tree

    def _changed(self, config: Config, same: Sequence[str]) -> list[str]:
        """Return the settings that differ from those of the run and change its result.

        A setting that an older version did not have yet has the value with which that version computed
        (`deiii.data.config.load.BEFORE`), or else its default.

        Args:
            config: all settings.
            same: stages that are left out.
        """
        tree = self._read_settings()
        try:
            return changed_settings(stored_config(tree, str(self.config)), config, but=same)
        except ConfigError:  # this version does not know a setting: compare the lines
            old = self.config.read_text(encoding="utf-8").splitlines()
            lines = [line.strip() for line in to_yaml(config).splitlines() if line not in old]
            return lines or ["some settings are gone"]

    def read_split(self) -> Split:
        """Return the split of the run.

        Raises:
            RunError: ``split.json`` is missing or damaged.
        """
        remedy = "`deiii train ... --resume` with the settings of the run writes it again"
        try:
            return Split.load(self.split)
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(f"{self.split} is missing; {remedy}") from None
        except (SplitError, UnicodeDecodeError) as error:
            words = str(error).removeprefix(f"{self.split}: ")
            raise RunError(f"{self.split} is damaged ({words}); {remedy}") from None

    def read_info(self, whole: bool = False) -> dict[str, Any]:
        """Return what `create` recorded.

        Args:
            whole: whether to refuse a file that lacks what every version records.

        Raises:
            RunError: the folder holds no run, or its ``run.json`` is damaged.
        """
        tree = self._read_json(self.info, INFO_TYPES, self._no_run)
        if whole and (lacking := [name for name in RECORDED if name not in tree]):
            raise RunError(f"{self.info} is damaged (it lacks {', '.join(lacking)}); {AGAIN}")
        return tree

    def _no_run(self) -> str:
        """Return the message that the folder holds no run, and where one may be."""
        if self.path.is_file():
            return f"{self.path} is a file; a run is a folder, which `deiii train` writes"
        if not self.path.exists():
            hint = near_network(self.path)
            return f"there is no run folder {self.path}{hint or '; `deiii train` writes one'}"
        inside = sorted(folder.name for folder in self.path.glob("*") if (folder / RUN).is_file())
        if self._started():
            return f"{self.info} is missing; put back a copy of it, or {AGAIN}"
        hint = f", but runs are in it: {', '.join(inside[:5])}" if inside else "; `deiii train` writes one"
        return f"{self.path} holds no run{hint}"

    def _read_json(
        self, path: Path, types: Mapping[str, type], missing: Callable[[], str], remedy: str = AGAIN
    ) -> dict[str, Any]:
        """Return a JSON file of the run.

        Args:
            path: the file.
            types: types of its entries; an entry may be missing.
            missing: returns the message where it is not there.
            remedy: what to do where it is damaged.

        Raises:
            RunError: there is no such file, with the text of ``missing``, or it is damaged.
        """
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(missing()) from None
        except ValueError as error:
            raise RunError(f"{path} is damaged ({error}); {remedy}") from None
        if not isinstance(tree, dict):
            raise RunError(f"{path} is damaged (no JSON object); {remedy}")
        for name, kind in types.items():
            if not isinstance(tree.get(name, kind()), kind):
                raise RunError(f"{path} is damaged ({name} is not {WORDS[kind]}); {remedy}")
        return tree

    def training_state(self, config: Config) -> TrainingState:
        """Return how far the training of this run came, by ``metrics.csv``.

        Args:
            config: the settings of the run.
        """
        rows = self.read_history() if self.metrics_csv.exists() else []
        return training_state(rows, config.train)

    def read_metrics(self) -> dict[str, Any]:
        """Return what evaluation recorded in ``metrics.json``.

        Older runs name the audio stream "sound" there; it is returned as "audio".

        Raises:
            RunError: the run has not been or cannot be evaluated, or its training continued after the
                evaluation, so that the figures are those of other weights.
        """
        run = shlex.quote(str(self.path))
        metrics = self._read_json(
            self.metrics_json,
            METRICS_TYPES,
            lambda: not_evaluated(self.path),
            f"`deiii evaluate {run} --again` writes it again and records that",
        )
        if changed := changed_weights(self.path, metrics):
            how = ["--out", "FOLDER"] if MEMBERS in metrics else ["--again"]
            words = shlex.join([str(self.path), *how])
            raise RunError(
                f"{self.metrics_json} is about other weights than {changed[0]}, because training went on "
                f"since; `deiii evaluate {words}` scores the present weights"
            )
        if "sound" in metrics.get("without", {}):
            metrics["without"]["audio"] = metrics["without"].pop("sound")
        return metrics

    def write_history(self, rows: list[dict[str, Any]]) -> None:
        """Write the whole ``metrics.csv``, one row per epoch; undefined figures are left empty."""
        names = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        table = csv.DictWriter(text, names, lineterminator="\n")
        table.writeheader()
        table.writerows({k: "" if v is None else v for k, v in row.items()} for row in rows)
        write_text(self.metrics_csv, text.getvalue())

    def read_history(self) -> list[dict[str, float | None]]:
        """Return the rows of ``metrics.csv``; undefined figures are ``None``.

        Raises:
            RunError: the file is damaged.
        """
        try:
            with open(self.metrics_csv, encoding="utf-8", newline="") as file:
                return [{k: float(v) if v else None for k, v in row.items()} for row in csv.DictReader(file)]
        except (ValueError, TypeError, csv.Error) as error:  # TypeError: a row has too many columns
            raise RunError(
                f"{self.metrics_csv} is damaged ({error}); `deiii train ... --resume` writes it again"
            ) from None


def revisions(folders: Iterable[str | Path]) -> list[str]:
    """Return the source's revisions that trained some runs, each once."""
    found = {RunFolder(folder).read_info().get("revision") for folder in folders}
    return sorted(str(revision or "unknown (not a git checkout)") for revision in found)


def _older(changed: Sequence[str]) -> str:
    """Return words for a message: settings that restore the defaults of an earlier version, if any differ."""
    older = {**BEFORE, "flow.precision": "float32"}
    words = [
        f"{key}={str(value).lower()}"
        for key, value in older.items()
        if any(setting.startswith(f"{key}: {value} -> ") for setting in changed)
    ]
    return f", here with {' '.join(words)}" if words else ""
