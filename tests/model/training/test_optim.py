"""Schedule, decay groups and averaged weights."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from deiii.data.config.schema import TrainConfig
from deiii.model.network.heads import Head
from deiii.model.training.optim import AveragedWeights, learning_rate, make_optimizer, set_learning_rate
from tests.helpers.model_helpers import small_config


def test_schedule_rises_then_falls():
    config = TrainConfig(lr=2.0, warmup=0.1)
    rates = [learning_rate(step, 100, config) for step in range(100)]
    assert rates[:10] == pytest.approx([0.2 * (i + 1) for i in range(10)])
    assert rates[10] == pytest.approx(2.0) and rates[-1] < 0.03
    assert all(a >= b for a, b in zip(rates[10:], rates[11:], strict=False))
    assert rates[55] == pytest.approx(0.02 + 0.5 * 1.98)
    assert learning_rate(0, 1, config) > 0


def test_vectors_are_not_decayed():
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    optimizer = make_optimizer(model, TrainConfig(weight_decay=0.5), torch.device("cpu"))
    decayed = [p.shape for p in optimizer.param_groups[0]["params"]]
    assert decayed == [(3, 3)] and optimizer.param_groups[0]["weight_decay"] == 0.5
    assert len(optimizer.param_groups[1]["params"]) == 3 and optimizer.param_groups[1]["weight_decay"] == 0


@pytest.mark.parametrize("trunk", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_the_trunk_moves_by_its_share_of_the_learning_rate(trunk, kind):
    """Both optimisers move a weight by the learning rate times a direction that does not depend on it."""
    moved = {}
    for share in (1.0, trunk):
        torch.manual_seed(0)
        model = nn.ModuleDict({"encoder": nn.Linear(3, 3), "fused_head": Head(small_config(), 1, 3, [])})
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        config = TrainConfig(lr=1.0, optimizer=kind, trunk_lr=share, weight_decay=0.1)
        optimizer = make_optimizer(model, config, torch.device("cpu"))
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        set_learning_rate(optimizer, 0.5)
        optimizer.step()
        moved[share] = {name: p.detach() - before[name] for name, p in model.named_parameters()}
    assert any(name.startswith("fused_head.") for name in moved[1.0])
    for name, change in moved[1.0].items():
        expected = change * (1 if name.startswith("fused_head.") else trunk)
        assert torch.allclose(moved[trunk][name], expected, atol=1e-6), name
        assert change.abs().max() > 0


def test_average_follows_and_swaps():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = AveragedWeights(model, 0.9)
    expected = 0.0
    for step in range(200):
        model.weight.data.fill_(1.0)
        average.prepare(step)
        average.update()
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * 1.0
    assert average.state()["weight"].item() == pytest.approx(expected, abs=1e-6)
    average.swap()
    assert model.weight.item() == pytest.approx(expected, abs=1e-6)
    average.swap()
    assert model.weight.item() == 1.0


def test_no_decay_keeps_no_average():
    average = AveragedWeights(nn.Linear(1, 1), 0.0)
    average.prepare(0)
    average.update()
    average.swap()
    assert average.state() == {}


def test_sgd_brings_a_linear_layer_to_logistic_regression():
    """On correlated features, with the decay that corresponds to scikit-learn's C."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 90)
    x = rng.normal(size=(90, 1)) + rng.normal(size=(90, 12)) + np.eye(3)[labels] @ rng.normal(size=(3, 12))
    decay = 0.2
    reference = LogisticRegression(C=1 / (decay * len(x)), tol=1e-8, max_iter=2000).fit(x, labels)
    model = nn.Linear(12, 3)
    optimizer = make_optimizer(
        model, TrainConfig(optimizer="sgd", lr=0.05, weight_decay=decay), torch.device("cpu")
    )
    features, target = torch.from_numpy(x).float(), torch.from_numpy(labels)
    for _ in range(500):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(features), target).backward()
        optimizer.step()
    found = model(features).softmax(dim=1).detach().numpy()
    np.testing.assert_allclose(found, reference.predict_proba(x), atol=1e-3)
