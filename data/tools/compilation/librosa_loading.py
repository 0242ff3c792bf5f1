"""librosa, whose compiled functions are put into Numba's cache by one process at a time.

librosa compiles functions when its parts are loaded, for about 25 s, and Numba keeps them in files. Where two
processes compile one of them together and have compiled other functions before, the cache can hold the loop
of one process and the function of the other. Every later process that calls it then ends with a segmentation
fault, until somebody deletes the cache (https://github.com/numba/numba/issues/10128). So the first process
compiles, and the others wait for it.
"""

from __future__ import annotations

import importlib.util
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from deiii.data.tools.atomic_files import write_text
from deiii.data.tools.compilation.numba_jit import COMPILED, cache_of, use_writable_cache
from deiii.data.tools.processes.home_folder import replace_missing_home
from deiii.data.tools.writer_lock import writer_lock

FUNCTIONS = (
    "resample",
    "stft",
    "power_to_db",
    "feature.melspectrogram",
    "filters.mel",
)  # functions that deiii uses


def load_librosa() -> ModuleType:
    """Return librosa; the parts that are used here are then in Numba's cache.

    Where no folder can be written, each process compiles them when it uses them first.

    Raises:
        ModuleNotFoundError: librosa is not installed.

    >>> load_librosa().filters.mel(sr=16000, n_fft=400, n_mels=40).shape
    (40, 201)
    """
    replace_missing_home()
    import librosa  # loads its parts at their first use

    package = Path(librosa.__file__).parent
    use_writable_cache(package / "util")
    folder = cache_of(package / "util")
    if folder is None:
        return librosa
    done = folder / COMPILED / _state(package)
    if _is_compiled(folder, done):
        return librosa
    try:
        with writer_lock(done.parent, waiting=lambda line: None):
            if not _is_compiled(folder, done):
                _load(librosa)
                found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.nbi"))
                write_text(done, "\n".join(found))
    except OSError:  # the folder cannot be written
        pass
    return librosa


def load_parts() -> None:
    """Load the parts of librosa that are used here, which it would load at their first use.

    Together these are about a thousand modules and 180 MB. They must not count towards the memory limit of a
    clip: a module whose import fails stays in this process without some of its names.

    Raises:
        ImportError, OSError: librosa or a library that it needs is missing or damaged.

    >>> load_parts()
    """
    _load(load_librosa())


def _is_compiled(folder: Path, done: Path) -> bool:
    """Return whether the cache is complete, and none of its files was deleted since."""
    try:
        return all((folder / name).is_file() for name in done.read_text(encoding="utf-8").split("\n") if name)
    except OSError:
        return False


def _load(librosa: ModuleType) -> None:
    """Load the parts that are used; functions that are not in Numba's cache are compiled and stored."""
    for name in FUNCTIONS:
        found: object = librosa
        for part in name.split("."):
            found = getattr(found, part)


def _state(package: Path) -> str:
    """Return a name for all that the machine code depends on: versions, installed files, processor."""
    import llvmlite.binding  # loaded with librosa's parts in any case

    origin = importlib.util.cache_from_source(str(package / "x.py"))  # such as x.cpython-311.pyc
    python = Path(origin).suffixes[0].strip(".")
    installed = int((package / "__init__.py").stat().st_mtime)
    processor = llvmlite.binding.get_host_cpu_name()
    return f"{version('librosa')}-{installed}-numba-{version('numba')}-{python}-{processor}"
