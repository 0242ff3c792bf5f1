"""The files that describe the installation agree with one another."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = (re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", line) for line in lines)
    return {m[1].lower(): m[2] for m in pins if m}


def test_conda_environment_has_the_ranges_of_pyproject():
    tree = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [d["pip"] for d in tree["dependencies"] if isinstance(d, dict)]
    assert pip == [*PROJECT["dependencies"], "--editable ."]
    assert f"python{PROJECT['requires-python']}" in tree["dependencies"]


def test_lock_file_pins_every_dependency():
    pins = locked()
    for requirement in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]:
        assert re.split(r"[<>=!~]", requirement)[0].lower() in pins, f"{requirement}: run `make lock`"
    assert pins["torch"] == "2.14.1" and pins["torchvision"] == "0.29.1"


def test_lock_file_holds_one_opencv():
    assert [n for n in locked() if n.startswith("opencv")] == ["opencv-contrib-python"]


@pytest.mark.parametrize("target", "help setup demo test lint preprocess train evaluate clean".split())
def test_makefile_describes_its_targets(target):
    assert re.search(rf"^{target}:.*## \S", (ROOT / "Makefile").read_text(), re.M)


@pytest.mark.parametrize("target", ["train", "sweep", "crossval"])
def test_settings_in_args_win_over_the_default_run(target):
    """Of two settings of one name, the later word wins."""
    words = [target, "CONFIG=tiny", "ARGS=train.run=runs/mine --quiet"]
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")
    }
    command = ["make", "--dry-run", *words]
    shown = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    words = shlex.split(shown.splitlines()[-1])
    assert [word for word in words if word.startswith("train.run=")][-1] == "train.run=runs/mine"


def test_citation_and_version_agree():
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cff["version"] == PROJECT["version"]


FAKE_PYTHON = """#!/bin/sh
# The environment's Python; its pip says what pip says.
case "$*" in
  *" venv "*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  *others.txt*) sleep 0.2; echo 'ERROR: No matching distribution found for av'; exit {others} ;;
  *torch.txt*) printf 'Processing /w/triton-3.whl\\n  Downloading a.whl (3 MB)\\nCollecting torch==2.14.1\\n'
    echo 'Installing collected packages: triton, torch'; exit {torch} ;;
esac
"""


def fake_setup(folder: Path, torch: int, others: int) -> subprocess.CompletedProcess[str]:
    """``make setup`` in a folder with a Python whose pip ends with these statuses for its two lists."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    python = folder / "python"
    python.write_text(FAKE_PYTHON.replace("{torch}", str(torch)).replace("{others}", str(others)))
    python.chmod(0o755)
    return subprocess.run(
        ["make", "setup", f"PYTHON={python}"], cwd=folder, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(("torch", "others"), [(0, 0), (3, 0), (0, 3)])
def test_setup_writes_a_line_per_step_into_a_log(torch, others, tmp_path):
    """Without a terminal, too, what takes minutes tells how far it is; a failure of pip ends it."""
    done = fake_setup(tmp_path, torch, others)
    lines, failed = done.stdout.splitlines(), torch or others
    steps = [line for line in lines if line.startswith("step ")]
    assert [line[:11] for line in steps] == [f"step {n} of 4" for n in (1, 2, 3, 4)[: 2 if failed else 4]]
    assert "  package 1: triton-3.whl" in lines and "  package 2: torch==2.14.1" in lines
    assert "  installing 2 packages" in lines
    assert ("ERROR: No matching distribution found for av" in lines) == bool(others)
    assert (done.returncode == 0) == (not failed)
    assert (tmp_path / ".venv/.installed").exists() == (not failed)


def test_each_locked_package_is_installed_once(tmp_path):
    """In one of the two parts of the lock file that pip installs beside each other."""
    assert fake_setup(tmp_path, 0, 0).returncode == 0
    parts = [(tmp_path / f".venv/{name}.txt").read_text().splitlines() for name in ("torch", "others")]
    pins = [{line for line in part if "==" in line and line[0] not in "# "} for part in parts]
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    lock = {line for line in lines if re.match(r"\w", line)}
    assert not pins[0] & pins[1] and pins[0] | pins[1] == lock
    assert any(line.startswith("torch==") for line in pins[0]) and any("nvidia" in line for line in pins[0])


@pytest.mark.parametrize(("words", "times"), [(["ROOT=/clips"], 1), (["CONFIG=configs/ravdess.yaml"], 0)])
def test_a_note_says_once_that_the_synthetic_corpus_is_used(words, times):
    done = subprocess.run(["make", "-n", "preprocess", *words], cwd=ROOT, capture_output=True, text=True)
    note = (
        "note: no CONFIG= is given; the synthetic corpus is used: configs/synthetic.yaml configs/tiny.yaml\n"
    )
    assert done.stderr == note * times


def test_make_lists_the_commands_below_headings():
    lines = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    headings = [line for line in lines if line.endswith(":")]
    assert headings == [
        "Start:",
        "Preprocess, train, predict:",
        "Experiments:",
        "Benchmarks:",
        "Development:",
    ]
    where = {line.split()[1]: n for n, line in enumerate(lines) if line.startswith("  make ")}
    places = [lines.index(heading) for heading in headings]
    for name, heading in [("demo", 0), ("predict", 1), ("crossval", 2), ("gpu-check", 3), ("test", 4)]:
        assert max(n for n, place in enumerate(places) if place < where[name]) == heading, name
