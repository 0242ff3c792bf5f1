"""Stages of ``model.extra`` in the network: order, time, modality, hiding, layers, encoders of packages."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import EntryPoint

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from deiii.data.cache.stages import stages
from deiii.data.config import plugins
from deiii.data.config.strict_yaml import ConfigError
from deiii.model.network.attention import StatisticsPool
from deiii.model.network.deiii import DEIII
from deiii.model.network.extra_encoders import interleave
from deiii.model.network.heads import Encoded
from deiii.model.network.hide_streams import hidden_together, hide, random_hide
from tests.helpers.extra_stages import APPEARANCE, EXTRA, SPEECH
from tests.helpers.model_helpers import CLASSES, MELS, random_batch, small_config


@pytest.fixture(autouse=True)
def packages(monkeypatch):
    """The stages of another package, as if it were installed."""
    for stage in (SPEECH, APPEARANCE):
        monkeypatch.setitem(stages(), stage.name, stage)


def make(names: list[str], **changes) -> DEIII:
    torch.manual_seed(0)
    config = small_config(extra=names, **changes)
    return DEIII(config, CLASSES, 2, MELS, extra=[EXTRA[name] for name in names]).eval()


@pytest.mark.parametrize("name", ["speech", "appearance"])
@pytest.mark.parametrize("conformer", [True, False])
@pytest.mark.parametrize("join", ["separate", "conformer", "fusion"])
def test_order_and_time_matter(name, conformer, join):
    model, batch = make([name], conformer=conformer, join=join), random_batch(extra=True)
    for p in model.parameters():  # away from the start, where branches and gates are small
        p.data += 0.3 * torch.randn_like(p)
    x, before = batch.extra[name], model(batch)
    head = "audio" if name == "speech" else "video"
    reversed_order = replace(x, values=x.values.flip(1))
    later = replace(x, time=x.time + 0.2)
    # Tokens in OV belong to their video step, and have its time.
    for changed in (reversed_order,) if (name, join) == ("appearance", "fusion") else (reversed_order, later):
        after = model(replace(batch, extra={**batch.extra, name: changed}))
        assert (after.fused.logits - before.fused.logits).abs().amax(1).min() > 1e-5
        if conformer and changed is reversed_order:
            difference = getattr(after, head).logits - getattr(before, head).logits
            assert difference.abs().amax(1).min() > 1e-4


@pytest.mark.parametrize("name", ["speech", "appearance"])
@pytest.mark.parametrize("join", ["separate", "conformer", "fusion"])
def test_stream_stays_in_its_modality_and_can_be_hidden(name, join):
    model = make([name], join=join)
    batch, other = random_batch(extra=True), random_batch(extra=True, seed=5)
    before = model(batch)
    own, foreign = ("audio", "video") if name == "speech" else ("video", "audio")
    after = model(replace(batch, extra={**batch.extra, name: other.extra[name]}))
    assert torch.equal(getattr(after, foreign).logits, getattr(before, foreign).logits)
    assert not torch.allclose(getattr(after, own).logits, getattr(before, own).logits, atol=1e-4)
    others = {"frames": True, "flow": True} if name == "appearance" else {"audio": True}
    assert getattr(model(hide(batch, **others)), own).present.all()  # from the extra stream alone
    assert not getattr(model(hide(batch, **others, **{name: True})), own).present.any()


def test_layers_are_averaged_with_learned_weights():
    encoder = make(["speech"]).extra_encoders["speech"]
    x, mask = torch.randn(2, 4, 3, 6), torch.ones(2, 4, dtype=torch.bool)
    encoder.layers.data[:] = torch.log(torch.tensor([1.0, 2.0, 5.0]))
    mean = (x * torch.tensor([1, 2, 5])[:, None] / 8).sum(dim=2)
    normal = (mean - mean.mean(-1, keepdim=True)) / (mean.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    expected = normal @ encoder.project.weight.T + encoder.project.bias
    torch.testing.assert_close(encoder(x, mask), expected)


def test_features_are_standardised_over_the_training_rows():
    torch.manual_seed(0)
    encoder = make(["speech"], standardise=True).extra_encoders["speech"]
    far = torch.tensor([1.0, 1e3, -5.0])[:, None] + torch.tensor([1e-2, 1.0, 50.0])[:, None] * torch.randn(
        90, 3, 6
    )
    encoder.fit([far[:50].numpy(), far[50:].numpy()])
    plain = make(["speech"]).extra_encoders["speech"]
    plain.load_state_dict({k: v for k, v in encoder.state_dict().items() if k not in ("offset", "scale")})
    mask = torch.ones(1, 90, dtype=torch.bool)
    normal = (far - far.mean(dim=0)) / far.std(dim=0, unbiased=False)
    torch.testing.assert_close(encoder(far[None], mask), plain(normal[None], mask), rtol=1e-3, atol=1e-3)


def test_without_extra_streams_nothing_changes():
    """The same parameters in the same order from the same random numbers, and the same hidden streams."""
    plain, batch = make([]), random_batch()
    names = [name for name, _ in plain.named_parameters()]
    both = dict(make(["speech", "appearance"]).named_parameters())
    assert list(both)[: len(names)] == names  # so the initial weights are the same too
    assert all(torch.equal(both[name], p) for name, p in plain.named_parameters())
    assert hidden_together(plain.config) == [("frames",), ("flow",), ("audio",), ("frames", "flow")]
    assert torch.equal(plain(batch).fused.logits, plain(random_batch(extra=True)).fused.logits)


def test_whole_modalities_are_hidden_with_their_extra_streams():
    config = small_config(extra=["speech", "appearance"])
    assert hidden_together(config)[5:] == [("frames", "flow", "appearance"), ("audio", "speech")]
    torch.manual_seed(0)
    hidden = random_hide(random_batch(400, extra=True), 1.0, config)
    masks = {"speech": hidden.extra["speech"].mask, "audio": hidden.audio_mask}
    gone = {name: ~mask.any(dim=1) for name, mask in masks.items()}
    assert (gone["speech"] & gone["audio"]).any() and (gone["speech"] & ~gone["audio"]).any()


class Doubled(nn.Module):
    """An encoder of a package: the first features of a row, twice."""

    def __init__(self, shape, config):
        super().__init__()
        self.width = config.width
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, values, mask):
        return self.scale * nn.functional.pad(values, (0, self.width - values.shape[-1]))


def test_a_package_adds_an_encoder(monkeypatch):
    entry = EntryPoint("doubled", f"{__name__}:Doubled", plugins.ENCODERS)
    monkeypatch.setattr(plugins, "installed", lambda group: {"doubled": entry})
    monkeypatch.setattr("deiii.model.network.extra_encoders.installed", plugins.installed)
    model = make(["appearance"], encoders=["appearance:doubled"])
    assert type(model.extra_encoders["appearance"]).__name__ == "Doubled"
    assert model(random_batch(extra=True)).fused.logits.isfinite().all()
    with pytest.raises(ConfigError, match="encoders that installed packages add: doubled"):
        make(["appearance"], encoders=["appearance:tripled"])
    with pytest.raises(ConfigError, match="the network reads faces, flow, logmel"):
        make([], encoders=["appearance:doubled"])


@given(st.integers(1, 4), st.lists(st.integers(1, 6), min_size=2, max_size=3), st.integers(0, 1000))
def test_steps_are_merged_in_the_order_of_the_clock(clips, lengths, seed):
    """Against a sort of Python tuples, clip by clip."""
    random = torch.Generator().manual_seed(seed)
    streams = [
        Encoded(
            torch.randn(clips, n, 3, generator=random),
            torch.rand(clips, n, generator=random) < 0.7,
            torch.randint(4, (clips, n), generator=random).float(),
        )
        for n in lengths
    ]
    merged = interleave(streams)
    assert merged.mask.sum() == sum(int(s.mask.sum()) for s in streams)
    for clip in range(clips):
        rows = [
            (float(s.time[clip, i]), place, i)
            for place, s in enumerate(streams)
            for i in range(s.mask.shape[1])
            if s.mask[clip, i]
        ]
        expected = [streams[place].features[clip, i] for _, place, i in sorted(rows)]
        valid = torch.arange(sum(lengths)) < len(rows)
        assert torch.equal(merged.mask[clip], valid)
        assert torch.equal(merged.features[clip][valid], torch.stack(expected) if rows else torch.zeros(0, 3))


def test_statistics_pool_is_mean_and_deviation_of_the_valid_rows():
    torch.manual_seed(0)
    pool, x = StatisticsPool(), 3 + torch.randn(3, 5, 8)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 1, 1, 0], [0, 0, 0, 0, 0]]).bool()
    pooled = pool(x, mask)
    for clip in (0, 1):
        kept = x[clip, mask[clip]]
        expected = torch.cat((kept.mean(dim=0), kept.std(dim=0, unbiased=False)))
        torch.testing.assert_close(pooled[clip], expected, rtol=1e-4, atol=1e-4)
    assert not pooled[2].any()
    torch.testing.assert_close(pool(x)[0], pooled[0])
