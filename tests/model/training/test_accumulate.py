"""A batch in parts has the gradient and the losses of the whole batch, or is refused."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from deiii.data.config.checks.together import check_accumulate
from deiii.data.config.schema import Config, TrainConfig
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.config.words import read_settings
from deiii.data.loader.batch import Batch
from deiii.model.distributed.devices import seed_all
from deiii.model.distributed.ranks import Ranks
from deiii.model.network.deiii import DEIII
from deiii.model.network.heads import Outputs, Scores
from deiii.model.training import losses
from deiii.model.training.step import accumulate
from deiii.model.training.step.accumulate import DividedBatch, check_clips_apart
from deiii.model.training.step.step import TrainingStep
from tests.helpers.model_helpers import CLASSES, MELS, random_batch
from tests.helpers.network_switches import make

CPU = torch.device("cpu")
CLIPS = 12


def gaps(seed: int) -> Batch:
    """Return clips with soft labels, without labels, ratings or a modality, hidden steps, and fillers."""
    batch = random_batch(CLIPS, steps=3, hops=16, seed=seed, extra=True)
    g = torch.Generator().manual_seed(seed)

    def chance(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=g)

    soft = chance(CLIPS, CLASSES)
    batch.soft = torch.where(chance(CLIPS, 1) < 0.5, soft / soft.sum(1, keepdim=True), batch.soft)
    none = chance(CLIPS) < 0.2
    batch.soft[none], batch.label[none] = 0.0, -1
    batch.attributes[chance(CLIPS, 2) < 0.3] = float("nan")
    batch.audio_mask &= chance(CLIPS, 1) > 0.2
    batch.video_mask &= chance(CLIPS, 3) > 0.3
    for extra in batch.extra.values():
        extra.mask &= chance(CLIPS, 1) > 0.2
    fillers = int(4 * chance(1))
    batch.real[CLIPS - fillers :] = False
    batch.index[CLIPS - fillers :] = -1
    return batch.map(lambda x: x.double() if x.is_floating_point() else x)


def stepped(
    batch: Batch, parts: int, model: dict, weights: tuple[torch.Tensor | None, ...] = (None, None), **train
) -> tuple[list[torch.Tensor], TrainingStep]:
    """Do one training step, in float64 where possible; returns the gradients and the step.

    The weights are those of classes and of clips.
    """
    plain = {"accumulate": parts, "modality_dropout": 0.5, "clip_norm": 0.0, "ema": 0.5, "optimizer": "sgd"}
    seed_all(5)
    network = make(**{"video": False, "flow": False, "attributes": 0, **model}).train()
    if "audio_channels" not in model:  # the statistics of this encoder are float32
        network.double()
    else:
        batch = batch.map(lambda x: x.float() if x.is_floating_point() else x)
    config = Config(model=network.config, train=TrainConfig(**{**plain, **train}))
    step = TrainingStep(network, network, config, CPU, 10, weights[0], Ranks(), weights[1])
    step.prepare(0)
    step(batch)
    return [p.grad for p in network.parameters() if p.grad is not None], step


def same(found: tuple, expected: tuple) -> None:
    """Check gradients, weights, statistics, averaged weights and recorded losses."""
    (gradients, one), (others, two) = found, expected
    close = {"atol": 1e-9, "rtol": 1e-6} if others[0].dtype == torch.float64 else {"atol": 3e-6, "rtol": 1e-4}
    assert len(gradients) == len(others) and any(bool(x.any()) for x in others)
    for a, b in zip(gradients, others, strict=True):
        torch.testing.assert_close(a, b, **close)
    for a, b in zip(one.model.state_dict().values(), two.model.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, **close)
    for name, value in two.average.state().items():
        torch.testing.assert_close(one.average.state()[name], value, **close)
    assert one.sums.named().keys() == two.sums.named().keys()
    for name, value in two.sums.named().items():
        torch.testing.assert_close(one.sums.named()[name], value, atol=1e-6, rtol=1e-6)


NETWORKS = [
    {},
    {"classes": False, "attributes": 2},
    {"attributes": 2, "extra": ["speech", "appearance"]},
    {"extra": ["speech", "appearance"], "join": "pooled", "modality_heads": False},
    {"extra": ["appearance"], "join": "fusion", "time_match": True, "attributes": 2},
    {"video": True, "imagenet": True, "extra": ["speech"], "join": "conformer"},
    {"name": "vavl", "extra": ["appearance"], "join": "conformer"},
    {"name": "mbt", "extra": ["appearance"], "join": "fusion"},
    {"video": True, "flow": True, "time_match": True, "attributes": 2},
    {"flow": True, "audio_channels": [8, 12], "audio_deltas": True},
    {"flow": True, "video": True, "imagenet": True, "audio": False, "modality_heads": False},
    {"name": "gru", "video": True, "audio_channels": [8, 12], "attributes": 2},
]


@pytest.mark.parametrize("model", NETWORKS, ids=str)
@pytest.mark.parametrize("parts", [2, 3, 12])
def test_parts_have_the_gradient_of_the_whole_batch(model, parts):
    batch = gaps(3)
    batch.frames = torch.nn.functional.interpolate(batch.frames.flatten(0, 1), size=32).unflatten(
        0, (CLIPS, 3)
    )
    same(stepped(batch, parts, model), stepped(batch, 1, model))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    parts=st.sampled_from([2, 4, 6]),
    classes=st.booleans(),
    smoothing=st.sampled_from([0.0, 0.1]),
    clip_norm=st.sampled_from([0.0, 0.1]),
    weighted=st.tuples(st.booleans(), st.booleans()),
    video=st.sampled_from([0.0, 0.3]),
)
def test_any_labels_weights_and_gaps(seed, parts, classes, smoothing, clip_norm, weighted, video):
    model = {"extra": ["appearance"], "time_match": True, "join": "fusion", "classes": classes}
    model["attributes"] = 2
    weights = torch.linspace(0.2, 2.0, CLASSES), torch.linspace(0.0, 3.0, CLIPS)
    used = tuple(x if some else None for x, some in zip(weights, weighted, strict=True))
    train = {"label_smoothing": smoothing, "clip_norm": clip_norm, "w_video": video}
    batch = gaps(seed)
    same(stepped(batch, parts, model, used, **train), stepped(batch, 1, model, used, **train))


def test_it_is_not_the_mean_of_the_gradients_of_parts():
    """The clips of this test would show parts whose losses are divided by their own numbers of clips."""
    model = {"attributes": 2}
    batch, half = gaps(3), CLIPS // 2
    whole = stepped(batch, 1, model, modality_dropout=0.0)[0]
    each = [
        stepped(batch.map(lambda x, i=i: x[i : i + half]), 1, model, modality_dropout=0.0)[0]
        for i in (0, half)
    ]
    means = [(a + b) / 2 for a, b in zip(*each, strict=True)]
    assert max(float((a - b).abs().max()) for a, b in zip(means, whole, strict=True)) > 1e-3


class Seen(nn.Module):
    """A network that counts clips, draws random numbers, and holds them for the backward pass.

    Attributes:
        calls: the rows of each call, and what it drew.
        held: most clips at a time whose activations were held.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(CLASSES))
        self.calls: list[tuple[list[int], torch.Tensor]] = []
        self.now = self.held = 0

    def forward(self, batch: Batch) -> Outputs:
        drawn = torch.rand(len(batch), CLASSES)
        self.calls.append((batch.index.tolist(), drawn))
        return _scores(_Held.apply(drawn * self.weight, self))


class _Held(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, seen):
        ctx.token = _Token(seen, len(x))
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        ctx.token = None
        return gradient, None


class _Token:
    def __init__(self, seen: Seen, clips: int):
        self.seen, self.clips = seen, clips
        seen.now += clips
        seen.held = max(seen.held, seen.now)

    def __del__(self) -> None:
        self.seen.now -= self.clips


def _scores(logits: torch.Tensor) -> Outputs:
    return Outputs(Scores(logits, None, torch.ones(len(logits), dtype=torch.bool)))


def test_activations_of_one_part_are_held_and_random_numbers_repeated():
    network, batch = Seen(), random_batch(CLIPS)
    divided = DividedBatch(network, batch, 4, network, network)
    losses.total_loss(divided.outputs(), batch)[0].backward()
    divided.backward()
    assert network.held == 3 and network.now == 0
    rows = [call[0] for call in network.calls]
    thirds = [list(range(i, i + 3)) for i in range(0, CLIPS, 3)]
    assert rows == [*thirds, *thirds[:3]]  # the last one is not computed again
    for first, again in zip(network.calls[:3], network.calls[4:], strict=True):
        assert torch.equal(first[1], again[1])
    drawn = torch.cat([call[1] for call in network.calls[:4]])
    assert len(drawn.unique()) > 0.9 * drawn.numel()  # each part has draws of its own
    other = nn.Parameter(torch.ones(CLASSES))
    losses.total_loss(_scores(drawn * other), batch)[0].backward()
    torch.testing.assert_close(network.weight.grad, other.grad)


def test_dropout_is_the_same_in_both_passes():
    """Otherwise the gradient would be that of no network at all."""
    batch, parts = gaps(4), 3
    model = {"dropout": 0.5, "attributes": 2}
    found, step = stepped(batch, parts, model, modality_dropout=0.0)
    seed_all(5)
    network = make(video=False, flow=False, **model).double().train()
    step.prepare(0)
    rows = CLIPS // parts
    each = [network(batch.map(lambda x, i=i: x[i : i + rows])) for i in range(0, CLIPS, rows)]
    tensors = zip(*(accumulate.tensors_of_outputs(x) for x in each), strict=True)
    outputs = accumulate.with_tensors(each[0], iter([torch.cat(x) for x in tensors]))
    loss = losses.total_loss(outputs, batch, label_smoothing=0.05)[0]
    (loss * batch.real.float().mean()).backward()
    expected = [p.grad for p in network.parameters() if p.grad is not None]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["loader.batch=32", "train.accumulate=5"], "use train.accumulate=4, or loader.batch=35"),
        (["loader.batch=4", "train.accumulate=8"], "use train.accumulate=4, or loader.batch=8"),
        (
            ["train.accumulate=2", "model.name=vavl", "model.batch_axis=true"],
            "model.batch_axis=true clips have an effect",
        ),
    ],
)
def test_what_cannot_be_computed_in_parts_is_refused_with_the_settings(words, says):
    with pytest.raises(ConfigError, match=says) as caught:
        read_settings(words)
    assert str(caught.value).startswith("train.accumulate=")


def test_each_process_must_be_able_to_divide_its_share():
    config = read_settings(["train.accumulate=4"])
    check_accumulate(config, processes=8)
    with pytest.raises(ConfigError, match="the 2 clips of loader.batch=32 .* loader.batch=64"):
        check_accumulate(config, processes=16)


class Theirs(DEIII):
    """A network of a package; it may call its encoders as it likes."""


def test_what_has_an_effect_on_other_clips_behind_the_encoders_is_refused():
    """Layers of a package, about which its settings say nothing, and clips that are one sequence."""
    own = make(video=True, flow=True, audio_channels=[8, 16])
    package = Theirs(own.config, CLASSES, 0, MELS)
    encoder = make(flow=True, video=False)
    encoder.audio_encoder = nn.Sequential(nn.BatchNorm2d(1))
    vavl = make(name="vavl", video=False, flow=False, batch_axis=True)
    once, twice = (Config(train=TrainConfig(accumulate=n)) for n in (1, 2))
    check_clips_apart(own, twice)
    for network, named in (
        (package, "the batch normalisation frame_encoder"),
        (encoder, "the batch normalisation audio_encoder.0;"),
        (vavl, "model.batch_axis=true;"),
    ):
        check_clips_apart(network, replace(once, model=network.config))
        config = replace(twice, model=network.config)
        with pytest.raises(ConfigError, match=named):
            check_clips_apart(network, config)
        with pytest.raises(ConfigError, match=named):
            TrainingStep(network, network, config, CPU, 10, None, Ranks())


def test_batch_normalisation_that_a_package_keeps_fixed_is_allowed():
    class Fixed(nn.BatchNorm2d):
        def train(self, mode: bool = True) -> nn.Module:
            return super().train(False)

    model = make(video=False, flow=False)
    model.add_module("fixed", Fixed(3))
    check_clips_apart(model, Config(train=TrainConfig(accumulate=2)))
    model.add_module("moving", nn.BatchNorm1d(3))
    with pytest.raises(ConfigError, match="the batch normalisation moving;"):
        check_clips_apart(model, Config(train=TrainConfig(accumulate=2)))


def test_a_batch_that_cannot_be_divided_is_an_error():
    with pytest.raises(ValueError, match="12 clips cannot be divided into equal parts, 5 in"):
        DividedBatch(nn.Identity(), random_batch(CLIPS), 5, nn.Identity(), None)


@pytest.mark.parametrize("follows", [False, True])
def test_a_recording_without_repeatable_random_numbers_is_refused(follows):
    """Versions of PyTorch in which the state does not follow what a recorded step draws."""
    states = iter([[torch.zeros(1)] * 2, [torch.full((1,), float(follows))] * 2])
    with (
        mock.patch.object(accumulate, "recording", lambda device: True),
        mock.patch.object(accumulate, "random_states", lambda device: next(states)),
        mock.patch.object(accumulate, "set_random_states") as put_back,
    ):
        if follows:
            accumulate.check_repeatable(CPU)
            assert put_back.called
        else:
            with pytest.raises(RuntimeError, match="cannot repeat random numbers in a graph"):
                accumulate.check_repeatable(CPU)
