"""Normalisation and warping of log-mel against plain NumPy, clip by clip."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deiii.data.config.schema import LoaderConfig
from deiii.data.loader.augmentation.audio import AUDIO_DRAWS, level_table, warp, warps
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.loader import Loader
from tests.helpers.caches import KEYS, make_cache

HOPS, BANDS = 40, 12


def sound(lengths=(40, 30, 17), seed=0):
    """Log-mel, times and mask of clips of these lengths; what is masked is zero."""
    rng = np.random.default_rng(seed)
    mask = torch.arange(HOPS) < torch.tensor(lengths)[:, None]
    x = torch.from_numpy(rng.standard_normal((len(lengths), HOPS, BANDS), np.float32)) * mask[..., None]
    time = (1.0 + 0.01 * torch.arange(HOPS)).expand(len(lengths), HOPS) * mask
    return x, time, mask


def draws_of(**moved):
    """Draws in the middle, where nothing changes, but for those named."""
    names = ("tempo", "shift", "wide", "gain", "start")
    return torch.tensor([[moved.get(n, 0.0 if n == "start" else 0.5) for n in names]]).expand(3, AUDIO_DRAWS)


ALL = LoaderConfig(stretch=0.25, mel_shift=2.0, mel_warp=0.1, gain_db=6.0)


def test_draws_in_the_middle_change_nothing():
    x, time, mask = sound()
    found = warp(x, time, mask, draws_of(), ALL, torch.tensor(20.0))
    torch.testing.assert_close(found[0], x, atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1], time)
    assert torch.equal(found[2], mask)


def test_a_faster_clip_is_shorter_and_keeps_its_instants():
    """The fastest draw steps over 1.25 hops: linear interpolation between neighbours, written out."""
    x, time, mask = sound()
    found, when, kept = warp(x, time, mask, draws_of(tempo=1.0), ALL, torch.tensor(20.0))
    for b, length in enumerate((40, 30, 17)):
        count = int(length / 1.25)
        assert kept[b].sum() == count and kept[b, :count].all()
        at = np.arange(count) * 1.25
        expected = [np.interp(at, np.arange(HOPS), x[b, :, m].numpy()) for m in range(BANDS)]
        np.testing.assert_allclose(found[b, :count].numpy(), np.array(expected).T, atol=1e-4)
        np.testing.assert_allclose(when[b, :count], 1.0 + 0.01 * np.rint(at), atol=0.006)
        assert not found[b, count:].any()


def test_a_slower_clip_is_cut_where_it_no_longer_fits():
    x, time, mask = sound()
    for start, first in ((0.0, 0.0), (0.5, 4.0)):
        found, _, kept = warp(x, time, mask, draws_of(tempo=0.0, start=start), ALL, torch.tensor(20.0))
        assert kept.sum(1).tolist() == [40, 37, 21]
        at = first + np.arange(40) * 0.8
        expected = np.interp(at, np.arange(HOPS), x[0, :, 3].numpy())
        np.testing.assert_allclose(found[0, :, 3].numpy(), expected, atol=1e-4)


def test_bands_shift_and_gain_is_in_db():
    x, time, mask = sound()
    shifted = warp(x, time, mask, draws_of(shift=1.0), ALL, torch.tensor(20.0))[0]
    torch.testing.assert_close(shifted[:, :, :-2], x[:, :, 2:], atol=1e-4, rtol=0)
    louder = warp(x, time, mask, draws_of(gain=1.0), ALL, torch.tensor(20.0))[0]
    torch.testing.assert_close(louder, (x + 6.0 / 20.0) * mask[..., None], atol=1e-4, rtol=0)


def test_masked_hops_and_silent_clips_stay_finite():
    x, time, mask = sound((0, 1, 2))
    for value in (0.0, 0.999):
        for part in warp(x, time, mask, torch.full((3, AUDIO_DRAWS), value), ALL, torch.tensor(20.0))[:2]:
            assert part.isfinite().all()


@pytest.mark.parametrize("how", ["clip", "speaker"])
def test_levels_against_numpy(tmp_path, how):
    config = make_cache(tmp_path, frames=[9] * 8, hops=[30, 20, 25, 40, 33, 21, 0, 18])
    features = FeatureSet.open(config, KEYS)
    offset, scale = level_table(features, how)
    for row, clip in enumerate(features.clips):
        if "logmel" not in features.arrays(row):
            continue
        mates = (
            [r for r, c in enumerate(features.clips) if c.speaker == clip.speaker]
            if how == "speaker"
            else [row]
        )
        whole = np.concatenate(
            [features.arrays(r)["logmel"]["logmel"] for r in mates if "logmel" in features.arrays(r)]
        ).astype(np.float64)
        np.testing.assert_allclose(offset[row], whole.mean(0), rtol=1e-4, atol=1e-4)
        expected = np.maximum(1.0, whole.std(0)) if how == "speaker" else np.full(offset.shape[1], 20.0)
        np.testing.assert_allclose(scale[row], expected, rtol=1e-3)


def test_loader_applies_levels_and_warps_in_training_only(tmp_path):
    config = make_cache(tmp_path, frames=[9] * 8, hops=[30] * 8)
    features = FeatureSet.open(config, KEYS)
    settings = LoaderConfig(
        steps=2, audio_steps=32, crop=8, batch=8, normalise="speaker", stretch=0.2, spec_masks=0, threads=1
    )
    batches = {
        training: next(iter(Loader(features, range(8), settings, training=training).epoch(0)))
        for training in (True, False)
    }
    valid = batches[False].logmel[batches[False].audio_mask]
    np.testing.assert_allclose(valid.mean(0), 0, atol=1e-2)
    assert batches[False].audio_mask.sum(1).tolist() == [30] * 8
    assert len(set(batches[True].audio_mask.sum(1).tolist())) > 1
    again = next(iter(Loader(features, range(8), settings, training=True).epoch(0)))
    assert torch.equal(again.logmel, batches[True].logmel)


def test_nothing_is_warped_unless_asked():
    assert not warps(LoaderConfig()) and warps(ALL)


@pytest.mark.parametrize("stretch", [0.1, 1.0, 3.0])
def test_the_last_hops_of_a_slower_clip_are_not_mixed_with_padding(stretch):
    x, time, mask = sound((10, 9, 7))
    x = torch.full_like(x, 2.0) * mask[..., None]
    settings = LoaderConfig(stretch=stretch)
    found, when, kept = warp(x, time, mask, draws_of(tempo=0.0), settings, torch.tensor(20.0))
    assert kept.sum() > mask.sum()
    torch.testing.assert_close(found[kept], torch.full_like(found[kept], 2.0))
    assert when[kept].min() >= 0.999 and when.max() <= time.max()
