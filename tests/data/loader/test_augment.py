"""Augmentation against plain formulas, clip by clip."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deiii.data.config.schema import LoaderConfig
from deiii.data.loader.augment import MEAN, STD, Augment, colour_matrix, spec_masks
from deiii.data.loader.augmentation.draws import DRAWS, columns
from deiii.data.loader.batch import StoredBatch

B, T, H, S, L, M = 4, 3, 10, 6, 12, 8


def compact(draws: torch.Tensor | None = None) -> StoredBatch:
    rng = np.random.default_rng(0)

    def any_of(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.random(shape, np.float32))

    return StoredBatch(
        frames=torch.from_numpy(rng.integers(0, 256, (B, T, H, H, 3), dtype=np.uint8)),
        flow=torch.from_numpy(rng.integers(-127, 128, (B, T, H, H, 2), dtype=np.int8)),
        logmel=(any_of(B, L, M) * -80).half(),
        frame_at=torch.zeros(B, T, dtype=torch.int64), flow_at=torch.zeros(B, T, dtype=torch.int64),
        hop_at=torch.zeros(B, L, dtype=torch.int64),
        scale=any_of(B, T),
        draws=any_of(B, columns(LoaderConfig(spec_masks=2)).count) if draws is None else draws,
        video_time=any_of(B, T), audio_time=any_of(B, L),
        video_mask=any_of(B, T) > 0.3, flow_mask=any_of(B, T) > 0.3,
        audio_mask=torch.arange(L).repeat(B, 1) < 9,
        label=torch.arange(B), soft=any_of(B, 3), attributes=any_of(B, 1),
        index=torch.arange(B), real=torch.ones(B, dtype=torch.bool),
    )  # fmt: skip


def test_evaluation_crops_the_centre_and_normalises():
    c, config = compact(), LoaderConfig(crop=S)
    out = Augment(config, training=False)(c)
    low, high = (H - S) // 2, (H + S) // 2
    pixels = c.frames.numpy()[:, :, low:high, low:high].astype(np.float64) / 255
    expected = ((pixels - MEAN) / STD).transpose(0, 1, 4, 2, 3)
    np.testing.assert_allclose(out.frames, expected, atol=1e-5)
    flow = c.flow.numpy()[:, :, low:high, low:high] * c.scale.numpy()[:, :, None, None, None]
    np.testing.assert_allclose(out.flow, flow.transpose(0, 1, 4, 2, 3), atol=1e-5)
    sound = (c.logmel.numpy().astype(np.float64) + 40) / 20 * c.audio_mask.numpy()[..., None]
    np.testing.assert_allclose(out.logmel, sound, atol=1e-5)
    for name in ("video_time", "audio_mask", "label", "soft", "index"):
        assert torch.equal(getattr(out, name), getattr(c, name))
        assert getattr(out, name).data_ptr() != getattr(c, name).data_ptr()  # the slot is reused


def test_a_flip_mirrors_the_frame_and_negates_u():
    c = compact()
    config = LoaderConfig(crop=H, colour=0, spec_masks=0)
    plain = Augment(LoaderConfig(crop=H, colour=0, spec_masks=0, flip=0), training=True)(c)
    config.flip = 1.0
    mirrored = Augment(config, training=True)(c)
    assert torch.equal(mirrored.frames, plain.frames.flip(-1))
    assert torch.equal(mirrored.flow[:, :, 0], -plain.flow[:, :, 0].flip(-1))
    assert torch.equal(mirrored.flow[:, :, 1], plain.flow[:, :, 1].flip(-1))


def test_frames_and_flow_share_their_place_in_every_step():
    place = torch.arange(H * H).view(H, H)
    c = compact()
    c.frames = place[None, None, :, :, None].expand(B, T, H, H, 3).to(torch.uint8)
    c.flow = place[None, None, :, :, None].expand(B, T, H, H, 2).to(torch.int8)
    c.scale = torch.ones(B, T)
    out = Augment(LoaderConfig(crop=S, colour=0, flip=0.5), training=True)(c)
    std, mean = torch.tensor(STD)[:, None, None], torch.tensor(MEAN)[:, None, None]
    pixels = (out.frames * std + mean) * 255
    assert torch.allclose(pixels[:, :, 0], out.flow[:, :, 1], atol=1e-3)
    corners = {tuple(p[0].flatten()[[0, -1]].round().long().tolist()) for p in out.flow[:, :, 1]}
    assert len(corners) > 1  # clips lie at different places


def test_a_crop_larger_than_what_is_stored_is_refused():
    with pytest.raises(ValueError, match="loader.crop=11"):
        Augment(LoaderConfig(crop=11), training=False)(compact())


def test_switched_off_streams_stay_empty():
    c = compact()
    c.frames, c.flow = c.frames[:, :, :0, :0], c.flow[:, :, :0, :0]
    out = Augment(LoaderConfig(crop=S), training=True)(c)
    assert out.frames.shape == (B, T, 3, 0, 0) and out.flow.shape == (B, T, 2, 0, 0)


def test_colour_is_brightness_contrast_and_saturation():
    draws = torch.rand(B, DRAWS, generator=torch.Generator().manual_seed(0))
    matrix, offset = colour_matrix(draws, 0.4)
    x = torch.rand(B, 5, 3, generator=torch.Generator().manual_seed(1)) * 255
    found = x @ matrix + offset
    for i in range(B):
        bright, contrast, colour = (1 + 0.4 * (2 * draws[i, 3:6] - 1)).tolist()
        grey = (x[i] * torch.tensor([0.299, 0.587, 0.114])).sum(1, keepdim=True)
        p = (colour * x[i] + (1 - colour) * grey) / 255 * bright
        p = contrast * p + (1 - contrast) * torch.tensor(MEAN)
        torch.testing.assert_close(
            found[i], (p - torch.tensor(MEAN)) / torch.tensor(STD), atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_grey_clips_keep_their_luma_alone(share):
    c = compact()
    config = LoaderConfig(crop=S, colour=0.0, flip=0.0)
    coloured = Augment(config, training=True)(c).frames
    config.grey = share
    found = Augment(config, training=True)(c).frames
    std, mean = torch.tensor(STD)[:, None, None], torch.tensor(MEAN)[:, None, None]
    chance = c.draws[:, -1]
    for i in range(B):
        if chance[i] < share:
            pixels = found[i] * std + mean
            luma = ((coloured[i] * std + mean) * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1)
            torch.testing.assert_close(pixels, luma[:, None].expand_as(pixels), atol=1e-5, rtol=1e-5)
        else:
            assert torch.equal(found[i], coloured[i])
    assert ((chance < share).sum() in (1, 2, 3)) == (share == 0.5)


def test_spec_masks_are_stripes_within_the_sound():
    draws = torch.rand(200, 8, generator=torch.Generator().manual_seed(0))
    lengths = torch.randint(5, 41, (200,), generator=torch.Generator().manual_seed(1))
    hidden_hops, hidden_bands = (~keep for keep in spec_masks(draws, lengths, 40, 32))
    assert not hidden_hops[torch.arange(40)[None] >= lengths[:, None]].any()
    assert (hidden_hops.sum(1) <= 2 * (0.15 * lengths + 1)).all() and hidden_hops.any() and hidden_bands.any()


def test_evaluation_ignores_every_random_number():
    a = Augment(LoaderConfig(crop=S), training=False)(compact())
    strongest = LoaderConfig(crop=S, zoom=1, rotate=180, erase=1, grey=1, colour=0.9, flip=1, stretch=1)
    b = Augment(strongest, training=False)(compact(torch.zeros(B, DRAWS + 8)))
    assert all(torch.equal(a.tensors()[n], b.tensors()[n]) for n in ("frames", "flow", "logmel"))
