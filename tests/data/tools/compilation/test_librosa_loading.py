"""librosa's functions are compiled by one process at a time, and once for each version and processor."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from deiii.data.tools.compilation import librosa_loading
from deiii.data.tools.compilation.librosa_loading import load_librosa

# Two processes that compile together; the second has compiled a function of its own before.
FUNCTIONS = """
import sys, time
if sys.argv[1] == "second":
    import numba
    @numba.njit
    def more(a):
        return a + 1
    more(1), more(1.0)
from deiii.data.tools.compilation.librosa_loading import load_librosa
while time.time() < float(sys.argv[2]):
    time.sleep(0.001)
import numpy as np
sound = np.random.default_rng(0).normal(size=(3, 50)).astype("f4")
print(int(load_librosa().util.localmax(sound, axis=-1).sum()))
"""


@pytest.fixture
def compiled(tmp_path, monkeypatch):
    """The places of compilations in time, in an empty cache."""
    spans = []

    def compile_slowly(librosa):
        began = time.monotonic()
        time.sleep(0.2)
        spans.append((began, time.monotonic()))

    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "numba"))
    monkeypatch.setattr(librosa_loading, "_load", compile_slowly)
    return spans


def test_the_first_one_compiles_and_the_others_wait_for_it(compiled):
    threads = [threading.Thread(target=load_librosa) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(compiled) == 1
    assert load_librosa().filters.mel(sr=16000, n_fft=400, n_mels=40).shape == (40, 201)
    assert len(compiled) == 1


@pytest.mark.parametrize("package", ["librosa", "numba"])
def test_another_version_is_compiled_anew(compiled, monkeypatch, package):
    load_librosa()
    known = librosa_loading.version
    monkeypatch.setattr(librosa_loading, "version", lambda name: "0.1" if name == package else known(name))
    load_librosa()
    load_librosa()
    assert len(compiled) == 2


def test_a_cache_of_which_something_was_deleted_is_compiled_anew(compiled, tmp_path):
    load_librosa()
    (tmp_path / "numba/x").mkdir()
    index = tmp_path / "numba/x/utils.nbi"
    index.touch()
    (done,) = (p for p in (tmp_path / "numba/deiii-librosa").iterdir() if p.name[0] != ".")
    done.write_text("x/utils.nbi")
    load_librosa()
    assert len(compiled) == 1
    index.unlink()
    load_librosa()
    assert len(compiled) == 2


def test_a_stopped_compilation_is_repeated(compiled, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(librosa_loading, "_load", lambda librosa: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            load_librosa()
    load_librosa()
    assert len(compiled) == 1


def test_it_is_loaded_where_no_lock_can_be_made(compiled, tmp_path):
    (tmp_path / "numba").write_text("a file in the place of the folder")
    assert load_librosa().__name__ == "librosa" and not compiled


@pytest.mark.slow  # librosa's functions are compiled anew, for half a minute
def test_two_processes_with_an_empty_cache_leave_one_that_works(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "numba")}

    def start(name: str, at: float) -> subprocess.Popen:
        command = [sys.executable, "-c", FUNCTIONS, name, str(at)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    began = time.time()
    together = [start("first", began + 4), start("second", began + 4.7)]
    found = [process.communicate()[0] for process in [*together, start("first", 0), start("second", 0)]]
    sound = np.random.default_rng(0).normal(size=(3, 50)).astype("f4")
    larger = (sound[:, 1:-1] > sound[:, :-2]) & (sound[:, 1:-1] >= sound[:, 2:])
    expected = larger.sum() + (sound[:, -1] > sound[:, -2]).sum()
    assert found == [f"{expected}\n"] * 4
