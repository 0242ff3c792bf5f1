"""Name the packages to install where a command needs one that is not installed.

deiii can be installed without its dependencies, for example on a machine that only predicts. Any other
command then fails at the first package that is missing; the message names all of them.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable

from deiii.data.tools.counts import counted, listed
from deiii.data.tools.os_errors import import_remedy, imported_package
from deiii.data.tools.packages.requirements import missing_dependencies, name_of

# Packages by module, where the names differ; markupsafe comes with jinja2.
NAMES = {
    "PIL": "pillow",
    "cv2": "opencv-contrib-python",
    "markupsafe": "jinja2",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}

# What an overlay video needs besides what prediction needs.
FOR_OVERLAYS = ("matplotlib", "pillow")

# Dependencies that prediction with an exported network does not need, except for overlay videos.
NOT_FOR_PREDICTION = frozenset(
    ("bokeh", "dask", "distributed", "jinja2", "matplotlib", "pillow", "safetensors", "tensorboard", "torch")
) | {"torchvision"}


def missing_package(error: ModuleNotFoundError) -> str | None:
    """Return the message for a module that is not installed; ``None`` where that is a defect of deiii.

    >>> missing_package(ModuleNotFoundError("No module named 'deiii.x'", name="deiii.x")) is None
    True
    """
    module = (error.name or "").partition(".")[0]
    if module in ("", "deiii") or module in sys.stdlib_module_names or module in sys.modules:
        return None
    package = NAMES.get(module, module)
    lacking = missing_dependencies()
    names = [name_of(requirement) for requirement in lacking]
    if package not in names:
        return f"this command needs the Python package {package}: pip install {package}"
    remedy = f"pip install {' '.join(map(shlex.quote, lacking))}"
    drawing = [need for need in lacking if name_of(need) in FOR_OVERLAYS]
    overlay = package == "pillow" or (package == "matplotlib" and "pillow" not in names)
    if overlay and len(lacking) > len(drawing):
        own = " ".join(map(shlex.quote, drawing))
        asked = listed(map(name_of, drawing))
        return f"this command needs {asked}: pip install {own} (for all commands of deiii: {remedy})"
    return (
        f"this command needs {package}; deiii was installed without its dependencies, and "
        f"{counted(len(lacking), 'package is', 'packages are')} missing: {remedy}"
    )


def broken_package(error: ImportError) -> str | None:
    """Return the message for a package that is installed, but cannot be imported; ``None`` for deiii's own.

    Most often, a library of the system is missing, or two packages have versions that do not fit each other.

    >>> broken_package(ImportError("cannot import name 'x'", name="deiii.data")) is None
    True
    """
    module = imported_package(error)
    if module == "deiii" or module in sys.stdlib_module_names:
        return None
    return f"{module} cannot be imported: {error}; {import_remedy(error)}"


def only_predicts(missing: Iterable[str]) -> bool:
    """Return whether the packages that are missing leave an environment for prediction without PyTorch.

    >>> only_predicts(["torch", "dask"]), only_predicts(["torch", "av"]), only_predicts(["dask"])
    (True, False, False)
    """
    names = set(missing)
    return "torch" in names and names <= NOT_FOR_PREDICTION
