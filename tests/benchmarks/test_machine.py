"""Stored files of figures name the processor, the versions and the source revision that made them."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import pytest

from benchmarks import drawn_cells
from benchmarks.machine import made_by
from deiii.data.tools.machine import machine, source_revision

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
OF_ORIGIN = {"made_by", "origin"}  # functions that return all three
# `epoch_choice` writes the three itself, `feature_cache` writes no figures, and `soak` writes no file.
OTHERWISE = {"epoch_choice", "feature_cache", "soak"}


def called(path: Path) -> set[str]:
    """The names of the functions that a file calls."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {n.func.id for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}


WRITERS = sorted(
    path.stem
    for path in BENCHMARKS.glob("*.py")
    if {"write_json", "report"} & called(path) and path.stem not in OTHERWISE
)


def test_processor_versions_and_revision_are_recorded():
    found = made_by()
    assert found["machine"] == machine() and found["revision"] == source_revision()
    assert {"python", "torch", "scikit-learn", "scipy", "numpy"} <= set(found["versions"])


def test_the_list_of_writers_is_not_empty():
    assert {"drawn_cells", "halves", "emotional_av", "peers_table", "mix_tuning"} <= set(WRITERS)


@pytest.mark.parametrize("name", WRITERS)
def test_every_benchmark_that_writes_figures_records_their_origin(name):
    assert OF_ORIGIN & called(BENCHMARKS / f"{name}.py")


def test_drawn_cells_record_and_show_their_origin(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(drawn_cells, "TESTED", 64)
    words = ["--steps", "1", "--seeds", "0", "--variants", "frames", "--out", str(tmp_path / "cells.json")]
    monkeypatch.setattr(sys, "argv", ["drawn_cells", *words])
    drawn_cells.main()
    stored = json.loads((tmp_path / "cells.json").read_text())
    assert {key: stored[key] for key in ("machine", "revision")} == {
        "machine": machine(),
        "revision": source_revision(),
    }
    last = (tmp_path / "cells.md").read_text().splitlines()[-1]
    assert last == f"{machine()}; revision {source_revision()}; torch {stored['versions']['torch']}."
