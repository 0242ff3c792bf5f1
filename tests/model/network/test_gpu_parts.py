"""The parts for a GPU give the results and gradients of the plain operations that they replace."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deiii.model.distributed.layers import BatchNorm2d, Dropout, count_together
from deiii.model.network.conformer import ConformerBlock
from deiii.model.network.gpu.casts import as_products_want
from deiii.model.network.gpu.fill import fill, fill_by_choice
from deiii.model.network.gpu.residual import add_branch, add_dropped
from deiii.model.network.positions import ClockRotary
from deiii.model.network.visual_encoders import _cells, one_product


@pytest.mark.parametrize("value", [0.0, -7.5])
def test_fill_replaces_hidden_places_and_their_gradients(value):
    x = torch.randn(4, 3, requires_grad=True)
    broken = x.detach().clone()
    hidden = torch.tensor([[True], [False], [False], [True]])
    broken[0] = float("nan")
    broken.requires_grad_()
    expected = torch.where(hidden, value, x.detach())
    for way in (fill, fill_by_choice):
        source = broken if way is fill_by_choice else broken.clone()
        found = way(source * 1, hidden, value)
        assert torch.equal(found, expected)
        (gradient,) = torch.autograd.grad(found.sum(), source)
        assert torch.equal(gradient, (~hidden).float().expand(4, 3))


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_a_branch_without_dropout_is_added(factor):
    x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    branch = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    expected = x + factor * branch
    torch.testing.assert_close(add_dropped(x, branch, 0.0, factor), expected)
    torch.testing.assert_close(add_branch(x, branch, Dropout(0.0), factor), expected)
    assert torch.autograd.gradcheck(lambda a, b: add_dropped(a, b, 0.0, factor), (x, branch))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_branch_with_dropout_learns_where_it_was_kept(dtype):
    x = torch.zeros(2000, requires_grad=True)
    branch = torch.ones(2000, dtype=dtype, requires_grad=True)
    torch.manual_seed(0)
    found = add_dropped(x, branch, 0.2, 0.5)
    torch.manual_seed(0)
    expected = 0.5 * F.dropout(torch.ones(2000, dtype=dtype), 0.2).float()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.detach(), expected, rtol=1e-2, atol=0)
    found.sum().backward()
    assert branch.grad.dtype == dtype
    torch.testing.assert_close(branch.grad.float(), expected, rtol=1e-2, atol=0)
    assert torch.equal(x.grad, torch.ones(2000))


def test_a_block_ends_its_branches_in_their_dropout():
    """Without dropout in evaluation, with it in training: as many kept values as the rate says."""
    torch.manual_seed(0)
    block = ConformerBlock(8, 2, 3, 0.9)
    x, mask = torch.randn(2, 6, 8), torch.ones(2, 6, dtype=torch.bool)
    rotation = ClockRotary(4)(torch.zeros(2, 6))
    still = block.eval()(x, mask, rotation)
    assert torch.equal(still, block(x, mask, rotation))
    assert not torch.equal(block.train()(x, mask, rotation), block(x, mask, rotation))


@pytest.mark.parametrize(("high", "wide"), [(6, 6), (7, 5)])
def test_averaging_in_one_product_is_that_of_rows_and_columns(high, wide):
    features = torch.randn(3, 4, high, wide)
    rows, cols = _cells(high, 3, features), _cells(wide, 3, features)
    expected = torch.einsum("nchw,gh,kw->ngkc", features, rows, cols).flatten(1, 2)
    torch.testing.assert_close(one_product(features, torch.kron(rows, cols)), expected)


def test_the_processor_casts_nothing_itself():
    x = torch.ones(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert as_products_want(x) is x


def test_batches_counted_together_are_those_that_layers_count():
    torch.manual_seed(0)
    own, together = (
        nn.Sequential(BatchNorm2d(3), BatchNorm2d(3)),
        nn.Sequential(BatchNorm2d(3), BatchNorm2d(3)),
    )
    counters = count_together(together)
    assert len(counters) == 2
    for _ in range(3):
        x = torch.randn(4, 3, 5, 5)
        assert torch.equal(own(x), together(x))
        torch._foreach_add_(counters, 1)
    for name, expected in own.state_dict().items():
        assert torch.equal(together.state_dict()[name], expected), name
