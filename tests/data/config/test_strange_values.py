"""Any text as the value of any setting: it is taken, or refused in one line that names the setting."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deiii.data.config.keys import all_keys
from deiii.data.config.load import load_config, parse_config, to_yaml
from deiii.data.config.strict_yaml import ConfigError

KEYS = all_keys()
VALUES = (
    "-1", "0", "1", "0.5", "inf", "-inf", "nan", ".inf", ".nan", "1e30", "-1e30", "1e400", "1e-3", "0x10",
    "012", "1_000", "2024-01-01", "1:30", "on", "yes", "no", "true", "null", "~", "", " ", "text", "a b", "ü",
    "[]", "[1]", "[text]", "[null]", "[[1]]", "[nan]", "{}", "{a: 1}", "{a: {b: c}}", "{1: 2}", "[", "}", "'",
    "a: b", "- a", "# a", "!!python/object:os.system", "&a", "*a", "${workers}", "???", "%", "\x00", "\ud800",
    "9" * 400, "[" * 200,
)  # fmt: skip


def check(key: str, value: str) -> None:
    try:
        config = load_config(overrides=[f"{key}={value}"])
    except ConfigError as error:
        words = str(error)
        assert key.split(".")[-1] in words or key.split(".")[0] in words, words
        assert len(words) < 1000 and "Traceback" not in words, words
        return
    assert parse_config(to_yaml(config)) == config


@pytest.mark.parametrize("value", ["\ud800", "\udc80", "9" * 400])
@pytest.mark.parametrize("key", ["corpus.root", "cache", "corpus.synthetic.seconds", "train.lr"])
def test_values_that_no_file_or_number_can_hold(key, value):
    check(key, value)


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(KEYS), st.sampled_from(VALUES) | st.text(max_size=8))
def test_any_value_is_taken_or_refused_in_one_line(key, value):
    check(key, value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("train: {lr: !!int abc}", "is not valid YAML: a value is not of the type of its tag"),
        ("train: {lr: !!float abc}", "is not valid YAML: a value is not of the type of its tag"),
        ("train: {lr: !!timestamp abc}", "is not valid YAML: a value is not of the type of its tag"),
        ("train: {class_weights: !!bool abc}", "is not valid YAML: a value is not of the type of its tag"),
        (f"train: {{epochs: {'9' * 5000}}}", "or too long"),
        (r'corpus: {root: "a\0b"}', "holds a character that no file name or text file can hold"),
        (r'mix: ["a\uD800b"]', "holds a character that no file name or text file can hold"),
        (r'corpus: {codes: {a: "\0"}}', "holds a character that no file name or text file can hold"),
    ],
)
def test_a_file_with_values_that_yaml_does_not_check(text, says, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        load_config(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_a_number_of_thousands_of_digits_is_refused():
    with pytest.raises(ConfigError, match="train.epochs must be a whole number"):
        load_config(overrides=[f"train.epochs={'9' * 5000}"])
