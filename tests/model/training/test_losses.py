"""Losses against PyTorch and the formula, and without effect of rows that do not count."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from deiii.model.network.heads import Outputs, Scores
from deiii.model.training.losses import ccc_loss, class_loss, inverse_frequency, total_loss
from tests.helpers.model_helpers import CLASSES, random_batch

ALL = torch.ones(6, dtype=torch.bool)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_loss_equals_torchs(smoothing):
    logits, label = torch.randn(6, 4), torch.randint(4, (6,))
    ours = class_loss(logits, F.one_hot(label, 4).float(), ALL, smoothing)
    torch.testing.assert_close(ours, F.cross_entropy(logits, label, label_smoothing=smoothing))


def test_weighted_class_loss_equals_torchs():
    logits, label, weights = torch.randn(6, 4), torch.randint(4, (6,)), torch.tensor([0.5, 2.0, 1.0, 0.1])
    ours = class_loss(logits, F.one_hot(label, 4).float(), ALL, 0.0, weights)
    torch.testing.assert_close(ours, F.cross_entropy(logits, label, weights))


def test_the_weight_of_a_clip_is_its_share_of_the_mean():
    """A clip of weight 3 counts as three clips of weight 1; the loss reads the weights by the clips' rows."""
    batch, heads = random_batch(6), Scores(torch.randn(6, CLASSES), None, ALL)
    batch = replace(batch, index=torch.tensor([4, 0, 2, 1, 3, -1]), real=torch.arange(6) < 5)
    weights = torch.tensor([3.0, 1.0, 1.0, 1.0, 1.0, 7.0])  # the last one is of no clip of the batch
    loss, _ = total_loss(Outputs(heads), batch, label_smoothing=0.1, clip_weights=weights)
    rows = torch.tensor([0, 1, 1, 1, 2, 3, 4])
    expected = class_loss(heads.logits[rows], batch.soft[rows], torch.ones(7, dtype=torch.bool), 0.1)
    torch.testing.assert_close(loss, expected)


def test_soft_targets_equal_torchs():
    logits, soft = torch.randn(6, 4), torch.rand(6, 4).softmax(1)
    torch.testing.assert_close(class_loss(logits, soft, ALL), F.cross_entropy(logits, soft))


def test_rows_that_do_not_count_add_nothing_even_nan():
    logits, soft = torch.randn(6, 4, requires_grad=True), F.one_hot(torch.arange(6) % 4, 4).float()
    counts = torch.tensor([1, 1, 0, 1, 0, 1], dtype=torch.bool)
    soft[5] = 0  # a clip without a label
    expected = class_loss(logits[[0, 1, 3]], soft[[0, 1, 3]], ALL[:3])
    broken = logits.clone()
    broken[2] = float("nan")
    found = class_loss(broken, soft, counts)
    torch.testing.assert_close(found, expected)
    none = class_loss(logits, soft, ~ALL)
    none.backward()
    assert none == 0 and logits.grad.isfinite().all()


def formula(x, y):
    """CCC from the correlation coefficient, as Lin (1989) wrote it, which is another way than the code's."""
    rho = np.corrcoef(x, y)[0, 1]
    return 2 * rho * x.std() * y.std() / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


def test_ccc_loss_equals_the_formula_on_known_values():
    rng = np.random.default_rng(0)
    predicted, target = rng.normal(size=(9, 2)), rng.normal(size=(9, 2))
    target[[1, 4], 0] = np.nan
    counts = np.ones(9, bool)
    counts[7] = False
    expected = 0.0
    for a in range(2):
        known = counts & ~np.isnan(target[:, a])
        expected += 1 - formula(predicted[known, a], target[known, a])
    found = ccc_loss(torch.tensor(predicted), torch.tensor(target), torch.tensor(counts))
    assert found.item() == pytest.approx(expected, abs=1e-5)


def test_ccc_loss_at_its_ends():
    x = torch.tensor([[0.0], [1.0], [2.0]])
    every = torch.ones(3, dtype=torch.bool)
    assert ccc_loss(x, x, every).item() == pytest.approx(0, abs=1e-6)
    assert ccc_loss(2 - x, x, every).item() == pytest.approx(2, abs=1e-6)
    lonely = torch.tensor([True, False, False])
    constant = torch.zeros(3, 1, requires_grad=True)
    assert ccc_loss(x, x, lonely) == 0
    ccc_loss(constant, x, every).backward()
    assert constant.grad.isfinite().all()


def scores(batch, present=None, attributes=False, seed=0):
    g = torch.Generator().manual_seed(seed)
    n = len(batch)
    values = torch.rand(n, 2, generator=g) if attributes else None
    present = torch.ones(n, dtype=torch.bool) if present is None else present
    return Scores(torch.randn(n, CLASSES, generator=g), values, present)


def test_total_is_the_weighted_sum_and_masks_by_head():
    batch = random_batch(6)
    batch.real[5] = False
    deaf = torch.tensor([1, 0, 1, 1, 0, 1], dtype=torch.bool)
    outputs = Outputs(scores(batch, seed=1), scores(batch, seed=2), scores(batch, deaf, seed=3))
    loss, parts = total_loss(outputs, batch, w_video=0.3, w_audio=0.7)
    assert parts.keys() == {"fused", "video", "audio"}
    heard = [0, 2, 3]
    expected = F.cross_entropy(outputs.audio.logits[heard], batch.label[heard])
    torch.testing.assert_close(parts["audio"], expected)
    torch.testing.assert_close(loss, parts["fused"] + 0.3 * parts["video"] + 0.7 * parts["audio"])


def test_filler_rows_do_not_matter():
    batch = random_batch(6)
    outputs = Outputs(scores(batch, attributes=True))
    batch.real[4:] = False
    loss, _ = total_loss(outputs, batch)
    other = replace(
        batch, label=batch.label.clone(), soft=batch.soft.clone(), attributes=batch.attributes.clone()
    )
    other.soft[4:], other.attributes[4:] = 0.25, 0.9
    assert torch.equal(total_loss(outputs, other)[0], loss)


def test_class_weights_balance_the_classes():
    soft = F.one_hot(torch.tensor([0, 0, 0, 1]), 3).float()
    weights = inverse_frequency(soft)
    torch.testing.assert_close(weights, torch.tensor([4 / 6, 2.0, 0.0]))
    torch.testing.assert_close((soft @ weights).mean(), torch.tensor(1.0))
