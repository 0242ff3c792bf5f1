"""A package that is not installed: the command ends with the line that installs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from deiii.data.command_line import missing
from deiii.data.command_line.missing import broken_package, missing_package
from deiii.data.tools.packages import requirements
from deiii.data.tools.packages.requirements import missing_dependencies

ROOT = Path(__file__).parents[3]

# What docs/predict.md lists for prediction is there, as on a machine that only predicts; these are not.
SMALL = """
import sys
import numpy, librosa, onnxruntime, omegaconf, av, cv2, h5py, pooch, psutil, tqdm
REFUSED = "torch torchvision dask distributed jinja2 markupsafe matplotlib PIL safetensors".split()
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in REFUSED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
for name in list(sys.modules):
    if name.split(".")[0] in REFUSED:
        del sys.modules[name]
"""

WHOLE = '{"keys": {}, "classes": [], "attributes": [], "ranges": []}'  # a run.json


def small(code: str, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", SMALL + code, *words], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    ("words", "package"),
    [
        ("train synthetic tiny", "torch"),
        ("preprocess synthetic tiny", "distributed"),  # which needs dask itself
        ("overview synthetic tiny", "jinja2"),
        ("compare {folder}/a {folder}/b", "matplotlib"),
        ("export {folder}/a exported", "torch"),
        ("predict configs {folder}/a.mp4 --overlay {folder}/o.mp4", "pillow"),
    ],
)
def test_commands_name_what_to_install(words, package, tmp_path):
    code = "from deiii.__main__ import main; sys.exit(main(sys.argv[1:]))"
    (tmp_path / "a.mp4").touch()
    for run in ("a", "b"):  # what is named is there: otherwise this is said first
        (tmp_path / run).mkdir()
        (tmp_path / run / "run.json").write_text(WHOLE)
    words = words.format(folder=tmp_path).split()
    done = small(code, *words, *([f"cache={tmp_path}"] if "synthetic" in words else []))
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr and "defect" not in done.stderr
    assert f"pip install {package}" in done.stderr


def test_live_prediction_without_an_overlay_needs_no_pillow():
    done = small("import deiii.model.prediction.live.show, deiii.runtime; assert 'PIL' not in sys.modules")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("sklearn.svm", "this command needs the Python package scikit-learn: pip install scikit-learn"),
        ("deiii.data.gone", None),
        ("json.gone", None),  # of Python itself
        ("pytest.gone", None),  # installed, and without such a part
        (None, None),
    ],
)
def test_messages(module, expected, monkeypatch):
    monkeypatch.delitem(sys.modules, "sklearn", raising=False)  # another test may have imported it
    assert missing_package(ModuleNotFoundError("No module", name=module)) == expected


def test_all_that_is_missing_is_named_at_once(monkeypatch):
    monkeypatch.setattr(
        metadata, "requires", lambda name: ["av>=17", "torch>=2.11", "jinja2>=3.1", 'x; extra == "dev"']
    )

    def version(name: str) -> str:
        if name != "av":
            raise metadata.PackageNotFoundError(name)
        return "17"

    monkeypatch.setattr(metadata, "version", version)
    assert missing_dependencies() == ["torch>=2.11", "jinja2>=3.1"]
    found = missing_package(ModuleNotFoundError("No module", name="markupsafe_gone"))
    assert found == "this command needs the Python package markupsafe_gone: pip install markupsafe_gone"
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    found = missing_package(ModuleNotFoundError("No module", name="torch.nn"))
    assert found is not None and found.endswith(
        "2 packages are missing: pip install 'torch>=2.11' 'jinja2>=3.1'"
    )


@pytest.mark.parametrize(
    ("installed", "module", "expected"),
    [
        ([], "PIL.Image", "matplotlib and pillow: pip install 'matplotlib>=3.9' 'pillow>=10' ("),
        (["matplotlib"], "PIL.Image", "pillow: pip install 'pillow>=10' ("),
        (["pillow"], "matplotlib.pyplot", "matplotlib: pip install 'matplotlib>=3.9' ("),
        ([], "matplotlib.pyplot", "matplotlib; deiii was installed without its dependencies, and 3 packages"),
    ],
)
def test_an_overlay_needs_two_packages_where_nothing_is_trained(installed, module, expected, monkeypatch):
    """The first message named one of them, and the second one told people to install PyTorch."""
    needs = ["matplotlib>=3.9", "torch>=2.11", "pillow>=10"]
    monkeypatch.setattr(metadata, "requires", lambda name: needs)
    monkeypatch.setattr(requirements, "is_installed", lambda package: package in installed)
    for loaded in ("PIL", "matplotlib"):
        monkeypatch.delitem(sys.modules, loaded, raising=False)
    found = missing_package(ModuleNotFoundError("No module", name=module))
    assert found is not None and found.startswith(f"this command needs {expected}")


def test_what_the_documentation_installs_for_prediction_is_all_that_prediction_needs():
    """`NOT_FOR_PREDICTION` and the line in docs/predict.md name the two halves of the dependencies."""
    (line,) = re.findall(r"^pip install av .*$", (ROOT / "docs/predict.md").read_text(), re.MULTILINE)
    listed = {re.split("[<>=]", word.strip('"'))[0] for word in line.split()[2:]}
    rest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split("[<>=]", need)[0] for need in rest} - missing.NOT_FOR_PREDICTION
    assert names - listed == {"numpy", "numba", "pyyaml", "scikit-learn"}  # come with librosa and omegaconf


def test_a_package_that_is_installed_and_cannot_be_imported():
    """OpenCV without libGL, for example; it was reported as a defect of deiii."""
    words = broken_package(ImportError("libGL.so.1: cannot open shared object file", name="cv2"))
    assert words is not None and words.startswith("cv2 cannot be imported: libGL.so.1: cannot open")
    assert "apt-get install libgl1" in words
    assert broken_package(ImportError("cannot import name 'x'", name="deiii.data")) is None


def test_the_command_ends_with_one_line_for_such_a_package(tmp_path):
    package = tmp_path / "cv2"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    done = subprocess.run(
        [sys.executable, "-m", "deiii", "inspect", "a.mp4"], cwd=ROOT, capture_output=True, text=True,
        timeout=120, env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
    )  # fmt: skip
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: cv2 cannot be imported: libGL.so.1")
