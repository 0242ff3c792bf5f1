"""The files that describe the installation agree with one another."""

from __future__ import annotations

import re
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


def test_citation_and_version_agree():
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cff["version"] == PROJECT["version"]
