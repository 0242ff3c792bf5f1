"""Hidden streams, and modality dropout."""

import pytest
import torch

from deiii.data.config.schema import Config, SplitConfig
from deiii.model.network.hide_streams import further_hidden, hide, hide_in_scoring, random_hide
from tests.helpers.model_helpers import random_batch, small_config


def left(batch) -> torch.Tensor:
    """bool [B,3]: frames, flow, audio."""
    return torch.stack([m.any(1) for m in (batch.video_mask, batch.flow_mask, batch.audio_mask)], 1)


def test_hide_some_clips_or_all():
    batch = random_batch(3)
    assert left(hide(batch, audio=True)).tolist() == [[True, True, False]] * 3
    some = left(hide(batch, flow=torch.tensor([False, True, False])))
    assert some[:, 1].tolist() == [True, False, True] and some[:, [0, 2]].all()
    assert left(batch).all()
    with pytest.raises(ValueError, match="smell"):
        hide(batch, smell=True)


def test_dropout_hides_with_the_given_probability_and_never_everything():
    torch.manual_seed(0)
    batch = random_batch(4000, steps=1, hops=1, size=1)
    rows = left(random_hide(batch, 0.3, small_config()))
    assert (~rows).any(1).float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert rows.any(1).all()
    kinds, counts = rows[(~rows).any(1)].unique(dim=0, return_counts=True)
    assert len(kinds) == 4 and counts.min() > 0.15 * counts.sum()


def test_the_only_stream_of_a_clip_stays():
    torch.manual_seed(0)
    batch = hide(random_batch(200, 1, 1, 1), frames=True, flow=True)
    assert left(random_hide(batch, 1.0, small_config()))[:, 2].all()
    alone = random_hide(batch, 1.0, small_config(video=False, flow=False))
    assert left(alone)[:, 2].all()


def test_probability_zero_changes_nothing():
    batch = random_batch()
    assert random_hide(batch, 0.0, small_config()) is batch


def test_streams_that_scoring_hides():
    batch = random_batch(2)
    assert left(hide_in_scoring(Config())(batch)).all()
    config = Config(split=SplitConfig(hide=["audio"]))
    assert left(hide_in_scoring(config)(batch)).tolist() == [[True, True, False]] * 2
    assert left(hide_in_scoring(config, ("flow",))(batch)).tolist() == [[True, False, False]] * 2


@pytest.mark.parametrize(
    ("before", "more"),
    [
        ([], [("frames",), ("flow",), ("audio",), ("frames", "flow")]),
        (["audio"], [("frames",), ("flow",)]),  # without frames and flow too nothing would be left
        (["frames", "flow"], []),
    ],
)
def test_scoring_hides_further_streams_but_not_all(before, more):
    assert further_hidden(Config(split=SplitConfig(hide=before))) == more
