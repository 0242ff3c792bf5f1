"""``model.onnx`` of networks that read features of frozen encoders, for every place where these enter."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deiii.data.cache.stages import stages
from deiii.model.prediction.export import Program
from deiii.model.prediction.onnx_file import write_onnx
from tests.helpers.extra_stages import APPEARANCE, SPEECH
from tests.helpers.model_helpers import random_batch
from tests.helpers.network_switches import make

pytest.importorskip("onnxscript", reason="needs the extra: pip install 'deiii[onnx]'")

pytestmark = pytest.mark.slow

FRAMES = ("frames", "flow", "video_time", "video_mask", "flow_mask")


def inputs_of(clips: int, seed: int, length: int = 1) -> dict[str, torch.Tensor]:
    """Random inputs; some rows are masked, and some of different streams have the same time."""
    batch = random_batch(clips, 4 * length, 32 * length, seed=seed, extra=True)
    same = replace(batch.extra["appearance"], time=batch.video_time.clone())
    batch = replace(batch, extra={**batch.extra, "appearance": same})
    inputs = {name: getattr(batch, name) for name in (*FRAMES, "logmel", "audio_time", "audio_mask")}
    for name, x in batch.extra.items():
        inputs |= {f"{name}_{field}": getattr(x, field) for field in ("values", "time", "mask")}
    for name in inputs:
        if name.endswith("_mask"):
            inputs[name] = torch.rand(inputs[name].shape, generator=torch.Generator().manual_seed(seed)) > 0.3
    return inputs


@pytest.mark.parametrize("join", ["separate", "conformer", "fusion", "pooled"])
def test_a_network_of_streams_is_written_for_onnxruntime(join, monkeypatch, tmp_path):
    """Streams that join a Conformer are sorted by time, for which PyTorch's exporter lacks a translation."""
    for stage in (SPEECH, APPEARANCE):
        monkeypatch.setitem(stages(), stage.name, stage)
    names = ["speech", "appearance"]
    network = make(0, extra=names, join=join)
    for p in network.parameters():  # away from the start, where branches and gates are small
        p.data += 0.1 * torch.randn_like(p)
    lengths = {}
    for name in (example := inputs_of(2, 0)):
        lengths[name] = "hops" if name.split("_")[0] in ("logmel", "audio") else "steps"
        if name.split("_")[0] == "speech":
            lengths[name] = "speech_rows"
    trials = [inputs_of(1, 1), inputs_of(5, 2), inputs_of(3, 3, length=2)]
    program = Program(network, names)
    assert write_onnx(program, example, lengths, trials, tmp_path / "model.onnx") < 1e-4
