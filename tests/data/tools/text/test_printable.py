"""Names with control characters reach no terminal as they are."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import termios
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deiii.data.tools.counts import examples
from deiii.data.tools.os_errors import explain
from deiii.data.tools.progress import always_shown, progress_bar, say
from deiii.data.tools.text.printable import printable, printable_name

HOSTILE = "a\x1b[31m\r\x07\x9b2J\u202e\nb.mp4"
SHOWN = r"a\x1b[31m\r\x07\u009b2J\u202e\nb.mp4"


def is_control(character: str) -> bool:
    return unicodedata.category(character) == "Cc"


def test_every_control_character_is_escaped_and_nothing_else():
    for number in [*range(0x250), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x9AD8]:
        character = chr(number)
        kept = not is_control(character) and number < 0x250 or number == 0x9AD8
        assert (printable_name(character) == character) is kept, hex(number)
        assert (printable(character) == character) is (kept or character in "\t\n"), hex(number)
        assert eval(f"'{printable_name(character)}'" if not kept else "character") == character


@pytest.mark.parametrize(
    "name", ["Zoë 1.mp4", "高兴.wav", "שלום.mp4", "a\u200db", r"C:\new\table", "e\u0301"]
)
def test_names_of_every_language_stay(name):
    assert printable_name(name) == printable(name) == name


@given(st.text())
def test_json_that_a_command_prints_keeps_its_content(name):
    text = printable(json.dumps({"path": name}, ensure_ascii=False))
    assert json.loads(text) == {"path": name} and not any(map(is_control, text))


def test_messages_show_names_in_one_line(capsys):
    assert printable_name(HOSTILE) == SHOWN
    assert examples([HOSTILE, 7]) == f"{SHOWN}, 7"
    assert explain(FileNotFoundError(2, "", HOSTILE)).startswith(f"{SHOWN}: no such file")
    say(f"{HOSTILE}: sad")
    always_shown(say)(f"{HOSTILE}: sad")
    assert capsys.readouterr().out == f"{SHOWN}: sad\n".replace(r"\n", "\n") * 2


PROGRAM = """
import logging, sys
from deiii.data.command_line.entry import Command, run
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.tools.progress import progress_bar

name = sys.argv[1]

def act():
    print(name, flush=True)
    print(name, file=sys.stderr)
    logging.getLogger("deiii").warning("%s is left out", name)
    with progress_bar(desc=name, unit="clip", total=1) as bar:
        bar.update()
    raise ConfigError(f"{name} is no media file")

sys.exit(run(lambda: Command(act)))
"""


def test_a_command_writes_no_control_characters_of_names_to_a_terminal():
    main_end, other_end = pty.openpty()
    termios.tcsetwinsize(other_end, (25, 200))  # a bar needs some width
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, HOSTILE],
        stdin=subprocess.DEVNULL, stdout=other_end, stderr=other_end, env={**environment, "TERM": "xterm"},
    )  # fmt: skip
    os.close(other_end)
    shown = b""
    try:
        while data := os.read(main_end, 4096):
            shown += data
    except OSError:  # Linux reports an error when the other end is closed
        pass
    os.close(main_end)
    assert process.wait() == 1
    text = shown.decode()
    assert text.count("\x1b") == 2 and "\x1b[1;31merror:\x1b[0m a" in text  # its own colour
    assert not {c for c in text if is_control(c)} - set("\r\n\x1b") and "\u202e" not in text
    assert text.count(SHOWN.partition(r"\n")[0]) >= 5
    assert f"\r{SHOWN}:" in text  # the bar: one line, which is drawn again and again


def test_a_bar_has_the_name_of_a_file_in_one_line(capsys):
    with progress_bar(desc=HOSTILE, unit="clip", total=1) as bar:
        bar._write()
    assert capsys.readouterr().err.startswith(f"{SHOWN}:")
