"""Messages of the three packages name nothing that an installation lacks, and numbers fit their nouns."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from deiii.__main__ import build_parser
from tests.test_structure import PACKAGES, modules, parsed

# A wheel has neither make nor docs/, and configs are named without their folder.
NOT_IN_A_WHEEL = re.compile(r"\bmake [a-z]+\b(?= |`|$)|`make\b|\bdocs/|\.venv|configs/|requirements\.lock")
ORDINARY = re.compile(r"\bmake (of|sure|a|it)\b|what you make of it")
COUNTED = re.compile(
    r"^ (test |training |validation )?(clip|shard|run|file|speaker|fold|problem|note|defect|worker)s\b"
)
# Reasons that stages store in the caches: another text would change the bytes of shards.
STORED = ("pipeline/media", "pipeline/faces", "pipeline/flow", "pipeline/logmel", "pipeline/stages")


def texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The line and text of every string that is no docstring."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


@pytest.mark.parametrize("path", modules(*PACKAGES), ids=str)
def test_no_message_names_what_a_wheel_lacks(path):
    for line, text in texts(parsed(path)):
        assert not NOT_IN_A_WHEEL.search(ORDINARY.sub("", text)), f"{path}:{line}: {text}"


def test_comments_of_shipped_configs_name_deiii():
    root = Path(__file__).parents[1]
    for path in sorted((root / "configs").glob("*.yaml")):
        comments = "\n".join(re.findall(r"#.*", path.read_text()))
        assert not re.search(r"CONFIG=|`make\b|#\s+make ", comments), path


@pytest.mark.parametrize("path", modules(*PACKAGES), ids=str)
def test_numbers_of_things_are_counted_by_the_helper(path):
    if str(path).startswith(STORED):
        return
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.JoinedStr):
            for number, after in zip(node.values, node.values[1:], strict=False):
                if isinstance(number, ast.FormattedValue) and isinstance(after, ast.Constant):
                    assert not COUNTED.match(after.value), f"{path}:{node.lineno}: use counted()"


def test_every_command_that_a_message_names_exists():
    commands = set(build_parser()._subparsers._group_actions[0].choices) | {"help"}
    for path in modules(*PACKAGES):
        for line, text in texts(parsed(path)):
            for command in re.findall(r"`deiii ([a-z_]+)", text):
                assert command in commands, f"{path}:{line}: {text}"


COMMANDS = "|".join(build_parser()._subparsers._group_actions[0].choices)
IN_A_COMMAND = re.compile(rf"\bdeiii ({COMMANDS})( [^`,;:()]*)?$")  # the text before a value of the command
END_OF_A_COMMAND = re.compile(r"[`,;:()\n]")
NEEDS_NO_QUOTES = {"args.corpus", "words", "configs", "run", "named"}  # names, and what is quoted before


def unquoted(node: ast.JoinedStr) -> Iterator[str]:
    """The values of an f-string that stand in a command to type and that no shell quotes."""
    inside = False
    for part in node.values:
        if isinstance(part, ast.Constant):
            text = str(part.value)
            after = END_OF_A_COMMAND.split(text)[-1]
            inside = bool(IN_A_COMMAND.search(text)) or (inside and after == text)
        elif inside and isinstance(part, ast.FormattedValue):
            source = ast.unparse(part.value)
            if source not in NEEDS_NO_QUOTES and not source.startswith(("shlex.quote(", "shlex.join(")):
                yield source


@pytest.mark.parametrize("path", modules(*PACKAGES), ids=str)
def test_values_in_commands_to_type_are_quoted_for_the_shell(path):
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.JoinedStr):
            assert not (found := list(unquoted(node))), f"{path}:{node.lineno}: {found}"
