"""What a worker examines and reports, in one process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import pytest
from distributed.protocol.pickle import loads

from deiii.data.cluster.on_workers import (
    MOUNT,
    SAME_VERSION,
    WorkerCheck,
    checked_task,
    packed,
    run_checked,
)
from deiii.data.cluster.worker_checks import SAMPLE, sample_of
from deiii.data.tools.os_errors import import_remedy, imported_package

ROOT = Path(__file__).parents[3]
BARE = """
import sys
REFUSED = "av cv2 h5py librosa numba numpy omegaconf onnxruntime torch".split()
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in REFUSED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
from deiii.data.cluster.on_workers import WorkerCheck
print(WorkerCheck("", "", "", {"logmel": 1}).defect().text)
print(WorkerCheck("", "", "", modules=["deiii.pipeline.stages.shard"]).defect().text)
"""


def test_a_check_is_unpacked_and_answered_where_no_package_is_installed():
    """A worker that cannot unpack what it receives ends without an answer."""
    done = subprocess.run([sys.executable, "-c", BARE], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == 2 * ["cannot import numpy (No module named 'numpy')"], done.stderr


def test_the_sample_is_evenly_spaced_and_holds_what_is_there(tmp_path):
    paths = [f"{n}.wav" for n in range(3 * SAMPLE)]
    for n, path in enumerate(paths):
        (tmp_path / path).write_bytes(bytes(n))
    (tmp_path / "3.wav").unlink()
    assert sample_of(str(tmp_path), paths) == tuple((f"{n}.wav", n) for n in range(0, 24, 3) if n != 3)
    assert sample_of(str(tmp_path), paths[:2]) == (("0.wav", 0), ("1.wav", 1))
    assert sample_of(str(tmp_path), []) == ()


def test_files_that_a_worker_sees_otherwise(tmp_path):
    (tmp_path / "probe").write_text("token")
    (tmp_path / "a.wav").write_bytes(bytes(9))

    def defect(path: str, size: int):
        return WorkerCheck(str(tmp_path / "probe"), "token", str(tmp_path), files=[(path, size)]).defect()

    lost, short = defect("b.wav", 9), defect("a.wav", 10)
    assert lost == (f"does not see {tmp_path / 'b.wav'}, which this process sees", MOUNT)
    assert short == (f"sees {tmp_path / 'a.wav'} with 9 bytes, which has 10 for this process", MOUNT)
    assert defect("a.wav", 9) is None
    # A process looks once: a file may change during a run.
    assert defect("a.wav", 10) is None


def test_another_decoder_is_a_defect_and_media_that_are_not_read_need_none(tmp_path):
    """FFmpeg 8 and 9 return audio of different length for some files; a cache would hold both."""
    (tmp_path / "probe").write_text("token")
    own = av.library_versions["libavcodec"][0]
    checks = [WorkerCheck(str(tmp_path / "probe"), "token", "", decoder=n) for n in (own + 1, own, 0)]
    first, *others = [check.defect() for check in checks]
    assert first == (f"decodes media with version {own} of libavcodec (PyAV), not {own + 1}", SAME_VERSION)
    assert others == [None, None]


def test_bytes_of_a_task_make_the_call_where_they_are_unpacked():
    assert loads(checked_task(None, max, 3, 7)) == 7
    with pytest.raises(ZeroDivisionError):
        loads(checked_task(None, divmod, 1, 0))


def test_a_task_on_this_machine_is_not_checked():
    assert run_checked(None, packed(max, 3, 7)) == 7


def test_a_package_whose_own_import_fails_is_named(tmp_path, monkeypatch):
    """An error of the dynamic linker has no name of a module."""
    package = tmp_path / "broken_one"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    check = WorkerCheck("", "", "", modules=["broken_one"])
    found = check.defect()
    assert found is not None and found.text.startswith("cannot import broken_one (libGL.so.1: ")
    assert "install the library libGL.so.1" in found.remedy and "apt-get install libgl1" in found.remedy


@pytest.mark.parametrize("name", ["torch", "torch.nn"])
def test_the_name_of_a_missing_module_counts(name):
    error = ModuleNotFoundError(f"No module named {name!r}", name=name)
    assert imported_package(error) == "torch"
    assert import_remedy(error).startswith("install deiii with the packages")
