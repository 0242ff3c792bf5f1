"""The ranks of several processes, their random numbers and statistics, and refused environments."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

from deiii.__main__ import main
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.model.distributed.layers import Dropout, connect
from deiii.model.distributed.ranks import (
    VARIABLES,
    RankError,
    Ranks,
    clips_per_rank,
    device_of,
    read_environment,
)
from deiii.model.network.hide_streams import random_hide
from deiii.model.network.time_match import Matches
from deiii.model.network.visual_encoders import only_valid, times_taken
from deiii.model.training.gather_batch import gather_batch, whole_matches
from deiii.model.training.loaders import make_loader
from tests.helpers import two_ranks
from tests.helpers.model_helpers import random_batch
from tests.model.training.test_train import features_of

TORCHRUN = dict(zip(VARIABLES, ("1", "2", "1", "2", "127.0.0.1", "29500"), strict=True))


def test_the_command_reports_a_wrong_environment(tmp_path, monkeypatch, capsys):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK", "0")
    assert main(["train", f"train.run={tmp_path / 'run'}"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: RANK=0 is set") and "torchrun" in told
    assert not (tmp_path / "run").exists()


def test_without_torchrun_there_is_one_process():
    assert read_environment({}) == read_environment({"RANK": "0", "WORLD_SIZE": "1"}) == Ranks()


@pytest.mark.parametrize("name", VARIABLES)
def test_a_missing_variable_is_named(name):
    with pytest.raises(RankError, match=f"{name} is not|{name}.* is not"):
        read_environment({k: v for k, v in TORCHRUN.items() if k != name})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"RANK": "two"}, "RANK='two' is not a number"),
        ({"RANK": "2"}, "RANK=2, WORLD_SIZE=2.* is impossible"),
        ({"LOCAL_RANK": "-1"}, "is impossible"),
        ({"LOCAL_WORLD_SIZE": "3"}, "is impossible"),
        ({"MASTER_PORT": "0"}, "MASTER_PORT=0 is impossible"),
    ],
)
def test_an_impossible_environment_is_refused(changes, says):
    with pytest.raises(RankError, match=says):
        read_environment({**TORCHRUN, **changes})


def test_the_environment_gives_the_ranks():
    ranks = read_environment(TORCHRUN)
    assert (ranks.rank, ranks.world, ranks.local, ranks.local_world, ranks.first) == (1, 2, 1, 2, False)


def test_a_batch_that_cannot_be_divided_is_refused():
    assert clips_per_rank(32, 4) == 8
    with pytest.raises(ConfigError, match="loader.batch=32 .* 3 processes; loader.batch=33 can"):
        clips_per_rank(32, 3)


def test_more_processes_than_gpus_are_refused(monkeypatch):
    ranks = Ranks(rank=1, world=4, local=1, local_world=4)
    assert device_of(ranks, "cpu") == torch.device("cpu")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(ConfigError, match="4 processes on .*, which has 2 GPUs; use --nproc-per-node 2"):
        device_of(ranks, "cuda")
    with pytest.raises(ConfigError, match="train.device=cuda:1: several processes take a GPU each"):
        device_of(ranks, "cuda:1")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(ConfigError, match="which has 1 GPU; use --nproc-per-node 1"):
        device_of(ranks, "cuda")


def test_only_training_is_for_several_processes(monkeypatch, capsys):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert main(["evaluate", "runs/none"]) == 1
    assert "`deiii evaluate` runs in one process" in capsys.readouterr().err


@pytest.mark.parametrize("seed", range(6))
def test_an_image_weighs_as_often_as_one_process_copies_it(seed):
    g = torch.Generator().manual_seed(seed)
    mask = torch.rand(17, generator=g) < seed / 5
    mark = torch.arange(1.0, 18.0)[:, None, None, None]
    copied = Counter(only_valid(mark, mask).flatten().tolist())
    weights = times_taken(mask)
    if mask.any():
        assert {n + 1.0: w for n, w in enumerate(weights.tolist()) if w} == copied
    else:
        assert weights.tolist() == [1.0] * 17


def test_ranks_use_the_random_numbers_of_one_process():
    batch = random_batch(8)
    config = Config().model
    parts = []
    for rank in range(2):
        ranks, layer = Ranks(rank=rank, world=2, clips=4), Dropout(0.5)
        connect(nn.ModuleList([layer]), ranks)
        torch.manual_seed(5)
        hidden = random_hide(two_ranks.take(batch, range(rank, 8, 2)), 0.6, config, ranks)
        parts.append((hidden, layer(torch.ones(4 * 3, 7))))
    torch.manual_seed(5)
    hidden, dropped = random_hide(batch, 0.6, config), Dropout(0.5)(torch.ones(8 * 3, 7))
    for rank, (part, own) in enumerate(parts):
        assert torch.equal(part.audio_mask, hidden.audio_mask[rank::2])
        assert torch.equal(own.view(4, 3, 7), dropped.view(8, 3, 7)[rank::2])
    assert not hidden.audio_mask.all() and dropped.eq(0).any()


def test_one_process_exchanges_nothing():
    batch, ranks = random_batch(4), Ranks(clips=4)
    outputs = object()
    gathered, truth = gather_batch(ranks, outputs, batch)
    assert gathered is outputs and truth.label is batch.label and truth.real is batch.real
    x = torch.arange(4)
    assert ranks.whole(x) is x and ranks.own(x) is x and ranks.any_wants_to_stop(True)
    assert ranks.of_first([1.0]) == [1.0] and ranks.state_of_first(None) is None
    ranks.check_same({"data": 1})


@pytest.mark.parametrize(("count", "world"), [(11, 2), (8, 4), (3, 4), (23, 3)])
def test_loaders_of_ranks_divide_the_global_batches(count, world):
    config = Config()
    config.model.video = config.model.flow = False
    config.loader.batch = 12
    features = features_of({"logmel": [0] * count})
    device = torch.device("cpu")
    alone = make_loader(features, range(count), config, device, True)
    parts = [
        make_loader(features, range(count), config, device, True, Ranks(rank=r, world=world))
        for r in range(world)
    ]
    for epoch in range(2):
        whole, shares = alone.batches(epoch), [p.batches(epoch) for p in parts]
        assert all(len(s) == len(alone) for s in shares)
        for step, rows in enumerate(whole):
            put_back = torch.tensor([s[step].tolist() for s in shares]).T.flatten().tolist()
            assert put_back == rows.tolist()


def test_what_the_matching_loss_reads_comes_whole():
    class Twins(Ranks):
        def gather(self, x):
            return torch.stack([x, x])

    g = torch.Generator().manual_seed(0)

    def yes(*shape):
        return torch.rand(shape, generator=g) > 0.5

    own = Matches(torch.randn(3, 4, 4, generator=g), yes(3, 4), yes(3, 4, 4))
    found = whole_matches(Twins(world=2, clips=3), own)
    for name in ("logits", "mask", "other"):
        assert torch.equal(getattr(found, name), getattr(own, name).repeat_interleave(2, dim=0))
