"""A value of the wrong type is refused with the setting, the value and what the setting takes."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deiii.__main__ import main
from deiii.data.config.load import load_config
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError

# A value that no setting of the type takes, and what the message says instead.
WRONG = {
    "int": ("ten", "a whole number"),
    "float": ("fast", "a number"),
    "float | None": ("fast", "or null for none"),
    "bool": ("maybe", "true or false"),
    "list[int]": ("[a]", "a list of whole numbers"),
    "list[str]": ("word", "a list of names"),
    "dict[str, str | None]": ("[a]", "maps names to names"),
}


def typed(section=None, prefix=""):
    """Name and type of every setting that is not text."""
    for f in fields(section or Config()):
        value = getattr(section or Config(), f.name)
        if is_dataclass(value):
            yield from typed(value, f"{prefix}{f.name}.")
        elif f.type in WRONG:
            yield prefix + f.name, f.type


KINDS = dict(typed())


def test_every_type_is_there():
    assert set(KINDS.values()) == set(WRONG) and len(KINDS) > 100


@pytest.mark.parametrize("name", sorted(KINDS))
def test_the_message_names_setting_value_and_type(name, tmp_path):
    value, takes = WRONG[KINDS[name]]
    section, _, key = name.rpartition(".")
    tree = f"{key}: {value}"
    for part in reversed(section.split(".") if section else []):
        tree = f"{part}: {{{tree}}}"
    file = tmp_path / "a.yaml"
    file.write_text(tree)
    for words in ({"overrides": [f"{name}={value}"]}, {"paths": [file]}):
        with pytest.raises(ConfigError) as error:
            load_config(**words)
        text = str(error.value)
        assert f"{name} must be" in text or f"{name} maps" in text
        assert takes in text and value.strip("[]") in text and "\n" not in text


@pytest.mark.parametrize("name", ["train", "faces", "corpus.synthetic", "cluster"])
@pytest.mark.parametrize("value", ["5", "text", "[1]", "null", "true"])
def test_a_section_is_no_value(name, value):
    with pytest.raises(ConfigError, match=rf": {name} is a section of settings, such as {name}\.\w+=VALUE"):
        load_config(overrides=[f"{name}={value}"])


@given(st.integers() | st.floats(0.1, 0.9))
@settings(max_examples=30, deadline=None)
def test_a_switch_takes_no_other_number_than_0_and_1(number):
    words = {"overrides": [f"model.flow={number!r}"]}
    if number in (0, 1):
        assert load_config(**words).model.flow is bool(number)
    else:
        with pytest.raises(ConfigError, match="model.flow must be true or false, not"):
            load_config(**words)


def test_lists_of_inputs_and_choices_are_the_example():
    with pytest.raises(ConfigError, match=r"or a list of inputs, such as \[logmel,speech\], not 'logmel'"):
        load_config(overrides=["model.audio=logmel"])
    with pytest.raises(ConfigError, match=r"such as \[valence,arousal\], not 'valence'"):
        load_config(overrides=["model.attributes=valence"])


def test_the_command_says_it_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "tiny", "train.epochs=ten"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    assert "train.epochs must be a whole number, such as 30, not 'ten'" in said
