"""Common parts of benchmarks of many runs: arguments, the origin of a table, its cells and its archive."""

from __future__ import annotations

import argparse
import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deiii.data.tools.atomic_files import atomic_path
from deiii.data.tools.counts import counted
from deiii.data.tools.devices import usable_gpus
from deiii.data.tools.machine import machine
from deiii.model.evaluation.crossval_report import shared_settings
from deiii.model.intervals import interval_kind
from deiii.model.provenance import provenance
from deiii.model.training.run_folder import RunFolder, revisions

JOBS = max(2, usable_gpus())  # one per GPU, or two on a CPU


def arguments(name: str, about: str | None) -> argparse.ArgumentParser:
    """Return a parser with the arguments of every benchmark of many runs: settings, seeds, folder, jobs."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog=f"python -m benchmarks.{name}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="overrides for every run")
    parser.add_argument(
        "--seeds", type=lambda t: [int(w) for w in t.split(",")], default=[0, 1, 2, 3, 4], metavar="0,1,2"
    )
    parser.add_argument("--folder", type=Path, default=Path("runs") / name)
    parser.add_argument("--jobs", type=int, default=JOBS, help=f"runs at a time (default here: {JOBS})")
    return parser


def origin(runs: Sequence[Path], seeds: Sequence[int]) -> tuple[dict[str, Any], str]:
    """Return how the runs of a table were made, for JSON and as a sentence.

    The JSON has seeds, machine, versions, revisions, and the settings that all runs have in common.
    """
    versions, found = provenance()["versions"], revisions(runs)
    about = {"seeds": list(seeds), "hardware": machine(), "versions": versions, "revisions": found}
    about["interval"] = interval_kind(len(seeds))
    about["settings"] = shared_settings(runs)
    about["runs"] = {run.name: RunFolder(run).read_info().get("revision") for run in runs}
    words = f"Seeds {', '.join(map(str, seeds))}; revisions {', '.join(found)}; {machine()}; "
    return about, words + f"torch {versions['torch']}."


def column_kind(seeds: int) -> str:
    """Return the kind of the intervals in a column, for its head.

    >>> column_kind(5), column_kind(1)
    ('95 % t over seeds and speakers', '95 % t over speakers')
    """
    return f"95 % {interval_kind(seeds)}".replace("t interval", "t")


def seeds_of(rows: Mapping[str, Mapping[str, Any]]) -> list[int]:
    """Return the seeds that some row of a table has, ``by_seed``, in order."""
    return sorted({seed for row in rows.values() for seed in row["by_seed"]})


def fewer_seeds(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a sentence on each row without some of the seeds, whose intervals may be of another kind.

    >>> fewer_seeds({"a": {"by_seed": {0: 0.5, 1: 0.5, 2: 0.5}}, "b": {"by_seed": {1: 0.5}}})
    ' `b` has 1 seed only (1); the intervals of this row are t intervals over speakers.'
    """
    every = len(seeds_of(rows))
    return "".join(
        f" `{name}` has {counted(len(own), 'seed')} only ({', '.join(map(str, own))}); the intervals of this "
        f"row are {interval_kind(len(own)).replace('interval', 'intervals', 1)}."
        for name, own in ((name, row["by_seed"]) for name, row in rows.items())
        if len(own) < every
    )


def add_file(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file to an archive, with time 0 and owner 0: equal content gives equal bytes."""
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def pack_predictions(path: Path, runs: Sequence[Path]) -> None:
    """Write ``predictions-<run>.csv`` of every run into one archive; equal predictions give equal bytes."""
    with atomic_path(path) as temporary, tarfile.open(temporary, "w:xz") as archive:
        for run_folder in sorted(runs):
            content = RunFolder(run_folder).predictions.read_bytes()
            add_file(archive, f"predictions-{run_folder.name}.csv", content)
