"""Device settings: names that exist, names that do not, and GPUs that are not there."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from deiii.data.tools import devices
from deiii.data.tools.devices import DeviceError, pick_device, visible_devices


def gpus(monkeypatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch):
    gpus(monkeypatch, 0)
    assert pick_device("auto") == torch.device("cpu")
    gpus(monkeypatch, 2)
    assert pick_device("auto") == torch.device("cuda")
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize(
    "name",
    ["tpu?", "meta", "", "mps", "hip", "xpu:0", "0", "CUDA", "cuda:", "cuda:-1", "cuda:1x", "cuda:\u0661"],
)
def test_a_name_of_no_device_is_refused(name):
    with pytest.raises(DeviceError, match="flow.device=.*auto, cpu, cuda or"):
        pick_device(name, "flow.device")


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    gpus(monkeypatch, 0)
    with pytest.raises(DeviceError, match="train.device=cuda:0, but .* no CUDA device; use train.device=cpu"):
        pick_device("cuda:0")
    gpus(monkeypatch, 2)
    with pytest.raises(DeviceError, match="finds 2 CUDA devices.*numbered from 0; use train.device=cuda:1"):
        pick_device("cuda:5")


@pytest.mark.parametrize("number", [1, 127, 128, 200, 255, 256, 300, 10**20])
def test_no_number_becomes_that_of_another_gpu(monkeypatch, number):
    """PyTorch keeps the number in 8 bits, where 128 is -128 and 256 is 0."""
    gpus(monkeypatch, 1)
    message = f"train.device=cuda:{number}, but PyTorch finds 1 CUDA device.*; use train.device=cuda:0"
    with pytest.raises(DeviceError, match=message):
        pick_device(f"cuda:{number}")


def test_the_environment_that_hides_gpus_is_named(monkeypatch):
    gpus(monkeypatch, 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(DeviceError, match=r"no CUDA device \(CUDA_VISIBLE_DEVICES=\);"):
        pick_device("cuda")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", ["0"]),
        ("3,1", ["3", "1"]),
        ("0, 1", ["0", "1"]),
        ("GPU-8932f937-d72c,MIG-41b36db2", ["GPU-8932f937-d72c", "MIG-41b36db2"]),
        ("MIG-GPU-8932f937/1/0", ["MIG-GPU-8932f937/1/0"]),
        ("", []),
        ("-1", []),
        ("2,-1,0", ["2"]),
        ("NoDevFiles", []),
        ("0,1,", ["0", "1"]),
        ("1,1", []),
    ],
)
def test_visible_devices_are_those_of_cuda(value, expected):
    assert visible_devices(value) == expected


def test_importing_the_module_loads_no_torch():
    code = "import sys, deiii.data.tools.devices; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(("threads", "cores", "left"), [(8, 2, 2), (2, 8, 2), (4, 4, 4)])
def test_no_more_threads_than_cores_that_may_be_used(monkeypatch, threads, cores, left):
    held = [threads]
    monkeypatch.setattr(devices, "usable_cores", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: held[-1])
    monkeypatch.setattr(torch, "set_num_threads", held.append)
    assert devices.use_device("cpu") == torch.device("cpu")
    assert held[-1] == left


def test_gpus_that_pytorch_counts_but_cannot_use_are_none(monkeypatch):
    """As with a driver that is too old: the count comes from NVIDIA's management library."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.usable_gpus() == 0
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert devices.usable_gpus() == 2


def test_a_device_without_a_number_gets_that_of_this_thread(monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert devices.numbered(torch.device("cuda")) == torch.device("cuda", 1)
    assert devices.numbered(torch.device("cuda", 0)) == torch.device("cuda", 0)
    assert devices.numbered(torch.device("cpu")) == torch.device("cpu")
