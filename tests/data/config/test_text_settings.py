"""Paths and other text settings keep every character, on the command line and in YAML files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from deiii.data.config.keys import NO_PATH, text_keys
from deiii.data.config.load import load_config, parse_config, to_yaml
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.config.words import read_settings

# What neither a path nor a command line can hold, and OmegaConf's references, which are refused.
PATHS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(
    lambda text: (
        "${" not in text
        and not NO_PATH.match(text)
        and text not in ("???", "null", "~")
        and not text.startswith("~/")
    )
)


@given(PATHS)
def test_any_path_comes_out_as_it_was_given(path):
    config = read_settings([f"corpus.root={path}", f"cache={path}", f"train.run={path}"])
    assert config.corpus.root == config.cache == config.train.run == path
    assert parse_config(to_yaml(config)) == config


@given(path=PATHS)
def test_any_path_in_a_yaml_file_comes_out_as_it_was_written(path, tmp_path_factory):
    file = tmp_path_factory.mktemp("config") / "a.yaml"
    file.write_text(yaml.safe_dump({"cache": path, "mix": [path]}, allow_unicode=True), encoding="utf-8")
    config = load_config(file)
    assert config.cache == path and config.mix == [path]


@pytest.mark.parametrize("key", ["corpus.root", "cache", "train.run", "mix"])
@pytest.mark.parametrize("path", ["$HOME/x", "$(pwd)/x", "~anna/x", "%TEMP%/x", "s3://bucket/x", "file:///x"])
def test_what_only_a_shell_or_a_server_finds_is_refused_unless_it_exists(key, path, tmp_path, monkeypatch):
    value = f"['{path}']" if key == "mix" else path
    what = "is an address" if "://" in path else "is not expanded here"
    with pytest.raises(ConfigError, match=re.escape(f"{key}: {path} {what}")):
        read_settings([f"{key}={value}"])
    monkeypatch.chdir(tmp_path)
    Path(path).mkdir(parents=True)
    assert path in to_yaml(read_settings([f"{key}={value}"]))


@pytest.mark.parametrize("path", ["a$HOME", "$", "$/x", "~", "100%", "5%/x", "a~b/c", "C:/x", "a:b", "(a)/x"])
def test_names_with_such_characters_elsewhere_are_paths(path):
    assert read_settings([f"cache={path}"]).cache == (str(Path.home()) if path == "~" else path)


@pytest.mark.parametrize("value", ["no", "off", "1.10", "010", "1e3", "2024-01-01", "1:30", "0x10", "True"])
def test_plain_values_of_text_settings_stay_text(value, tmp_path):
    (tmp_path / "a.yaml").write_text(f"cache: {value}\ncorpus:\n  root: {value}\nmix: [{value}]\n")
    config = load_config(tmp_path / "a.yaml")
    assert config.cache == config.corpus.root == value and config.mix == [value]
    assert load_config(overrides=[f"mix=[{value}, b]"]).mix == [value, "b"]


def test_null_and_nothing_are_no_value_only_where_none_is_allowed():
    config = load_config(overrides=["corpus.table=null", "faces.weights=", "corpus.root=null", "cache=~null"])
    assert config.corpus.table is None and config.faces.weights is None
    assert config.corpus.root == "null" and config.cache == "~null"
    for key in ("corpus.root", "cache", "train.run"):
        with pytest.raises(ConfigError, match=f"'{key}=' has no value"):
            load_config(overrides=[f"{key}="])


def test_a_path_cut_by_a_comment_is_refused_and_a_comment_is_not(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("corpus:\n  root: /data/Set #1\n")
    with pytest.raises(ConfigError, match="a.yaml.*line 2: corpus.root is cut at ' #'.*in quotes"):
        load_config(file)
    file.write_text("corpus:\n  root: /data/Set  # where the clips are\n")
    assert load_config(file).corpus.root == "/data/Set"
    file.write_text("corpus:\n  root: '/data/Set #1'\n")
    assert load_config(file).corpus.root == "/data/Set #1"


def test_only_the_home_folder_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/anna")
    words = ["cache=~/cache", "corpus.root=~", "mix=[~/a.yaml]", "cluster.queue=~/x"]
    config = load_config(overrides=words)
    assert (config.cache, config.corpus.root) == ("/home/anna/cache", "/home/anna")
    assert config.mix == ["/home/anna/a.yaml"]
    assert config.cluster.queue == "~/x"  # no path


@pytest.mark.parametrize("path", ["s3://bucket/a", "file:///data", "$HOME/a", "~ben/a", "%TEMP%/a"])
@pytest.mark.parametrize("key", ["cache", "corpus.root", "train.run", "mix"])
def test_addresses_and_names_for_a_shell_are_no_folders(path, key, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({"mix": [path]} if key == "mix" else {"cache": path}))
    with pytest.raises(ConfigError, match="by its path"):
        load_config("a.yaml" if key == "mix" else (), [] if key == "mix" else [f"{key}={path}"])
    assert parse_config(f"cache: '{path}'").cache == path  # what an older run recorded
    if "://" not in path:
        (tmp_path / path).mkdir(parents=True)
        assert load_config("a.yaml")


def test_a_config_below_a_folder_that_looks_like_a_setting_is_a_config(tmp_path):
    file = tmp_path / "lr=0.1" / "a.yaml"
    file.parent.mkdir()
    file.write_text("workers: 3\n")
    assert read_settings([str(file)]).workers == 3


def test_every_setting_that_names_a_place_is_a_path():
    from dataclasses import fields, is_dataclass

    from deiii.data.config.schema import Config

    def paths(section, prefix=""):
        for f in fields(section):
            value = getattr(section, f.name)
            if is_dataclass(value):
                yield from paths(value, f"{prefix}{f.name}.")
            elif f.metadata["path"]:
                yield prefix + f.name

    named = set(paths(Config()))
    assert {"corpus.root", "corpus.table", "cache", "train.run", "faces.weights", "flow.weights"} <= named
    assert named <= {*text_keys(), *text_keys(lists=True)}


def test_a_relative_path_stays_relative():
    assert not Path(load_config(overrides=["cache=a/b"]).cache).is_absolute()
