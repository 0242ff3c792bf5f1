"""What is recorded of a machine, and whose source revision."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from deiii.data.tools import machine


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    done = subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """A repository with one commit that holds this module's file."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    source = tmp_path / "source"
    (source / "data/tools").mkdir(parents=True)
    (source / "data/tools/machine.py").write_text("one\n")
    git(source, "init", "-q")
    git(source, "add", ".")
    git(source, "commit", "-qm", "first")
    return source


def test_the_processor_comes_from_the_system(tmp_path, monkeypatch):
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: Some CPU @ 2.0 GHz: fast\nmodel name\t: other\n")
    monkeypatch.setattr(machine, "CPU_INFO", info)
    assert machine.processor() == "Some CPU @ 2.0 GHz: fast"
    assert machine.machine() == f"Some CPU @ 2.0 GHz: fast, {os.cpu_count()} cores"


def test_without_cpuinfo_the_architecture_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CPU_INFO", tmp_path / "missing")
    assert machine.processor() == (platform.processor() or platform.machine())


def test_versions_are_those_of_the_installed_packages():
    import numpy

    assert machine.package_versions("numpy") == {
        "python": platform.python_version(),
        "numpy": numpy.__version__,
    }


def test_the_revision_is_that_of_the_checkout(checkout):
    head = git(checkout, "rev-parse", "HEAD")
    assert machine.source_revision(checkout) == head
    (checkout / "data/tools/machine.py").write_text("two\n")
    assert machine.source_revision(checkout) == head + "+changes"


def test_a_package_inside_a_foreign_repository_has_no_revision(checkout):
    installed = checkout / ".venv/lib/site-packages/deiii"
    shutil.copytree(checkout / "data", installed / "data")
    assert machine.source_revision(installed) is None


def test_a_package_unpacked_at_the_top_of_a_foreign_repository_has_no_revision(tmp_path, checkout):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    git(foreign, "init", "-q")
    git(foreign, "commit", "-qm", "theirs", "--allow-empty")
    shutil.copytree(checkout / "data", foreign / "data")
    assert machine.source_revision(foreign) is None


def test_no_repository_and_no_git_give_no_revision(tmp_path, checkout, monkeypatch):
    assert machine.source_revision(tmp_path / "nowhere") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.source_revision(checkout) is None
