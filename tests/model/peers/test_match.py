"""The width with DE-III's number of parameters, against trying every width."""

from __future__ import annotations

import pytest

from deiii.data.config.load import load_config
from deiii.model.network.task import Task
from deiii.model.peers.match import count_parameters, matched_width

TASK = Task(("happy", "sad"), ("valence",), ((-1.0, 1.0),))


def test_parameters_are_counted_without_building_them():
    config = load_config("tiny")
    assert count_parameters(config, TASK) == sum(p.numel() for p in TASK.network(config).parameters())


@pytest.mark.parametrize("name", ["late", "gru", "mult", "attention", "vavl", "mbt"])
def test_the_nearest_width_is_found(name):
    config = load_config(
        overrides=["model.width=48", "model.heads=2", "model.channels=[8,8]", f"model.name={name}"]
    )
    target = count_parameters(
        load_config(overrides=["model.width=48", "model.heads=2", "model.channels=[8,8]"]), TASK
    )

    def distance(width: int) -> int:
        config.model.width = width
        return abs(count_parameters(config, TASK) - target)

    best = min(range(4, 200, 4), key=distance)
    config.model.width = 48
    assert matched_width(config, TASK) == best
    assert config.model.width == 48 and config.model.name == name  # the settings stay as they are


def test_a_network_that_is_larger_at_any_width_gets_the_narrowest():
    config = load_config(overrides=["model.width=8", "model.name=vavl", "model.blocks=0"])
    config.model.ife_blocks = 40
    assert matched_width(config, TASK) >= 8
