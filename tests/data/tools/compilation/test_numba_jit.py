"""A cache of compiled functions that cannot be written is copied to a place where it can."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from deiii.data.tools.compilation import numba_jit
from deiii.data.tools.compilation.numba_jit import use_writable_cache


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A package, the user's cache and the temporary folder; only the last one can be written."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    cache = tmp_path / "home/.cache/numba"
    (cache / "deiii-librosa").mkdir(parents=True)
    (cache / "util_12").mkdir()
    (cache / "util_12/utils.nbi").write_bytes(b"index")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("XDG_CACHE_HOME", "NUMBA_CACHE_DIR"):
        monkeypatch.setenv(name, "")  # so that what the function sets is removed after the test
        monkeypatch.delenv(name)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    usual = numba_jit._can_write
    monkeypatch.setattr(numba_jit, "_can_write", lambda folder: temporary in folder.parents and usual(folder))
    return tmp_path / "package", cache, temporary


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_functions_of_an_image_with_a_read_only_file_system_are_found(places):
    """They were compiled at every start, for half a minute."""
    package, cache, temporary = places
    use_writable_cache(package)
    folder = temporary / f"deiii-numba-{os.getuid()}"
    assert os.environ["NUMBA_CACHE_DIR"] == str(folder) and [*temporary.iterdir()] == [folder]
    assert files(folder) == files(cache) == {"util_12/utils.nbi": b"index"}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_cache_that_is_there_is_not_replaced(places):
    package, _, temporary = places
    folder = temporary / f"deiii-numba-{os.getuid()}"
    folder.mkdir()
    (folder / "own.nbi").touch()
    use_writable_cache(package)
    assert files(folder) == {"own.nbi": b""}


def test_a_cache_without_functions_of_librosa_is_not_copied(places):
    package, cache, temporary = places
    (cache / "deiii-librosa").rmdir()
    use_writable_cache(package)
    assert not files(temporary)


@pytest.mark.parametrize("step", ["copytree", "rename"])
def test_a_copy_that_fails_leaves_nothing(places, monkeypatch, step):
    """The disk is full, or another process was faster."""
    package, _, temporary = places

    def fail(*words):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os if step == "rename" else numba_jit.shutil, step, fail)
    use_writable_cache(package)
    assert not files(temporary) and len([*temporary.iterdir()]) == 1
