"""The command that installs an extra fits the way in which deiii is installed."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from deiii.data.tools.packages import requirements as module
from deiii.data.tools.packages.requirements import install_command, missing_dependencies, requirements

ROOT = Path(__file__).parents[4]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = sorted(PROJECT["optional-dependencies"])


def installed(monkeypatch, distribution: bool, packages=()):
    """Let these packages be installed, and deiii as a distribution or not."""
    lines = list(PROJECT["dependencies"])
    for extra, needs in PROJECT["optional-dependencies"].items():
        lines += [f'{need}; extra == "{extra}"' for need in needs]

    def requires(name: str) -> list[str]:
        if not distribution:
            raise metadata.PackageNotFoundError(name)
        return lines

    def version(name: str) -> str:
        if name not in packages and not (distribution and name == "deiii"):
            raise metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(metadata, "requires", requires)
    monkeypatch.setattr(metadata, "version", version)


EVERY = [module.name_of(need) for need in PROJECT["dependencies"]]


@pytest.mark.parametrize("extra", EXTRAS)
def test_with_all_dependencies_the_extra_is_named(monkeypatch, extra):
    installed(monkeypatch, True, EVERY)
    assert missing_dependencies() == []
    assert install_command(extra) == f"pip install 'deiii[{extra}]'"


@pytest.mark.parametrize("extra", EXTRAS)
@pytest.mark.parametrize(("distribution", "packages"), [(True, ["av"]), (False, ["av"]), (False, EVERY)])
def test_otherwise_its_packages_are_named(monkeypatch, extra, distribution, packages):
    """`deiii[hub]` would install PyTorch; and without a distribution, pip would look for another deiii."""
    installed(monkeypatch, distribution, packages)
    words = shlex.split(install_command(extra))
    assert words[:2] == ["pip", "install"]
    assert words[2:] == requirements(extra) == PROJECT["optional-dependencies"][extra]
    assert requirements() == PROJECT["dependencies"]
    assert missing_dependencies() == (
        [] if packages == EVERY else [n for n in requirements() if n[:2] != "av"]
    )


def test_a_source_tree_without_an_installation_reads_its_own_file(tmp_path):
    """In a process whose packages are not seen: the messages come from pyproject.toml."""
    tree = tmp_path / "deiii"
    tree.mkdir()
    shutil.copy(ROOT / "pyproject.toml", tree)
    shutil.copytree(ROOT / "data/tools", tree / "data/tools")
    code = (
        "import sys; "
        f"sys.path[:] = [{str(tree)!r}] + [p for p in sys.path if 'site-packages' not in p]; "
        "from data.tools.packages.requirements import install_command; print(install_command('sweep'))"
    )
    words = [sys.executable, "-S", "-E", "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("pip install 'optuna>=4'\n", "")
