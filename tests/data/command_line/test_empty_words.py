"""An empty word, as of an unset variable, is refused by every command that takes names."""

from __future__ import annotations

import argparse

import pytest

from deiii.__main__ import build_parser, main


def named(action: argparse.Action) -> bool:
    """Return whether an argument takes names: words of any text, not settings."""
    words = action.nargs != 0 and action.type is None and action.choices is None
    return words and action.dest not in ("settings", "help")


def commands() -> dict[str, argparse.ArgumentParser]:
    return next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction)).choices


def lines() -> list[tuple[str, list[str]]]:
    """Return a command line for each argument of each command that takes a name, with an empty one for it."""
    found = []
    for command, parser in commands().items():
        places = [a for a in parser._actions if not a.option_strings and a.dest != "settings"]
        filled = [str((a.choices or ["x"])[0]) for a in places if a.nargs not in ("*", "?")]
        needed = [a for a in parser._actions if a.option_strings and a.required]
        more = [word for a in needed for word in (a.option_strings[-1], str((a.choices or ["x"])[0]))]
        for action in parser._actions:
            if not named(action):
                continue
            if action.option_strings:
                found.append((action.option_strings[-1], [command, *filled, action.option_strings[-1], " "]))
                continue
            required = [a for a in places if a.nargs not in ("*", "?")]
            words = ["" if a is action else w for a, w in zip(required, filled, strict=True)]
            words += more if action in required else [*more, ""]
            found.append((str(action.metavar), [command, *words]))
    return found


def test_many_arguments_are_tried():
    tried = {(words[0], name) for name, words in lines()}
    assert len(tried) > 40
    assert {("evaluate", "RUN"), ("compare", "RUN"), ("predict", "--live"), ("cut", "TABLE")} <= tried


@pytest.mark.parametrize(("name", "words"), lines(), ids=lambda value: "-".join(value).replace(" ", "_"))
def test_an_empty_word_is_refused(name, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, tmp_path / "x"):
        folder.mkdir(exist_ok=True)
        (folder / "run.json").write_text("{}")
    before = sorted(tmp_path.rglob("*"))
    assert main(words) == 1
    told = capsys.readouterr().err
    assert f"the word for {name} is empty (is an environment variable not set?)" in told
    assert len(told.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before
