"""All weights cast together give the results of autocast, which casts each by itself, to the last bit."""

import pytest
import torch
from torch import nn

from deiii.model.network.deiii import DEIII
from deiii.model.training.checkpoint import load_optimizer, optimizer_tensors
from deiii.model.training.losses import total_loss
from deiii.model.training.step.half_weights import HalfWeights, channels_last, weights_of_products
from tests.helpers.model_helpers import CLASSES, MELS, random_batch, small_config


def learned(model, learner, amp=True):
    """Loss, gradients and output types of one batch, with dropout off."""
    batch = random_batch()
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=amp):
        outputs = learner(batch)
    loss, _ = total_loss(outputs, batch)
    loss.backward()
    return loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("amp", [True, False])
def test_loss_and_gradients_are_those_of_autocast(amp):
    torch.manual_seed(0)
    model = DEIII(small_config(), CLASSES, 2, MELS)
    expected, expected_gradients = learned(model, model, amp)
    loss, gradients = learned(model, HalfWeights(model), amp)
    assert torch.equal(loss, expected)
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in gradients.items():
        assert gradient.dtype == torch.float32
        assert torch.equal(gradient, expected_gradients[name]), name


def test_weights_and_their_names_stay():
    model = DEIII(small_config(), CLASSES, 2, MELS)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    parameters = [id(p) for p in model.parameters()]
    learned(model, HalfWeights(model))
    after = model.state_dict()
    assert list(after) == list(before) and [id(p) for p in model.parameters()] == parameters
    assert all(torch.equal(after[n], t) for n, t in before.items() if "running" not in n and "num_" not in n)


class Foreign(nn.Module):
    """Stands for a module of another package that computes in float32 inside autocast."""

    __module__ = "elsewhere.encoders"

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        with torch.autocast("cpu", enabled=False):
            return self.inner(x.float())


def test_modules_of_other_packages_keep_their_weights():
    model = nn.Sequential(nn.Linear(4, 4), Foreign(), nn.Linear(4, 2))
    assert [n for n, _ in weights_of_products(model)] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert HalfWeights(model)(torch.randn(3, 4)).shape == (3, 2)


def test_weights_that_learn_nothing_have_no_gradient():
    model = nn.ModuleDict({"used": nn.Linear(4, 4), "unused": nn.Linear(4, 4)})
    model.forward = lambda x: model["used"](x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        HalfWeights(model)(torch.randn(3, 4)).float().sum().backward()
    assert model["used"].weight.grad is not None and model["unused"].weight.grad is None
    assert model["unused"].bias.grad is None


def test_norms_stay_in_full_precision():
    model = DEIII(small_config(), CLASSES, 2, MELS)
    held = dict(weights_of_products(model))
    assert held and not any("norm" in name for name in held)
    assert all(
        isinstance(model.get_submodule(n.rpartition(".")[0]), nn.Linear | nn.Conv2d | nn.Conv1d) for n in held
    )


def test_convolutions_with_channels_innermost_are_the_same_network():
    torch.manual_seed(0)
    model = DEIII(small_config(), CLASSES, 2, MELS).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = model(random_batch()).fused.logits
    channels_last(model)
    kernels = [p for _, p in model.named_parameters() if p.ndim == 4 and p.shape[2:] != (1, 1)]
    assert kernels and all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    torch.testing.assert_close(model(random_batch()).fused.logits, expected)


def test_a_resumed_optimiser_has_the_layout_of_its_weights():
    torch.manual_seed(0)
    states = []
    for innermost in (False, True):
        layer = nn.Conv2d(3, 4, 3)
        if innermost:
            channels_last(nn.Sequential(layer))
        optimizer = torch.optim.AdamW(layer.parameters())
        layer(torch.randn(2, 3, 8, 8)).sum().backward()
        optimizer.step()
        states.append((layer, optimizer))
    (_, first), (layer, second) = states
    load_optimizer(second, optimizer_tensors(first))
    for name in ("exp_avg", "exp_avg_sq"):
        loaded = second.state[layer.weight][name]
        assert loaded.stride() == layer.weight.stride()
        assert torch.equal(loaded, first.state[next(iter(first.state))][name])
