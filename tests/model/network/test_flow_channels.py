"""Stacked flow: every network has an encoder of as many channels, and reads each of them."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import EntryPoint

import pytest
import torch

from deiii.data.config import networks, plugins
from deiii.data.config.load import load_config
from deiii.data.config.networks import NETWORKS
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.loader.batch import Batch
from deiii.model.network import task as task_module
from deiii.model.network.deiii import DEIII
from deiii.model.network.inputs.network import Network
from deiii.model.network.task import Task
from tests.helpers.model_helpers import random_batch

TASK = Task(("happy", "sad"), (), ())
STACK = ("loader.flow_frames=3", "loader.flow_join=stack")
SMALL = ("model.channels=[8,16]", "model.width=16", "model.heads=2", "model.grid=2", "logmel.n_mels=24")


def stacked_batch(channels: int) -> Batch:
    batch, g = random_batch(), torch.Generator().manual_seed(1)
    return replace(batch, flow=torch.randn(4, 5, channels, 16, 16, generator=g))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_reads_every_channel(name):
    torch.manual_seed(0)
    network = TASK.network(load_config("tiny", [f"model.name={name}", *SMALL, *STACK])).eval()
    assert network.flow_encoder.stem[0].in_channels == 6
    batch = stacked_batch(6)
    before = network(batch).fused.logits
    for channel in range(6):
        flow = batch.flow.clone()
        flow[:, :, channel] += 1
        assert not torch.equal(network(replace(batch, flow=flow)).fused.logits, before), channel


@pytest.mark.parametrize("words", [(), ("loader.flow_frames=3",), ("loader.flow_join=stack",)])
def test_a_sum_and_a_single_frame_have_two_channels(words):
    config = load_config("tiny", [*SMALL, *words])
    torch.manual_seed(0)
    found = TASK.network(config).state_dict()
    torch.manual_seed(0)
    wanted = DEIII(config.model, 2, 0, 24).state_dict()
    assert found.keys() == wanted.keys() and all(torch.equal(found[n], wanted[n]) for n in wanted)


def test_flow_of_an_odd_number_of_channels_is_refused():
    with pytest.raises(ValueError, match=r"Batch.flow has the shape \[4, 5, 3, 16, 16\].*an even V"):
        stacked_batch(3)


class Older(DEIII):
    """A network of another package that does not know of stacked flow."""

    def __init__(self, config, n_classes, n_attributes, n_mels, ranges, imagenet, extra):
        super().__init__(config, n_classes, n_attributes, n_mels, ranges, imagenet, extra)


class Newer(DEIII):
    """One that passes on what it is given."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)


def test_networks_of_packages_need_the_argument_for_stacked_flow_alone(monkeypatch):
    own: dict[str, type[Network]] = {"older": Older, "newer": Newer}
    entries = {n: EntryPoint(n, f"{__name__}:{c.__name__}", plugins.NETWORKS) for n, c in own.items()}
    for module in (plugins, networks):
        monkeypatch.setattr(module, "installed", lambda group: entries if group == plugins.NETWORKS else {})
    monkeypatch.setattr("deiii.data.config.load.installed", networks.installed)
    monkeypatch.setattr(task_module, "load_plugin", plugins.load_plugin)

    def network(name, *words):
        return TASK.network(load_config("tiny", [f"model.name={name}", *SMALL, *words]))

    assert type(network("older", "loader.flow_frames=3")) is Older
    assert type(network("older", *STACK, "model.flow=false")) is Older
    with pytest.raises(ConfigError, match=r"model.name=older.*no argument flow_channels.*flow_join=sum"):
        network("older", *STACK)
    assert network("newer", *STACK).flow_encoder.stem[0].in_channels == 6
