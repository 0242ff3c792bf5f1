"""Mixup keeps targets a distribution, masked input out and unknown clips alone."""

import torch
from model_helpers import random_batch

from model.mixup import mixup


def test_targets_and_inputs_are_blended_by_one_share():
    torch.manual_seed(0)
    batch = random_batch(16)
    mixed = mixup(batch, alpha=1.0)
    torch.testing.assert_close(mixed.soft.sum(1), torch.ones(16))
    share = mixed.soft.max(1).values[mixed.soft.max(1).values < 1]
    assert len(share) and (share - share[0]).abs().max() < 1e-6 and share[0] >= 0.5
    # some clip of the batch is the partner: what is left after taking the own part out
    for i in torch.where(mixed.soft.max(1).values < 1)[0]:
        rest = (mixed.logmel[i] - share[0] * batch.logmel[i]) / (1 - share[0])
        gaps = (batch.logmel - rest).abs().amax((1, 2))
        partner = int(gaps.argmin())
        assert gaps[partner] < 1e-3
        seen = share[0] * batch.frames[i] + (1 - share[0]) * batch.frames[partner]
        torch.testing.assert_close(mixed.frames[i], seen, atol=1e-5, rtol=0)


def test_what_a_partner_masks_never_reaches_the_clip():
    batch = random_batch(8)
    batch.audio_mask[:, 20:] = batch.video_mask[:, 3:] = batch.flow_mask[:, 3:] = False
    batch.logmel[:, 20:] = batch.frames[:, 3:] = batch.flow[:, 3:] = 1e6
    mixed = mixup(batch, alpha=1.0)
    assert mixed.logmel[:, :20].abs().max() < 100
    assert mixed.frames[:, :3].abs().max() < 100 and mixed.flow[:, :3].abs().max() < 100


def test_fillers_and_clips_without_target_are_left_alone_and_lend_nothing():
    batch = random_batch(8)
    batch.real[6:] = False
    batch.soft[5] = 0
    batch.logmel[5:] = 1e6
    mixed = mixup(batch, alpha=1.0)
    assert torch.equal(mixed.logmel[5:], batch.logmel[5:]) and torch.equal(mixed.soft[5:], batch.soft[5:])
    assert mixed.logmel[:5].abs().max() < 100


def test_no_mixup_is_the_same_batch():
    batch = random_batch()
    assert mixup(batch, alpha=0.0) is batch
