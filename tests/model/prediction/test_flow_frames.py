"""A network that reads the flow of several frames: training, evaluation, export and prediction agree."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from deiii import load
from deiii.__main__ import main
from deiii.data.config.load import load_stored
from deiii.data.loader.feature_set import FeatureSet
from deiii.model.prediction.export import describe_inputs, export
from deiii.model.training.loaders import make_loader
from deiii.model.training.run_folder import RunFolder
from tests.helpers.long_clips import repeated
from tests.model.prediction.test_agreement import SAME, WITH_ONNX, evaluated, exported_program, run_onnx

BASE = ("train.epochs=1", "loader.batch=2", "train.device=cpu", "model.width=32", "loader.steps=4")


def trained(seen_run, folder, *words: str) -> RunFolder:
    """A network after one epoch, which is a few steps."""
    made = ["configs/tiny.yaml", "corpus.name=table", f"corpus.root={seen_run / 'raw'}", "faces.size=64"]
    made += [f"cache={seen_run / 'cache'}", "corpus.table=clips.csv", "model.channels=[8,16]", *BASE]
    made += ["loader.crop=56", f"train.run={folder}", *words]
    assert main(["train", *made, "--quiet"]) == 0
    return RunFolder(folder)


@pytest.mark.parametrize(
    ("join", "onnx"),
    [
        ("sum", False),
        ("stack", False),
        pytest.param("sum", True, marks=pytest.mark.slow),
        pytest.param("stack", True, marks=pytest.mark.slow),
    ],
)
def test_evaluation_prediction_and_export_agree(seen_run, tmp_path, join, onnx):
    if onnx and not WITH_ONNX:
        pytest.skip("needs the extra: pip install 'deiii[onnx]'")
    run = trained(seen_run, tmp_path / "run", "loader.flow_frames=3", f"loader.flow_join={join}")
    wanted = evaluated(run)
    folder = export(run.path, tmp_path / "exported", onnx=onnx)
    config = load_stored(run.config)
    about = json.loads((folder / "deiii.json").read_text())["inputs"]["flow"]
    assert about["shape"] == ["B", 4, 6 if join == "stack" else 2, 56, 56]
    assert "of 3 successive native frames from the step's on, 0 where not valid" in about["meaning"]
    features = FeatureSet.open(config)
    (batch,) = make_loader(
        features, features.rows(wanted), config, torch.device("cpu"), training=False
    ).epoch(0)
    assert batch.flow_mask.any()
    inputs = {name: getattr(batch, name) for name in describe_inputs(config)}
    with torch.no_grad():
        program = exported_program(folder / "deiii.pt2")(inputs)["fused_probabilities"].numpy()
    for row, (clip, (_, probabilities)) in enumerate(wanted.items()):
        assert program[row] == pytest.approx(probabilities, abs=SAME)
        if onnx:
            one = {name: x[row : row + 1] for name, x in inputs.items()}
            assert run_onnx(folder, one) == pytest.approx(probabilities, abs=SAME)
        media = seen_run / "raw" / next(c.path for c in features.clips if c.id == clip)
        backends = [(run.path, "torch"), (folder, "torch"), *([(folder, "onnx")] if onnx else [])]
        for source, backend in backends:
            found = load(source, device="cpu", backend=backend).predict(media)
            assert list(found.probabilities.values()) == pytest.approx(probabilities, abs=SAME), backend


def test_the_flow_of_later_frames_has_an_effect(seen_run, tmp_path):
    """On the gradients, with which the network is trained, and on its outputs."""
    run = trained(seen_run, tmp_path / "run", "loader.flow_frames=3", "loader.flow_join=stack")
    network = load(run.path, device="cpu").network
    config = load_stored(run.config)
    batch = next(
        make_loader(FeatureSet.open(config), np.arange(2), config, torch.device("cpu"), True).epoch(0)
    )
    flow = batch.flow[batch.flow_mask]
    assert all(flow[:, channel].abs().max() > 0 for channel in range(6))
    network(batch).fused.logits.sum().backward()
    assert (network.flow_encoder.stem[0].weight.grad.abs().amax(dim=(0, 2, 3)) > 0).all()


def test_windows_read_in_order_get_the_flow_of_the_whole_file(seen_run, tmp_path):
    """The last rows of a window read as many frames as the window has left, in both ways."""
    run = trained(seen_run, tmp_path / "run", "loader.flow_frames=8", "loader.stride=1", "model.flow_scale=5")
    network = load(run.path, device="cpu")
    clip = repeated(str(seen_run / "raw/c0.mp4"), tmp_path / "long.mp4", 4.0)
    whole = network.predict(clip, window_s=0.6, hop_s=0.2).timeline
    moments = list(network.stream(clip, window_s=0.6, hop_s=0.2))
    assert [m.time_s for m in moments] == pytest.approx(whole.time.tolist())
    streamed = np.array([list(m.probabilities.values()) for m in moments])
    assert np.abs(streamed - whole.probabilities).max() < 1e-5
    assert np.ptp(whole.probabilities[:, 0]) > 1e-3
