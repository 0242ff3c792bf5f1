"""Every peer can be exported: as a program for any batch size, and for onnxruntime at any length."""

from __future__ import annotations

import pytest
import torch

from deiii.data.config.load import load_config
from deiii.model.network.task import Task
from deiii.model.prediction.export import ExportError, example, write_onnx_program, write_program
from tests.model.peers.test_invariants import PEERS

TASK = Task(("a", "b", "c"), ("valence",), ((-1.0, 1.0),))
SMALL = ["model.width=16", "model.heads=2", "model.channels=[8,8]", "model.grid=2"]
SMALL += ["loader.crop=32", "loader.steps=4", "loader.audio_steps=40"]


def network_of(name):
    config = load_config("tiny", [*SMALL, f"model.name={name}"])
    torch.manual_seed(0)
    return TASK.network(config).eval(), config


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n == "gru" else pytest.mark.slow) for n in PEERS]
)
def test_the_program_gives_the_outputs_of_the_network(name, tmp_path):
    network, config = network_of(name)
    assert write_program(network, config, tmp_path / "deiii.pt2") <= 1e-4
    program = torch.export.load(tmp_path / "deiii.pt2").module()
    inputs = example(config, 3, seed=7)
    found = program(inputs)
    heads = {"fused", "video", "audio"} if name in ("late", "vavl") else {"fused"}
    assert {key.split("_")[0] for key in found} == heads
    torch.testing.assert_close(found["fused_probabilities"].sum(dim=1), torch.ones(3))


@pytest.mark.slow
@pytest.mark.parametrize("name", PEERS)
def test_onnxruntime_gives_the_outputs_of_the_network(name, tmp_path):
    pytest.importorskip("onnxscript")
    network, config = network_of(name)
    if name == "gru":  # a recurrence over a free number of steps
        with pytest.raises(ExportError, match="PyTorch cannot write this network .*--onnx") as caught:
            write_onnx_program(network, config, tmp_path / "model.onnx")
        assert "stack trace" not in str(caught.value)  # the user sees none
        return
    assert write_onnx_program(network, config, tmp_path / "model.onnx") <= 1e-4
