"""``deiii doctor`` finds problems and says what to do about them."""

from __future__ import annotations

import os
import re
import shlex
from importlib import metadata
from types import SimpleNamespace

import av.codec
import pytest
import torch
from packaging.requirements import Requirement

from deiii.__main__ import main
from deiii.data.config.load import load_config
from deiii.data.config.schema import Config
from deiii.data.tools import weights
from deiii.pipeline import doctor
from tests.helpers.clipmaker import needs_shared, shared


def levels(config=None) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for result in doctor.run_checks(config or Config()):
        found.setdefault(result.about, set()).add(result.level)
    return found


def test_this_environment_has_no_problem(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DEIII_WEIGHTS_DIR", raising=False)
    monkeypatch.setenv("DEIII_CACHE_DIR", str(tmp_path))
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "0 problems" in printed and "libx264" in printed and "DEIII_WEIGHTS_DIR" in printed
    assert not list(tmp_path.iterdir())  # doctor writes nothing


def test_an_old_package_is_a_problem(monkeypatch, capsys):
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "13.0" if name == "av" else real(name))
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert re.search(r"av is 13\.0, but >=\d+\S* is needed", printed)
    assert re.search(r"-> pip install 'av>=[\d.]+'", printed)


def test_a_missing_codec_is_a_problem(monkeypatch):
    real = av.codec.Codec

    def without_flv(name, mode="r"):
        if name == "flv":
            raise ValueError(name)
        return real(name, mode)

    monkeypatch.setattr(av.codec, "Codec", without_flv)
    (result,) = [r for r in doctor.run_checks(Config()) if r.about == "decoders"]
    assert (
        result.level == "problem"
        and "CREMA-D" in result.text
        and "force-reinstall --no-deps 'av>=" in result.remedy
    )


def test_damaged_weights_are_a_problem(monkeypatch, tmp_path):
    (tmp_path / weights.YUNET).write_bytes(b"half of it")
    monkeypatch.setenv("DEIII_WEIGHTS_DIR", str(tmp_path))
    assert "problem" in levels()["weights"]


def test_missing_weights_are_named_with_their_setting(monkeypatch, tmp_path):
    monkeypatch.delenv("DEIII_WEIGHTS_DIR", raising=False)
    monkeypatch.setenv("DEIII_CACHE_DIR", str(tmp_path))
    (result,) = [r for r in doctor.run_checks(Config()) if r.about == "weights"]
    for words in (
        "(for faces.detector=yunet)",
        "resnet18-f37072fd.pth (for model.imagenet=true)",
        "silero_vad_16k_op15.onnx (for deiii predict --segments speech)",
    ):
        assert words in result.text
    assert "DEIII_WEIGHTS_DIR" in result.remedy


def test_a_damaged_file_of_voice_activity_is_a_problem(monkeypatch, tmp_path):
    (tmp_path / weights.SILERO_VAD).write_bytes(b"half of it")
    monkeypatch.setenv("DEIII_WEIGHTS_DIR", str(tmp_path))
    (result,) = [r for r in doctor.run_checks(Config()) if r.about == "weights" and r.level == "problem"]
    assert weights.SILERO_VAD in result.text


@needs_shared
def test_weights_are_found(monkeypatch, tmp_path):
    monkeypatch.setenv("DEIII_WEIGHTS_DIR", shared("weights"))
    monkeypatch.setenv("DEIII_CACHE_DIR", str(tmp_path))
    assert "ok" in levels()["weights"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_a_problem(tmp_path):
    tmp_path.chmod(0o500)
    assert levels(Config(cache=str(tmp_path / "cache")))["cache"] == {"problem"}


def test_a_folder_whose_name_is_too_long_is_a_problem_and_the_other_is_checked(tmp_path):
    found = levels(Config(cache=str(tmp_path / ("a" * 300))))
    assert found["cache"] == {"problem"} and "runs" in found and "disk" not in found


def test_a_file_that_cannot_be_read_is_no_reason_to_reinstall(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("DEIII_WEIGHTS_DIR", str(tmp_path / ("w" * 300)))
    found = [check for check in doctor.run_checks(Config()) if check.about == "weights"]
    assert [check.level for check in found] == ["problem"] and not found[0].remedy
    assert "the name is too long; use a shorter one" in found[0].text


def test_a_small_disk_is_worth_a_note(monkeypatch):
    usage = type("Usage", (), {"free": 2e9})()
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    assert levels()["cache"] == {"note"}


def test_a_check_that_raises_is_a_problem_and_the_others_run(monkeypatch):
    def broken(config):
        raise RuntimeError("no such thing")
        yield

    monkeypatch.setattr(doctor, "_codecs", broken)
    found = levels()
    assert found["broken"] == {"problem"} and "disk" not in found and "cache" in found


def test_an_environment_for_prediction_alone_has_no_problem(monkeypatch, capsys):
    real, spec = metadata.version, doctor.importlib.util.find_spec
    gone = ("torch", "torchvision", "dask", "distributed")

    def version(name: str) -> str:
        if name in gone:
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None if name in gone else spec(name))
    found = levels()
    assert found["packages"] == {"note"} and found["gpu"] == {"note"} and found["memory"] <= {"ok", "note"}
    gone = ("torch", "av")
    assert levels()["packages"] == {"problem"}


def test_every_name_is_followed_by_a_blank(capsys):
    """It was "transformersnot installed"."""
    doctor.report(iter(doctor.Check("note", about, "not installed") for about in ("gpu", "transformers")))
    first, second, _ = capsys.readouterr().out.splitlines()
    assert first.split() == ["note", "gpu", "not", "installed"]
    assert second.split() == ["note", "transformers", "not", "installed"]
    assert first.index("not installed") == second.index("not installed")


def test_what_a_stopped_pip_left_behind_is_no_problem(monkeypatch, tmp_path):
    (tmp_path / "~pencv-1.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    (found,) = doctor._packages(Config())
    assert found.level == "ok", found.text


def test_a_single_thread_is_not_several(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    (check,) = doctor._devices(Config())
    assert check.text == "none; PyTorch uses 1 thread"


def test_threads_and_cores_are_those_of_the_container(monkeypatch):
    """With --cpus 1, it said "1 usable cores" and "PyTorch uses 2 threads", but networks compute with one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(doctor, "usable_cores", lambda: 1)
    (check,) = doctor._devices(Config())
    assert check.text == "none; PyTorch uses 1 thread"
    (check,) = doctor._python(Config())
    assert check.text.endswith(", 1 usable core")


def test_a_folder_of_another_user_can_be_opened_for_this_one(monkeypatch, tmp_path):
    def refuse(**words):
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr(doctor.tempfile, "NamedTemporaryFile", refuse)
    first, _ = doctor._disk(load_config([], [f"cache={tmp_path}"]))
    assert first.text == f"{tmp_path} cannot be written: Permission denied"
    assert first.remedy == (
        f"allow this user (number {os.getuid()}) to write there (chmod, chown), or name another folder: "
        "cache=/path"
    )


def test_each_gpu_is_described_by_its_own_figures(monkeypatch):
    cards = [SimpleNamespace(name=name, total_memory=2**34, major=n) for name, n in (("T4", 7), ("L4", 8))]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i=0: cards[i or 0])
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    monkeypatch.setattr(torch.version, "hip", None)
    texts = [check.text for check in doctor._devices(Config())]
    assert texts == ["T4, 16 GiB, no bfloat16", "L4, 16 GiB, bfloat16"]


def test_a_second_opencv_is_removed_and_the_right_one_installed_again(monkeypatch):
    """Without --no-deps, pip installs the newest NumPy too, and without the bounds OpenCV 5."""
    names = {"opencv-contrib-python", "opencv-python-headless"}
    monkeypatch.setattr(doctor, "_installed", lambda: iter(names))
    (result,) = doctor._packages(Config())
    assert result.level == "problem"
    first, second = shlex.split(result.remedy.replace("&&", ";")), result.remedy.split(" && ")[1]
    assert first[:4] == ["pip", "uninstall", "--yes", "opencv-python-headless"]
    words = shlex.split(second)
    assert words[:4] == ["pip", "install", "--force-reinstall", "--no-deps"]
    assert Requirement(words[4]).name == "opencv-contrib-python" and len(words) == 5
    assert not Requirement(words[4]).specifier.contains("5.0")


def test_a_source_tree_that_is_not_installed_has_no_problem(monkeypatch):
    """With the packages installed and the tree on PYTHONPATH, the names of the packages are still checked."""
    real = metadata.version

    def missing(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", missing)
    (result,) = doctor._packages(Config())
    assert result.level == "ok" and f"torch {real('torch')}" in result.text
    without = {"deiii", "transformers"}

    def version(name: str) -> str:
        return missing(name) if name in without else real(name)

    monkeypatch.setattr(metadata, "version", version)
    (result,) = [found for found in doctor._encoders(Config()) if found.about == "transformers"]
    assert result.remedy.startswith("pip install 'transformers>=")
