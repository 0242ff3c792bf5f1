"""The wheel with the newest releases of the packages that it needs, as `pip install` chooses them.

The lock file names older ones. A release that removes what deiii uses fails here first, as PyAV 19 did, which
pip installs for Python 3.12 and later. The test downloads gigabytes, so it runs on request alone:

    make test-newest
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.tiny_settings import tiny
from tests.package.test_installed import build_wheel, source  # noqa: F401  # the fixture

REQUEST = "DEIII_NEWEST"
PYTHONS = (sys.executable, "python3.11", "python3.12", "python3.13")  # the first is always there

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(REQUEST not in os.environ, reason="downloads gigabytes; run it with make test-newest"),
]


def call(*words: str | Path, folder: Path) -> str:
    """Run a program; returns what it printed. Its output is shown where it fails."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([*map(str, words)], cwd=folder, env=kept, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.parametrize("python", PYTHONS)
def test_the_newest_packages_preprocess_train_and_predict(python, source, tmp_path):  # noqa: F811
    if shutil.which(python) is None or subprocess.run([python, "-c", ""], capture_output=True).returncode:
        pytest.skip(f"there is no {python} here; put it on the PATH to test it, too")
    wheel = build_wheel(source, tmp_path)
    call(python, "-m", "venv", tmp_path / "venv", folder=tmp_path)
    there = tmp_path / "venv/bin/python"
    call(there, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel, folder=tmp_path)

    def deiii(command: str, *words: str) -> str:
        return call(there, "-m", "deiii", command, *words, *tiny(["-m", "deiii", command]), folder=tmp_path)

    deiii("synthesize", "synthetic", "tiny")
    assert "ok" in deiii("preprocess", "synthetic", "tiny")
    deiii("train", "synthetic", "tiny", "train.run=runs/first")
    assert "UAR" in deiii("evaluate", "runs/first")
    clip = sorted((tmp_path / "raw/synthetic").rglob("*.mp4"))[0]
    deiii("predict", "runs/first", str(clip))
    assert (tmp_path / "predict/predictions.csv").is_file()
