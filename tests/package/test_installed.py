"""The wheel: its files, and its commands in a folder with packages named like those of deiii.

The wheel is installed into an environment of its own. That environment sees the packages that deiii depends
on (a ``.pth`` file names their folder) but not the checkout: Python ignores the ``.pth`` files inside such a
folder, the editable install's among them. ``test_installed_copy_is_imported`` checks this.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.tiny_settings import tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
PACKAGES = ("data", "model", "pipeline")
SHIPPED = (*PACKAGES, "configs")
CACHED = shutil.ignore_patterns("__pycache__")
FOREIGN = 'raise ImportError("a package of the same name in the working folder was imported")\n'
BUILD_SDIST = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"


def python(*words: str, cwd: Path) -> None:
    """Run the tests' own interpreter; its output is shown where it fails."""
    done = subprocess.run([sys.executable, *words], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def build_wheel(source: Path, target: Path) -> Path:
    """Build a wheel of a source folder or archive without network; returns its path."""
    options = ("--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--quiet")
    python("-m", "pip", "wheel", *options, "--wheel-dir", str(target), str(source), cwd=target)
    (wheel,) = target.glob("*.whl")
    return wheel


def content(wheel: Path) -> dict[str, bytes]:
    """File names and contents of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of what a build reads, so that building leaves nothing in the checkout."""
    folder = tmp_path_factory.mktemp("source")
    for name in (*SHIPPED, "deiii"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=CACHED)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> Path:
    return build_wheel(source, tmp_path_factory.mktemp("wheel"))


def test_wheel_has_one_top_level_name(wheel):
    names = {name.split("/")[0] for name in content(wheel)}
    assert {name for name in names if not name.endswith(".dist-info")} == {"deiii"}


def test_wheel_holds_every_file_of_the_packages(wheel):
    """Modules, shipped configs, protocols, templates and style sheets."""
    expected = {f"deiii/{name}" for name in ("__init__.py", "__main__.py", "runtime.py", "py.typed")}
    for package in SHIPPED:
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                expected.add(f"deiii/{path.relative_to(ROOT).as_posix()}")
    packed = {name for name in content(wheel) if ".dist-info/" not in name}
    assert packed == expected
    assert {"deiii/configs/ravdess.yaml", "deiii/data/corpora/protocols/ravdess-6fold.yaml"} <= packed


def test_type_checkers_read_the_annotations_of_the_installed_package(installed):
    """Without the marker ``py.typed`` (PEP 561), every name of an installed package has the type ``Any``."""
    script = installed.folder / "script.py"
    script.write_text("from deiii import load\n\nreveal_type(load('exported').predict('clip.mp4').label)\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--python-executable", installed.environment / "bin" / "python",
         "--ignore-missing-imports", "--cache-dir", "mypy-cache", script.name],
        cwd=installed.folder, capture_output=True, text=True,
    )  # fmt: skip
    assert 'Revealed type is "str | None"' in done.stdout, done.stdout[-2000:]


def test_wheel_of_the_sdist_is_the_same(source, wheel, tmp_path):
    (tmp_path / "sdist").mkdir()
    (tmp_path / "wheel").mkdir()
    python("-c", BUILD_SDIST, str(tmp_path / "sdist"), cwd=source)
    (sdist,) = (tmp_path / "sdist").glob("*.tar.gz")
    assert content(build_wheel(sdist, tmp_path / "wheel")) == content(wheel)


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel in it, and a working folder with packages of the same names."""

    environment: Path
    folder: Path

    def run(self, *words: str, status: int = 0) -> str:
        """Run a program of the environment in the working folder; returns what it printed."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        done = subprocess.run(
            [self.environment / "bin" / words[0], *words[1:]], cwd=self.folder, env=kept,
            capture_output=True, text=True, timeout=280, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == status, f"{' '.join(words)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def deiii(self, command: str, *words: str) -> str:
        """Run ``deiii`` with settings that make it end in seconds."""
        return self.run("deiii", command, *words, *tiny(["-m", "deiii", command]))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Installed:
    environment = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(environment, with_pip=False)
    there = str(environment / "bin" / "python")
    install = ("install", "--no-deps", "--no-index", "--disable-pip-version-check", "--quiet", str(wheel))
    python("-m", "pip", "--python", there, *install, cwd=environment)
    paths = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text("\n".join(sorted(paths)) + "\n", encoding="utf-8")
    folder = tmp_path_factory.mktemp("project")
    for package in PACKAGES:
        (folder / package).mkdir()
        (folder / package / "__init__.py").write_text(FOREIGN, encoding="utf-8")
    return Installed(environment, folder)


def test_installed_copy_is_imported(installed):
    path = Path(installed.run("python", "-c", "import deiii; print(deiii.__file__)").strip())
    assert path.is_relative_to(installed.environment)


@pytest.mark.parametrize("line", ["import deiii", "from deiii.__main__ import main; main(['--help'])"])
def test_import_and_help_load_no_torch(installed, line):
    code = "\n".join(
        [
            f"try: {line}",
            "except SystemExit: pass",
            "import sys",
            "print('loaded', {'torch', 'cv2', 'librosa', 'dask', 'h5py'} & set(sys.modules))",
        ]
    )
    assert installed.run("python", "-c", code).splitlines()[-1] == "loaded set()"


def test_public_names(installed):
    code = "from deiii import Features, extract, load, open_features as o; print(Features, extract, load, o)"
    shown = installed.run("python", "-c", code)
    assert all(name in shown for name in ("Features", "extract", "load", "open_features"))


def test_command_and_module_show_the_same_help(installed):
    assert installed.run("deiii", "--help") == installed.run("python", "-m", "deiii", "--help")


def test_bare_names_find_shipped_configs(installed):
    shown = installed.run("deiii", "settings", "ravdess", "base")
    assert "ravdess" in shown and "faces.detector" in shown


def test_from_corpus_to_prediction(installed):
    """Each command as a user types it, one after the other, in a folder with foreign packages."""
    folder = installed.folder
    installed.deiii("synthesize", "synthetic", "tiny")
    assert list((folder / "raw" / "synthetic").rglob("*.mp4"))
    installed.deiii("preprocess", "synthetic", "tiny")
    installed.deiii("verify", "synthetic", "tiny")
    installed.deiii("train", "synthetic", "tiny", "train.run=runs/first")
    assert "UAR" in installed.deiii("evaluate", "runs/first")
    assert (folder / "runs" / "first" / "report.html").is_file()
    tiny_words = tiny(["-m", "deiii", "preprocess"])
    code = f"from deiii import open_features; print(len(open_features('synthetic', 'tiny', *{tiny_words})))"
    assert installed.run("python", "-c", code).split()[-1] == "48"  # 6 speakers, 8 classes
    clip = sorted((folder / "raw" / "synthetic").rglob("*.mp4"))[0]
    installed.deiii("predict", "runs/first", str(clip.relative_to(folder)))
    assert (folder / "predict" / "predictions.csv").is_file()
