"""The command ``deiii init``: three questions, four without a folder, none with --yes."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from deiii.data.command_line.entry import NOTHING_DONE
from deiii.data.config.words import add_command
from deiii.data.tools.progress import say

if TYPE_CHECKING:
    from deiii.pipeline.init.found import Found

PRESETS = {"cpu": "tiny", "gpu": "base"}
YES = ("y", "yes")
ANSWERS = "a layout has the word label, as in speaker/label/clip; a table is a file; yes takes what was found"


def add_init(commands: argparse._SubParsersAction) -> None:
    """Add the command to ``deiii``'s parser."""
    sub = add_command(
        commands,
        "init",
        _init,
        help="look at a folder of recordings and write its config and table",
        description="Find speaker and label of the recordings in a folder. The folder may hold a corpus that "
        "deiii knows, a table with usual column names (any separator and encoding), or folders and file "
        "names such as speaker/label/clip. Write a config (YAML) and the table clips.csv, and print the next "
        "commands. In a terminal, the command asks three questions, or four if no folder is named; with "
        "--yes it asks none and accepts what was found. It opens no recording.",
        examples=[
            "init",
            "init /clips --yes",
            "init /clips --yes --layout label/speaker/clip",
            r"init /clips --yes --speaker '([a-z]+)_\d+'",
        ],
        when_stopped=NOTHING_DONE,
    )
    sub.add_argument("folder", nargs="?", metavar="FOLDER", help="folder of the recordings")
    sub.add_argument("--yes", action="store_true", help="accept what was found without questions")
    sub.add_argument("--force", action="store_true", help="overwrite the config and clips.csv")
    sub.add_argument(
        "--config", metavar="YAML", help="file to write (default: the folder's name, in the current folder)"
    )
    how = sub.add_mutually_exclusive_group()
    how.add_argument("--table", metavar="FILE", help="table to read (default: the table that fits best)")
    how.add_argument(
        "--layout",
        help="position of speaker and label in the paths, e.g. speaker/label/clip or, for "
        "names such as anna_happy_01.mp4, speaker_label_clip",
    )
    sub.add_argument(
        "--speaker",
        metavar="REGEX",
        help="regular expression for the paths below FOLDER; the speaker is its group, or the whole match "
        "if it has none",
    )


def _init(args: argparse.Namespace) -> int:
    from deiii.pipeline.init.found import InitError
    from deiii.pipeline.init.look import look
    from deiii.pipeline.init.write import file_name

    gpu = "gpu" if shutil.which("nvidia-smi") else "cpu"
    if args.yes:
        if args.folder is None:
            raise InitError("name the folder of the recordings: deiii init FOLDER --yes")
        found = look(args.folder, args.table, args.layout, args.speaker)
        return _write(args, Path(args.folder), found, gpu, args.config or file_name(Path(args.folder)))
    if not sys.stdin.isatty():
        if args.folder is not None:
            look(args.folder, args.table, args.layout, args.speaker)  # a wrong folder is the first reason
        named = "FOLDER" if args.folder is None else shlex.quote(str(args.folder))
        raise InitError(f"there is no terminal to ask in; deiii init {named} --yes accepts what was found")
    numbers = ("1/4", "2/4", "3/4", "4/4") if args.folder is None else ("", "1/3", "2/3", "3/3")
    folder = Path(
        os.path.expanduser(args.folder or _ask(f"{numbers[0]}  Which folder holds the recordings?", "."))
    )
    found = _agreed(args, folder, numbers[1])
    device = _ask(f"{numbers[2]}  Will this computer train on a gpu, or on its cpu?", gpu, tuple(PRESETS))
    config = _ask(f"{numbers[3]}  Which config file is to be written?", args.config or file_name(folder))
    return _write(args, folder, found, device, config)


def _write(args: argparse.Namespace, folder: Path, found: Found, device: str, config: str) -> int:
    from deiii.pipeline.init.write import write

    preset = "" if found.config in ("ravdess_audio",) else PRESETS[device]  # has sizes of its own
    for line in write(found, folder, Path(config), preset, args.force):
        (print if line.startswith("wrote ") else say)(line)
    return 0


def _agreed(args: argparse.Namespace, folder: Path, number: str) -> Found:
    """Return the proposal for the folder after the user's answers; ``number`` is that of the question."""
    from deiii.pipeline.init.found import InitError, with_counts
    from deiii.pipeline.init.look import look

    table, layout = args.table, args.layout
    found: Found | None = None
    while True:
        try:
            found = look(folder, table, layout, args.speaker)
            args.table = table
        except InitError as error:
            print(f"     {error}")
        if found is not None:
            print(f"     found: {found.how}")
            if found.rows:
                print(f"     speakers: {with_counts((row.speaker for row in found.rows), 3)}")
                print(f"     labels: {with_counts((row.label for row in found.rows), 8)}")
            for note in found.notes:
                print(f"     note: {note}")
        while True:
            answer = _ask(
                f"{number}  Is that right? If not, type a layout such as speaker/label/clip, or the path of "
                "a table.",
                "yes" if found else "",
            )
            if found is not None and answer.lower() in YES:
                return found
            is_table = Path(answer).is_file() or (folder / answer).is_file()
            if is_table or "label" in answer.lower() or Path(answer).suffix:
                break
            print(f"     {answer} is neither a layout nor a table: {ANSWERS}")
        table, layout = (answer, None) if is_table or "label" not in answer.lower() else (None, answer)


def _ask(question: str, default: str, choices: tuple[str, ...] = ()) -> str:
    """Return an answer from the terminal; the default for an empty one."""
    while True:
        try:
            answer = input(f"{question} {f'[{default}] ' if default else ''}").strip() or default
        except EOFError:
            raise KeyboardInterrupt from None
        if answer and not choices:
            return answer
        if answer.lower() in choices:
            return answer.lower()
        print(f"     type {' or '.join(choices) or 'an answer'}")
