"""What installed packages add: found through their metadata, loaded when used, told by name when broken."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from deiii.data.cache.recipes import stage_keys
from deiii.data.cache.stages import stages
from deiii.data.config import load, plugins
from deiii.data.config.load import load_config, parse_config, to_yaml
from deiii.data.config.plugins import PluginError, load_plugin
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.corpora.scan import scan

CODE = '''
from dataclasses import dataclass
from deiii.data.cache.stages import Field, Stage
from deiii.data.config.schema import opt
from deiii.data.corpora.clips import Clip, Corpus

@dataclass
class GazeConfig:
    """Gaze."""

    points: int = opt(4, "Points.", low=1)
    threads: int = opt(1, "Threads.", operational=True)

FIELDS = {"gaze": Field("float32", ("gaze.points",), "large"), "time": Field("float64")}
STAGE = Stage("gaze", 1, "video", GazeConfig, FIELDS, "gaze_package:nothing", upstream="faces")

def scan(config):
    return Corpus("any", config.root, ("a",), (Clip("c", "c.mp4", "s", "a"),))
'''
ENTRIES = """[deiii.stages]
gaze = gaze_package:STAGE
[deiii.corpora]
mine = gaze_package:scan
[deiii.encoders]
broken = gaze_package:missing
"""


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """An installed package; what is remembered of others is forgotten before and after."""
    info = tmp_path / "gaze_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gaze-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    (tmp_path / "gaze_package.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    remembered = (plugins.installed, load.config_class, load._keys, stages)
    for function in remembered:
        function.cache_clear()
    yield tmp_path
    monkeypatch.undo()
    sys.modules.pop("gaze_package", None)
    for function in remembered:
        function.cache_clear()


def test_settings_of_a_stage_are_validated_like_all_others(package):
    config = load_config(overrides=["stages=[faces,gaze]", "gaze.points=2"])
    assert config.gaze.points == 2 and isinstance(config, Config)
    assert parse_config(to_yaml(config)) == config
    for word, says in (
        ("gaze.point=2", "did you mean 'gaze.points'"),
        ("gaze.points=0", "gaze.points must be at least 1"),
        ("gaze.points=x", "gaze.points"),
        ("stages=[gase]", "appearance, gaze; it cannot be 'gase'"),
    ):
        with pytest.raises(ConfigError, match=says):
            load_config(overrides=[word])


def test_what_changes_the_result_enters_the_key_and_nothing_else(package):
    def key(*words):
        return stage_keys(load_config(overrides=["stages=[gaze]", *words]))["gaze"]

    assert key("gaze.threads=3") == key() != key("gaze.points=2")
    assert key("faces.size=96") != key()


def test_runs_that_do_not_use_it_keep_their_settings(package):
    assert "gaze" not in to_yaml(load_config())
    assert "points: 4" in to_yaml(load_config(overrides=["stages=[gaze]"]))


def test_a_corpus_adapter_is_a_value_of_corpus_name(package):
    config = load_config(overrides=["corpus.name=mine", "corpus.root=/clips"])
    assert [c.id for c in scan(config.corpus).clips] == ["c"]


def test_a_broken_package_is_named(package):
    with pytest.raises(PluginError, match="'broken' of the package gaze-package.*repair the package"):
        load_plugin(plugins.ENCODERS, "broken")


def test_without_the_package_its_settings_name_what_is_missing():
    with pytest.raises(ConfigError, match="another package adds the stage 'gaze', install it"):
        load_config(overrides=["gaze.points=2"])
    with pytest.raises(ConfigError, match="what another package adds needs that package installed"):
        load_config(overrides=["corpus.name=mine"])
