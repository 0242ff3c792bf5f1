"""Nothing in a training step, nor in the GPU's augmentation, waits for the device."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from deiii.data.config.schema import LoaderConfig
from deiii.data.loader.augment import Augment, spec_masks
from deiii.data.loader.augmentation.video import batched
from tests.data.loader.test_augment import compact
from tests.helpers.no_waits import no_waits
from tests.model.training.test_trainer import CPU, clips, trainer

CONFIGS = [
    LoaderConfig(crop=6),
    LoaderConfig(crop=6, zoom=0.3, rotate=30, erase=0.5, grey=0.5, stretch=0.1),
]
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "aten.equal")


class NoSync(TorchDispatchMode):
    """Fails at an operation whose result the host must read, or whose shape depends on values."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert not any(word in str(func) for word in WAITS), f"{func} waits for the device"
        return func(*args, **(kwargs or {}))


def test_the_mode_catches_a_read():
    with pytest.raises(AssertionError, match="waits"), NoSync():
        torch.ones(1).sum().item()


def test_a_training_step_reads_nothing_back(tmp_path):
    run = trainer(tmp_path, modality_dropout=0.5, clip_norm=1.0)
    batch = clips(8, 5)
    run.training_step.prepare(0)
    run.training_step(batch)  # the optimiser makes its state in the first step
    with NoSync():
        run.training_step(batch)
    assert run.device == CPU


@pytest.mark.parametrize("config", CONFIGS)
def test_the_gpus_augmentation_reads_nothing_back(config, monkeypatch):
    augment = Augment(config, training=True)
    expected = augment(compact())
    monkeypatch.setattr("deiii.data.loader.augment.one_pass", batched)
    with NoSync():
        found = augment(compact())
        spec_masks(torch.rand(4, 8), torch.tensor([3, 9, 12, 1]), 12, 8)
    torch.testing.assert_close(found.frames, expected.frames, atol=1e-5, rtol=1e-5)
    exact = config.zoom == 0  # interpolation adds four products in another order
    torch.testing.assert_close(found.flow, expected.flow, atol=0 if exact else 1e-3, rtol=0)


@pytest.mark.gpu
@pytest.mark.parametrize("config", CONFIGS)
def test_cuda_agrees(config):
    augment, batch = Augment(config, training=True), compact()
    batch = batch.map(lambda tensor: tensor.cuda())
    augment(batch)
    with no_waits():
        found = augment(batch)
    on_cpu = augment(compact())
    torch.testing.assert_close(found.frames.cpu(), on_cpu.frames, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.flow.cpu(), on_cpu.flow, atol=1e-3, rtol=1e-4)
