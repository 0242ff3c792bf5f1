"""L_S against a computation clip by clip, and inputs that must have no effect on it."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from deiii.model.network.time_match import Matches, TimeMatch, match_loss

CLIPS, STEPS, HOPS, WIDTH = 3, 6, 20, 16


def features(seed=0):
    """Video at 12.5 Hz from 0 s and audio at 25 Hz from -0.01 s, so that hop 2t+0 is nearest to step t."""
    g = torch.Generator().manual_seed(seed)
    v, a = torch.randn(CLIPS, STEPS, WIDTH, generator=g), torch.randn(CLIPS, HOPS, WIDTH, generator=g)
    v_time = (0.08 * torch.arange(STEPS)).expand(CLIPS, STEPS).clone()
    a_time = (0.04 * torch.arange(HOPS) - 0.01).expand(CLIPS, HOPS).clone()

    def yes(n):
        return torch.ones(CLIPS, n, dtype=torch.bool)

    return [v, yes(STEPS), v_time, a, yes(HOPS), a_time]


def test_loss_is_the_cross_entropy_of_each_clips_own_instants():
    torch.manual_seed(0)
    match, given = TimeMatch(WIDTH), features()
    given[1][1, 4:] = False  # two frames without a face
    given[4][2, 3:] = False  # the third clip's audio ends at 0.07 s: steps 0 and 1 alone are near enough
    expected, frames = 0.0, 0
    for clip, valid in enumerate([range(6), range(4), range(2)]):
        v = match.of_video(given[0][clip, list(valid)])
        a = match.of_audio(given[3][clip, [2 * t for t in valid]])
        similar = 10 * F.cosine_similarity(v[:, None], a[None], dim=2)
        own = torch.arange(len(similar))
        both = F.cross_entropy(similar, own, reduction="sum") + F.cross_entropy(
            similar.T, own, reduction="sum"
        )
        expected, frames = expected + both / 2, frames + len(similar)
    loss = match_loss(match(*given), torch.ones(CLIPS, dtype=torch.bool))
    torch.testing.assert_close(loss, expected / frames)


def test_masked_steps_and_clips_that_only_fill_the_batch_have_no_effect():
    torch.manual_seed(0)
    match, given, counts = TimeMatch(WIDTH), features(), torch.tensor([True, True, False])
    given[1][0, 2], given[4][1, 8:] = False, False
    before = match_loss(match(*given), counts)
    given[0][0, 2], given[3][1, 8:], given[2][0, 2], given[5][1, 8:] = 1e3, 1e3, 0.24, 0.0
    given[0][2] = 7.0
    torch.testing.assert_close(match_loss(match(*given), counts), before)


def test_an_audio_step_is_no_negative_of_itself():
    matches = TimeMatch(WIDTH)(*features())
    assert matches.other.sum() == CLIPS * STEPS * (STEPS - 1)
    close = features()
    close[2] = close[2] / 8  # eight video steps share two hops
    assert TimeMatch(WIDTH)(*close).other.sum() < CLIPS * STEPS * (STEPS - 1)


def test_no_matches_give_zero_with_zero_gradients():
    given = features()
    given[4][:] = False
    given[0].requires_grad_()
    loss = match_loss(TimeMatch(WIDTH)(*given), torch.ones(CLIPS, dtype=torch.bool))
    loss.backward()
    assert loss == 0 and not given[0].grad.any()


def test_right_pairs_lower_the_loss():
    eye = torch.eye(STEPS).expand(1, -1, -1)
    yes, everyone = torch.ones(1, STEPS, dtype=torch.bool), torch.tensor([True])

    def loss(logits):
        return match_loss(Matches(logits, yes, eye == 0), everyone).item()

    assert loss(9 * eye) < 0.01 < loss(0 * eye) < loss(-9 * eye)
