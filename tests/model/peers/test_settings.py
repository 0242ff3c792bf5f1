"""``model.name``: what is refused, old runs, networks of other packages."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest
import torch

from deiii.data.config import networks, plugins
from deiii.data.config.load import load_config, parse_config, parse_stored, to_yaml
from deiii.data.config.networks import NETWORKS, OWN
from deiii.data.config.schema import Config, ModelConfig
from deiii.data.config.strict_yaml import ConfigError
from deiii.model.network import task as task_module
from deiii.model.network.deiii import DEIII
from deiii.model.network.task import Task, network_class
from deiii.model.peers.late import Late
from tests.helpers.model_helpers import CLASSES, random_batch, small_config
from tests.helpers.network_switches import make

TASK = Task(("happy", "sad"), (), ())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["model.name=late", "model.ife_blocks=3"], "model.ife_blocks=3 has no effect on model.name=late"),
        (["model.ov=concat", "model.name=gru"], "model.ov=concat has no effect on model.name=gru"),
        (["model.name=attention", "model.blocks=1"], "attention has no settings of its own"),
        (["model={name: mult, conv_kernel: 3}"], "only on deiii and late and vavl; leave it out"),
        (
            ["model.name=mbt", "model.time_match=true"],
            "model.time_match=true has no effect on model.name=mbt",
        ),
        (["model.batch_axis=true"], "has no effect on model.name=deiii .DE-III., only on vavl"),
        (["model.name=gru", "model.blocks=0"], "model.blocks=0: model.name=gru .* needs at least 1"),
        (["model.name=mbt", "model.ife_blocks=0"], "needs at least 1"),
        (["model.name=lat"], "model.name is one of deiii, late, gru, mult, attention, vavl, mbt"),
    ],
)
def test_settings_that_do_not_apply_are_refused(words, says):
    with pytest.raises(ConfigError, match=says):
        load_config(overrides=words)


def test_a_recipe_file_serves_all_networks(tmp_path):
    """What a file says of DE-III's parts is left aside, except what asks for more than the network can do."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: {conformer: false, ife: false, ov: concat, ife_blocks: 1, conv_kernel: 3}")
    for name in NETWORKS:
        config = load_config([recipe, "tiny"], [f"model.name={name}"])
        assert type(TASK.network(config)) is network_class(name)
        assert parse_config(to_yaml(config)).model == config.model
    recipe.write_text("model: {time_match: true}")
    with pytest.raises(ConfigError, match="model.time_match=true has no effect on model.name=gru"):
        load_config(recipe, ["model.name=gru"])


@pytest.mark.parametrize("name", [n for n in NETWORKS if n != "deiii"])
def test_a_network_refuses_what_it_does_not_have_when_it_is_built(name):
    with pytest.raises(ConfigError, match="model.time_match=true has no effect"):
        make(name=name, time_match=True)
    for changes in ({"heads": 3}, {"classes": False}, {"video": False, "flow": False, "audio": False}):
        with pytest.raises(ConfigError):
            make(attributes=0, name=name, **changes)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_table_says_which_settings_a_network_reads(name):
    """A setting that is read changes the parameters or the outputs; one that is not read changes neither."""
    other = {
        "blocks": 2, "ife_blocks": 2, "conv_kernel": 5, "ov": "concat", "conformer": False, "ife": False,
        "modality_heads": False, "time_match": True, "batch_axis": True,
    }  # fmt: skip
    assert other.keys() == OWN
    batch = random_batch()

    def result(**changes):
        outputs = make(name=name, **changes).train()(batch)
        return [outputs.fused.logits, *(x.logits for x in outputs.heads().values()), outputs.matches]

    def differ(a, b):
        same = len(a) == len(b) and all(
            torch.equal(x, y) if isinstance(x, torch.Tensor) else (x is None) == (y is None)
            for x, y in zip(a, b, strict=True)
        )
        return not same

    before = result()
    assert not differ(before, result())
    for setting, value in other.items():
        if setting in NETWORKS[name].reads:
            assert differ(before, result(**{setting: value})), setting
        elif setting not in ("time_match", "batch_axis"):  # refused
            assert not differ(before, result(**{setting: value})), setting


def test_runs_from_before_the_setting_are_deiii():
    assert parse_stored("model: {width: 32}").model.name == "deiii"
    assert isinstance(TASK.network(parse_stored("model: {width: 32}")), DEIII)
    assert ModelConfig().name == "deiii" and not ModelConfig().batch_axis


class Mine(Late):
    """The network of another package."""


def test_a_package_adds_a_network(monkeypatch):
    entries = {
        "mine": EntryPoint("mine", f"{__name__}:Mine", plugins.NETWORKS),
        "wrong": EntryPoint("wrong", "torch.nn:Linear", plugins.NETWORKS),
    }
    for module in (plugins, networks):
        monkeypatch.setattr(module, "installed", lambda group: entries if group == plugins.NETWORKS else {})
    monkeypatch.setattr("deiii.data.config.load.installed", networks.installed)
    monkeypatch.setattr(task_module, "load_plugin", plugins.load_plugin)
    config = load_config("tiny", ["model.name=mine", "model.ife_blocks=3"])  # it may read any setting
    assert type(TASK.network(config)) is Mine
    assert (
        Mine(small_config(name="mine"), CLASSES, 2, 24).eval()(random_batch()).fused.logits.isfinite().all()
    )
    with pytest.raises(
        ConfigError, match="must name a subclass of deiii.model.network.inputs.network.Network"
    ):
        TASK.network(load_config("tiny", ["model.name=wrong"]))
    gone = Config()
    gone.model.name = "gone"
    with pytest.raises(ConfigError, match="model.name is one of deiii, .*mbt, mine, wrong"):
        TASK.network(gone)
