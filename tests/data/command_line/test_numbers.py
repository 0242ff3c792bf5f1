"""Options that are numbers refuse what lies outside their limits, with the limits in the message."""

from __future__ import annotations

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deiii.__main__ import build_parser
from deiii.data.command_line.numbers import seconds, whole_number, whole_numbers


@given(st.integers())
def test_whole_numbers_within_the_limits_only(n):
    read = whole_number(1, 64)
    if 1 <= n <= 64:
        assert read(str(n)) == n
    else:
        with pytest.raises(argparse.ArgumentTypeError, match="at least 1 and at most 64"):
            read(str(n))


@given(st.floats())
def test_seconds_within_the_limits_only(x):
    read = seconds(60)
    if 0 < x <= 60:
        assert read(repr(x)) == x
    else:
        with pytest.raises(argparse.ArgumentTypeError, match="more than 0 and at most 60"):
            read(repr(x))


@pytest.mark.parametrize("text", ["", "x", "1.5", "1,", "1,,2", "0,-1"])
def test_lists_of_numbers_have_no_other_items(text):
    with pytest.raises(argparse.ArgumentTypeError):
        whole_numbers(0, 9)(text)


def numeric_options() -> list[tuple[str, str]]:
    """The options of all commands that take a number: those whose metavar says so."""
    commands = build_parser()._subparsers._group_actions[0].choices
    return [
        (name, action.option_strings[0])
        for name, parser in commands.items()
        for action in parser._actions
        if action.option_strings and action.metavar in ("N", "S", "0,1", "0,1,2")
    ]


@pytest.mark.parametrize(("command", "option"), numeric_options())
@pytest.mark.parametrize("value", ["-1", "nan", "inf", "x", "1e99", "99999999999"])
def test_every_numeric_option_has_limits(command, option, value, capsys):
    with pytest.raises(SystemExit) as caught:
        build_parser().parse_args([command, "a", "b", f"{option}={value}"])
    assert caught.value.code == 2
    assert f"argument {option}" in capsys.readouterr().err


def test_there_are_numeric_options_and_no_unlimited_ones():
    assert len(numeric_options()) >= 6
    commands = build_parser()._subparsers._group_actions[0].choices
    for parser in commands.values():
        assert all(action.type not in (int, float) for action in parser._actions)


@pytest.mark.parametrize("option", ["--window=0", "--hop=0"])
def test_a_window_without_length_is_refused(option, capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args(["predict", "run", "clip.mp4", option])
    assert "more than 0" in capsys.readouterr().err
