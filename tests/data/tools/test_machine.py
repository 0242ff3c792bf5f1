"""What is recorded of a machine, and whose source revision."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

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
    monkeypatch.setattr(machine, "usable_cores", lambda: 2)
    assert machine.machine() == f"Some CPU @ 2.0 GHz: fast, {machine.usable_cores()} cores"


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


@pytest.fixture
def own_group(tmp_path, monkeypatch):
    """A function that fills a stand-in for /sys/fs/cgroup, on a machine with 8 cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(machine, "OWN_CGROUP", tmp_path / "own")

    def fill(own: str, files: dict[str, str]) -> Path:
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "fs" / name).write_text(text)
        return tmp_path / "fs"

    return fill


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}, 3),
        ("0::/a/b\n", {"a/cpu.max": "max 100000\n", "a/b/cpu.max": "400000 100000\n"}, 4),
        (
            "4:cpu,cpuacct:/docker/x\n",
            {
                "cpu,cpuacct/docker/x/cpu.cfs_quota_us": "200000\n",
                "cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000\n",
            },
            2,
        ),
        ("", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ("nonsense", {"cpu.max": ""}, 8),
    ],
)
def test_a_containers_share_of_time_bounds_the_cores(own_group, own, files, cores):
    assert machine.usable_cores(own_group(own, files)) == cores


GIB = 2**30


@pytest.mark.parametrize(
    ("own", "files", "gigabytes"),
    [
        ("0::/\n", {"memory.max": "max\n", "memory.current": f"{3 * GIB}\n"}, 64),
        ("0::/\n", {"memory.max": f"{4 * GIB}\n", "memory.current": f"{3 * GIB}\n"}, 1),
        (
            "0::/\n",
            {
                "memory.max": f"{4 * GIB}\n",
                "memory.current": f"{3 * GIB}\n",
                "memory.stat": f"anon {GIB}\ninactive_file {2 * GIB}\n",
            },
            3,
        ),
        (
            "0::/a/b\n",  # the limit of the group around it counts, too
            {
                "a/memory.max": f"{8 * GIB}\n",
                "a/memory.current": f"{6 * GIB}\n",
                "a/b/memory.max": "max\n",
                "a/b/memory.current": "1\n",
            },
            2,
        ),
        (
            "9:memory:/docker/x\n",
            {
                "memory/docker/x/memory.limit_in_bytes": f"{2 * GIB}\n",
                "memory/docker/x/memory.usage_in_bytes": f"{GIB}\n",
                "memory/docker/x/memory.stat": f"cache 5\ntotal_inactive_file {GIB // 2}\n",
            },
            1.5,
        ),
        (
            "9:memory:/docker/x\n",  # as a container sees its own group; version 1 writes this for no limit
            {"memory/memory.limit_in_bytes": f"{2**63 - 4096}\n", "memory/memory.usage_in_bytes": "1\n"},
            64,
        ),
        ("0::/\n", {"memory.max": f"{GIB}\n", "memory.current": f"{2 * GIB}\n"}, 0),
        ("nonsense", {"memory.max": "", "memory.current": "x"}, 64),
    ],
)
def test_a_containers_limit_bounds_the_memory(own_group, monkeypatch, own, files, gigabytes):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=64 * GIB))
    assert machine.available_memory(own_group(own, files)) == gigabytes * GIB


def test_affinity_bounds_the_cores():
    code = "from deiii.data.tools.machine import usable_cores; print(usable_cores())"
    first = min(os.sched_getaffinity(0))
    command = ["taskset", "-c", str(first), sys.executable, "-c", code]
    if shutil.which("taskset") is None:
        pytest.skip("needs taskset")
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "1"


def test_a_package_without_metadata_is_unknown_and_no_error(monkeypatch):
    """A source tree on PYTHONPATH has no metadata, and OpenCV comes in four packages."""
    installed = {"numpy": "2.1", "opencv-python-headless": "4.12"}

    def version(name):
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(machine, "version", version)
    found = machine.package_versions("deiii", "numpy", "opencv-contrib-python")
    assert found["deiii"] == "unknown" and found["numpy"] == "2.1"
    assert found["opencv-contrib-python"] == "4.12 (opencv-python-headless)"


def test_the_digest_of_the_source_changes_with_each_file_and_name(tmp_path):
    def digest(**files: str) -> str:
        source = tmp_path / str(len(list(tmp_path.iterdir())))
        for folder in ("data", "model", "pipeline", "tests"):
            (source / folder / "part").mkdir(parents=True)
        for name, text in files.items():
            (source / name.replace("__", "/")).with_suffix(".py").write_text(text)
        return machine.source_digest(source)

    same = digest(model__part__a="x = 1", data__b="")
    assert digest(model__part__a="x = 1", data__b="", tests__c="y = 1") == same
    others = {digest(model__part__a="x = 2", data__b=""), digest(model__a="x = 1", data__b=""), digest()}
    assert len(others | {same}) == 4
