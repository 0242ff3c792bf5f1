"""How training steps are launched is decided by the setting, the device and the number of processes."""

import pytest
import torch

from deiii.data.config.schema import TrainConfig
from deiii.data.config.strict_yaml import ConfigError
from deiii.model.distributed.ranks import Ranks
from deiii.model.training.step.launch import choose_launch, compiles, launch_note

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def nvidia(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")


@pytest.mark.parametrize(
    ("launch", "device", "world", "chosen"),
    [
        ("auto", CPU, 1, "eager"),
        ("auto", GPU, 1, "graph"),
        ("auto", GPU, 2, "eager"),
        ("eager", GPU, 1, "eager"),
        ("graph", GPU, 1, "graph"),
        ("compile", CPU, 1, "compile"),
        ("compile", GPU, 1, "compile"),
    ],
)
def test_launch_by_device_and_processes(launch, device, world, chosen):
    assert choose_launch(TrainConfig(launch=launch), device, Ranks(world=world)) == chosen


@pytest.mark.parametrize(
    ("launch", "device", "world", "message"),
    [
        ("graph", CPU, 1, "train.launch=graph needs an NVIDIA GPU, and the device is cpu"),
        ("graph", GPU, 2, "train.launch=graph is for one process"),
        ("compile", GPU, 2, "train.launch=compile is for one process"),
    ],
)
def test_impossible_launches_are_refused(launch, device, world, message):
    with pytest.raises(ConfigError, match=message):
        choose_launch(TrainConfig(launch=launch), device, Ranks(world=world))


@pytest.mark.parametrize(
    ("launch", "device", "world", "says"),
    [("auto", GPU, 2, True), ("auto", GPU, 1, False), ("auto", CPU, 2, False), ("eager", GPU, 2, False)],
)
def test_several_processes_say_that_they_record_no_graph(launch, device, world, says):
    note = launch_note(TrainConfig(launch=launch), device, Ranks(world=world))
    assert ("not recorded as CUDA graphs" in note) == says


def test_a_gpu_of_another_maker_runs_eagerly(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    assert choose_launch(TrainConfig(), GPU, Ranks()) == "eager"


def test_compile_alone_is_launch_compile():
    assert choose_launch(TrainConfig(compile=True), CPU, Ranks()) == "compile"
    with pytest.raises(ConfigError, match="train.compile is for one process"):
        choose_launch(TrainConfig(compile=True), GPU, Ranks(world=2))


def test_a_compiled_step_can_be_recorded():
    assert choose_launch(TrainConfig(compile=True, launch="graph"), GPU, Ranks()) == "graph"
    assert compiles(TrainConfig(compile=True, launch="graph"))
    assert not compiles(TrainConfig(launch="graph"))
