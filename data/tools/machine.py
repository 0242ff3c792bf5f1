"""The machine and the software that a result belongs to: processor, versions, source revision."""

from __future__ import annotations

import hashlib
import math
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")  # Linux; elsewhere Python's own words are used
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
OPENCV_PACKAGES = (  # each of them is the module cv2
    "opencv-contrib-python",
    "opencv-python",
    "opencv-contrib-python-headless",
    "opencv-python-headless",
)
SOURCE = Path(__file__).resolve().parents[2]  # holds data/, model/ and pipeline/


def processor() -> str:
    """Return the processor's model name, or its architecture where the system does not state the name."""
    try:
        lines = CPU_INFO.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def machine() -> str:
    """Return the processor and the number of cores that this process may use as text."""
    cores = usable_cores()
    return f"{processor()}, {cores} core{'s' if cores > 1 else ''}"


def usable_cores(root: Path = CGROUPS) -> int:
    """Return the number of processor cores that this process may keep busy, at least 1.

    ``os.cpu_count()`` counts all cores of the machine. ``taskset``, SLURM and Docker's ``--cpuset-cpus``
    restrict a process to some of them (its affinity); Docker's ``--cpus`` and Kubernetes' limits give
    it a share of time (the cgroup's quota), which is rounded up to whole cores.

    Args:
        root: folder in which Linux shows control groups.

    >>> 1 <= usable_cores() <= os.cpu_count()
    True
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not Linux
        cores = os.cpu_count() or 1
    quotas = [quota for folder in _cgroup_folders(root) if (quota := _cgroup_quota(folder)) is not None]
    return max(1, min([cores, *(math.ceil(quota) for quota in quotas)]))


def _cgroup_folders(root: Path) -> list[Path]:
    """Return the folders of this process's control groups and of their parents; each may hold a quota."""
    folders = [root, root / "cpu", root / "cpu,cpuacct", root / "memory"]
    try:
        lines = OWN_CGROUP.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return folders
    for line in lines:  # "0::/docker/ab12" (version 2), "4:cpu,cpuacct:/docker/ab12" (version 1)
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        base = root / controllers if controllers else root
        inner = base / group.lstrip("/")
        folders += [inner, *(p for p in inner.parents if base in p.parents)]
    return folders


def _cgroup_quota(folder: Path) -> float | None:
    """Return the cores' worth of time that a control group may use; ``None`` without a limit."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()[:2]
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        cores = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # "max", no such file, no such controller
        return None
    return cores if cores > 0 else None  # version 1 writes -1 for no limit


def available_memory(root: Path = CGROUPS) -> int:
    """Return how much memory this process may still use without swapping, in bytes.

    That is what the machine has available, or less where a container limits it (Docker's ``--memory``,
    Kubernetes' limits, SLURM): a process that uses more is killed. Pages of files that the kernel can drop
    count as free.

    Args:
        root: folder in which Linux shows control groups.

    >>> available_memory() > 0
    True
    """
    import psutil  # here, because every command imports this module first

    rooms = [room for folder in _cgroup_folders(root) if (room := _cgroup_room(folder)) is not None]
    return min([psutil.virtual_memory().available, *rooms])


def _cgroup_room(folder: Path) -> int | None:
    """Return the bytes that a control group may still use; ``None`` without a limit."""
    second = (folder / "memory.max").is_file()  # version 2 of control groups
    limit, used, cached = (
        ("memory.max", "memory.current", "inactive_file")
        if second
        else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    )
    try:
        room = int((folder / limit).read_text()) - int((folder / used).read_text())
    except (OSError, ValueError):  # "max", no such file, no such controller
        return None
    try:
        pairs = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
        room += next((int(pair[1]) for pair in pairs if len(pair) == 2 and pair[0] == cached), 0)
    except (OSError, ValueError):
        pass  # the files in memory are then counted as used
    return max(0, room)


def package_versions(*packages: str) -> dict[str, str]:
    """Return the versions of Python and of packages, by name.

    A package that has no metadata, as in a source tree that is on ``PYTHONPATH`` and not installed, is
    ``unknown``: a missing version does not end a run. Where another of OpenCV's packages is installed,
    its name follows the version.

    >>> sorted(package_versions("numpy"))
    ['numpy', 'python']
    """
    return {"python": platform.python_version(), **{name: _version(name) for name in packages}}


def _version(package: str) -> str:
    others = [name for name in OPENCV_PACKAGES if name != package] if package in OPENCV_PACKAGES else []
    for name in (package, *others):
        try:
            return version(name) if name == package else f"{version(name)} ({name})"
        except PackageNotFoundError:
            continue
    return "unknown"


@cache
def source_digest(source: Path = SOURCE) -> str:
    """Return a SHA-256 of the Python files of deiii, as they were at the first call of this process.

    Args:
        source: the folder that holds ``data/``, ``model/`` and ``pipeline/``.

    >>> len(source_digest())
    64
    """
    digest = hashlib.sha256()
    for folder in ("data", "model", "pipeline"):
        for file in sorted((source / folder).rglob("*.py")):
            digest.update(f"{file.relative_to(source).as_posix()}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def source_revision(source: Path = SOURCE) -> str | None:
    """Return the git revision of deiii's own checkout, with ``+changes`` where files differ from it.

    Returns ``None`` where deiii runs from no checkout. A package that is installed inside another
    project's repository, for example in its ``.venv``, gets ``None`` and not that project's revision.

    Args:
        source: the folder that holds ``data/``, ``model/`` and ``pipeline/``.
    """
    try:
        if Path(_git(source, "rev-parse", "--show-toplevel")).resolve() != source.resolve():
            return None
        # The top folder alone is not proof: a foreign repository may begin in this very folder.
        if not _git(source, "ls-files", "--", "data/tools/machine.py"):
            return None
        changes = _git(source, "status", "--porcelain", "-uno")
        return _git(source, "rev-parse", "HEAD") + ("+changes" if changes else "")
    except (OSError, subprocess.SubprocessError):  # no git, no repository, or no commit yet
        return None


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=folder, capture_output=True, text=True, check=True, timeout=10
    )  # fmt: skip
    return done.stdout.strip()
