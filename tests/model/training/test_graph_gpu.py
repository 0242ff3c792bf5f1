"""Recorded training steps on a real GPU give the result of eager ones."""

import numpy as np
import pytest
import torch

from benchmarks.feature_cache import open_cache
from deiii.data.config.load import load_config
from deiii.model.distributed.devices import make_deterministic, seed_all
from deiii.model.network.gpu import side_stream
from deiii.model.network.task import Task
from deiii.model.training.checkpoint import load
from deiii.model.training.loaders import make_loader
from deiii.model.training.run_folder import RunFolder
from deiii.model.training.trainer import Diverged, Trainer, TrainingSetup

pytestmark = pytest.mark.gpu
GPU = torch.device("cuda", 0)


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return open_cache(tmp_path_factory.mktemp("cache"), clips=44, frames=20, size=64)


def trainer(features, folder, launch, *settings) -> Trainer:
    words = ["loader.batch=8", "loader.crop=56", "train.epochs=3", "train.ema=0.9", *settings]
    config = load_config(["configs/tiny.yaml"], [f"train.launch={launch}", *words])
    make_deterministic(GPU)
    seed_all(config.train.seed)
    model = Task.of(features, config).network(config).to(GPU)
    rows = features.rows([clip.id for clip in features.clips])
    loaders = [
        make_loader(features, part, config, GPU, kind)
        for part, kind in ((rows[:36], True), (rows[36:], False))
    ]
    run = RunFolder(folder)
    run.create(config, {"keys": {}, "split": "x", "classes": []}, resume=True)
    ids = [clip.id for clip in features.clips]
    return Trainer(model, TrainingSetup(*loaders, config, run, GPU, ids, {}))


def losses(history):
    return [[row[name] for name in ("train_loss", "val_loss", "lr")] for row in history]


@pytest.mark.parametrize("residency", ["stream", "device"])
def test_losses_and_weights_are_those_of_eager_steps(features, tmp_path, residency):
    found = {}
    for launch in ("eager", "graph"):
        one = trainer(features, tmp_path / launch, launch, f"loader.residency={residency}")
        one.fit(progress=False)
        found[launch] = losses(one.history), load(tmp_path / launch / "last.safetensors")[0]
        assert (one.graphs is not None and len(one.graphs.recorded) == 1) == (launch == "graph")
    np.testing.assert_allclose(found["graph"][0], found["eager"][0], rtol=1e-4)
    for name, expected in found["eager"][1].items():
        torch.testing.assert_close(found["graph"][1][name], expected, rtol=1e-3, atol=1e-4)


def test_streams_beside_each_other_change_no_bit(features, tmp_path, monkeypatch):
    """Frames, flow and audio are encoded at the same time in a recording: results are those of one stream."""
    found = []
    for side in (True, False):
        if not side:
            monkeypatch.setattr(side_stream, "recording", lambda device: False)
        one = trainer(features, tmp_path / str(side), "graph", "loader.crop=64")
        one.fit(progress=False)
        found.append((losses(one.history), load(tmp_path / str(side) / "last.safetensors")[0]))
    assert found[0][0] == found[1][0]
    for name, expected in found[1][1].items():
        assert torch.equal(found[0][1][name], expected), name


def test_a_resumed_run_follows_the_same_curve(features, tmp_path):
    whole = trainer(features, tmp_path / "whole", "graph")
    whole.fit(progress=False)
    first = trainer(features, tmp_path / "cut", "graph")
    first.settings.epochs = 2
    first.fit(progress=False)
    second = trainer(features, tmp_path / "cut", "graph")
    second.fit(resume=True, progress=False)
    np.testing.assert_allclose(losses(second.history), losses(whole.history), rtol=1e-4)


def test_a_diverged_step_is_noticed(features, tmp_path):
    one = trainer(features, tmp_path, "graph", "train.lr=1e-3")
    with torch.no_grad():
        next(one.model.parameters()).fill_(float("nan"))
    with pytest.raises(Diverged, match="at step 0"):
        one.fit(progress=False)
