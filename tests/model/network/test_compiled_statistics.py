"""A compiled network treats the running statistics of batch normalisation as the network itself does."""

import copy

import pytest
import torch

from tests.helpers.model_helpers import random_batch
from tests.helpers.network_switches import make


def statistics(model):
    return {name: x.clone() for name, x in model.named_buffers() if "running" in name}


# PyTorch 2.11 warns of an access of its own while it compiles.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("hidden", [True, False])
def test_a_batch_without_an_image_leaves_the_statistics_as_they_are(hidden):
    eager = make(dropout=0.0, head_dropout=0.0, audio=False).train()
    compiled = copy.deepcopy(eager)
    batch = random_batch()
    if hidden:
        batch.video_mask[:] = batch.flow_mask[:] = False
    before = statistics(eager)
    assert before
    run = torch.compile(compiled, backend="aot_eager")
    for model in (eager, run):
        model(batch).fused.logits.square().sum().backward()
    after, moved = statistics(eager), statistics(compiled)
    for name, x in before.items():
        torch.testing.assert_close(moved[name], after[name], rtol=1e-5, atol=1e-6)
        assert torch.equal(moved[name], x) == hidden
    for ours, theirs in zip(eager.parameters(), compiled.parameters(), strict=True):
        if ours.grad is not None:
            torch.testing.assert_close(theirs.grad, ours.grad, rtol=1e-3, atol=1e-5)
