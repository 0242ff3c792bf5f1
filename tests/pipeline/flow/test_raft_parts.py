"""Each part of RAFT against that of torchvision or PyTorch."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.models.optical_flow.raft import ConvGRU, CorrBlock

from deiii.pipeline.flow.raft.correlation import CorrelationPyramid
from deiii.pipeline.flow.raft.encoder import InstanceNorm
from deiii.pipeline.flow.raft.threads import in_parallel
from deiii.pipeline.flow.raft.update import NarrowConv, SplitGRU


def last(x):
    return x.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("cpu", [True, False], ids=["patches", "grid_sample"])
@pytest.mark.parametrize("radius,height,width", [(3, 16, 16), (4, 16, 24), (4, 18, 17)])
@pytest.mark.parametrize("reach", [0.7, 9.0, 500.0])
def test_lookup_is_torchvisions(monkeypatch, cpu, radius, height, width, reach):
    monkeypatch.setattr("deiii.pipeline.flow.raft.correlation.on_cpu", lambda x: cpu)
    torch.manual_seed(0)
    first, second = torch.randn(2, 2, 32, height, width)
    grid = torch.stack(torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy")).float()
    points = grid + reach * torch.randn(2, 2, height, width)
    block = CorrBlock(num_levels=4, radius=radius)
    block.build_pyramid(first, second)
    side = 2 * radius + 1
    expected = block.index_pyramid(points).view(2, 4, side, side, height, width)  # x before y
    found = CorrelationPyramid(last(first), last(second), 4, radius).lookup(points)
    found = found.view(2, height, width, 4, side, side).permute(0, 3, 5, 4, 1, 2)
    assert (found - expected).abs().max() <= 1e-3 * max(1.0, reach / 50)


def test_points_far_outside_give_zeros():
    pyramid = CorrelationPyramid(torch.ones(1, 4, 16, 16), torch.ones(1, 4, 16, 16), 4, 3)
    for wild in (1e30, -1e30, float("inf"), float("nan")):
        found = pyramid.lookup(torch.full((1, 2, 16, 16), wild))
        assert found.shape == (1, 16, 16, 196) and not found.nan_to_num().any()


@pytest.mark.parametrize("kernel,padding", [((3, 3), 1), ((1, 5), (0, 2)), ((5, 1), (2, 0))])
@pytest.mark.parametrize("winograd", [True, False])
def test_gru_is_torchvisions(kernel, padding, winograd):
    torch.manual_seed(0)
    gru = ConvGRU(input_size=40 + 24, hidden_size=32, kernel_size=kernel, padding=padding)
    h, context, motion = (last(torch.randn(2, c, 12, 10)) for c in (32, 40, 24))
    split = SplitGRU(gru, 40, winograd)
    with torch.inference_mode():
        expected = gru(h, torch.cat([context, motion], 1))
        assert (split(h, motion, split.fixed(context)) - expected).abs().max() <= 1e-5


def test_narrow_convolution():
    x, weight, bias = last(torch.randn(2, 40, 11, 9)), torch.randn(2, 40, 3, 3), torch.randn(2)
    assert (NarrowConv(weight, bias)(x) - F.conv2d(x, weight, bias, padding=1)).abs().max() <= 1e-4


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_instance_norm(relu, dtype):
    torch.manual_seed(0)
    x = last((5 * torch.randn(3, 20, 33, 17) + torch.linspace(-300, 300, 20)[:, None, None]).to(dtype))
    expected = F.instance_norm(x.double())
    expected = expected.relu() if relu else expected
    y = InstanceNorm(1e-5, relu)(x.clone(memory_format=torch.preserve_format))
    assert y.dtype == dtype
    assert (y - expected).abs().max() <= (1e-4 if dtype == torch.float32 else 0.02)


def test_results_are_in_order_for_any_number_of_threads():
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            parts = [(torch.tensor([i]),) for i in range(7)]
            assert [int(x) for x in in_parallel(lambda x: x * x, parts)] == [i * i for i in range(7)]
            assert torch.get_num_threads() == threads
            with pytest.raises(ZeroDivisionError):
                in_parallel(lambda x: 1 // int(x), parts)
    finally:
        torch.set_num_threads(before)
