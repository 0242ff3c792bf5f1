"""The page on new stages: its package is installed, and the real commands compute and use its stage."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deiii.data.cache.index import read_index
from deiii.data.cache.shards import open_shard
from tests.helpers.tiny_settings import tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/howto-new-stage.md").read_text(encoding="utf-8")


def block(kind: str) -> str:
    """The page's only block of a kind."""
    (found,) = re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.M | re.S)
    return found


def run(words: list[str], folder: Path) -> str:
    """Run Python with the installed package on its path; returns what it printed."""
    path = os.pathsep.join([str(folder / "site"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A working folder in which the page's commands ran."""
    folder = tmp_path_factory.mktemp("work")
    package = folder / "crop-grid"
    package.mkdir()
    (package / "pyproject.toml").write_text(block("toml"))
    (package / "crop_grid.py").write_text(block("python"))
    commands = [shlex.split(line) for line in block("console").splitlines()]
    assert [words[0] for words in commands] == ["pip", "deiii", "deiii", "deiii", "deiii"]
    options = ["--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--quiet"]
    run(["-m", "pip", *commands[0][1:], *options, "--target", "site"], folder)
    for words in commands[1:]:
        module = ["-m", "deiii", *words[1:]]
        run([*module, *tiny(module)], folder)
    return folder


def test_package_has_at_most_50_lines():
    assert len((block("toml") + block("python")).splitlines()) <= 50


def test_cache_holds_the_stage_and_its_numbers(folder):
    """Compared with the crops of the faces' cache, cell by cell."""
    (stage,) = (folder / "cache/synthetic-cues").glob("cropgrid-*")
    (faces,) = (folder / "cache/synthetic-cues").glob("faces-*")
    index = read_index(stage)
    assert index.provenance["params"] == {"cells": 3} and index.provenance["upstream"] == faces.name[-12:]
    name = index.shards[0].name
    clip = next(row.id for row in index.shards[0].clips if row.outcome.usable)
    found = open_shard(stage / f"{name}.h5").clip(clip)["cells"]
    crops = open_shard(faces / f"{name}.h5").clip(clip)["frames"] / 255
    corner = crops[5, :21, 42:63].mean(axis=2)  # crops of 64 px, so cells of 21: row 0, column 2
    np.testing.assert_allclose(found[5, 4:6], [corner.mean(), corner.std()], rtol=1e-5)


def test_network_reads_the_stage(folder):
    info = json.loads((folder / "runs/grid/run.json").read_text())
    assert set(info["keys"]) == {"faces", "flow", "logmel", "cropgrid"}
    metrics = json.loads((folder / "runs/grid/metrics.json").read_text())
    assert "cropgrid" in metrics["without"] and "frames+flow+cropgrid" in metrics["without"]


def test_prediction_tells_the_contribution_of_the_stage(folder):
    (path,) = (folder / "predict").glob("*.json")
    told = json.loads(path.read_text())
    assert told["outcomes"]["cropgrid"]["status"] == "ok"
    assert any("cropgrid" in shares for shares in told["contributions"].values())


def test_settings_of_the_stage_are_strict_and_listed(folder):
    assert "cropgrid.cells=4" in run(["-m", "deiii", "settings"], folder)
    words = [sys.executable, "-m", "deiii", "settings", "cropgrid.cell=3"]
    path = os.pathsep.join([str(folder / "site"), str(ROOT)])
    done = subprocess.run(
        words, cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 1 and "did you mean 'cropgrid.cells'" in done.stderr


def test_without_the_package_the_run_names_what_is_missing(folder):
    words = [sys.executable, "-m", "deiii", "predict", "runs/grid", "raw/synthetic/s01/s01-000.mp4"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "adds the stage 'cropgrid', install it" in done.stderr


def test_exported_network_reads_the_stage(folder):
    run(["-m", "deiii", "export", "runs/grid", "exported"], folder)
    inputs = json.loads((folder / "exported/deiii.json").read_text())["inputs"]
    assert inputs["cropgrid_values"]["shape"] == ["B", 4, 18]
    run(["-m", "deiii", "predict", "exported", "raw/synthetic/s01/s01-000.mp4", "--out", "again"], folder)
