"""The command ``deiii cut``."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from deiii.data.config.words import add_command
from deiii.data.tools.counts import counted

if TYPE_CHECKING:
    from deiii.pipeline.cut.cut import CutResult

MOST_FAILED = 0.1  # share of segments without a file above which the exit status is 1, as in preprocess


def add_cut(commands: argparse._SubParsersAction) -> None:
    """Add the command to ``deiii``'s parser."""
    sub = add_command(
        commands,
        "cut",
        _cut,
        help="cut long recordings into the clips that a table lists",
        description="Cut recordings into one file for each row of a table of segments. The table has a "
        "column for the recording, and begin and end (or duration) in s, in ms (start_ms) or as "
        "hours:minutes:seconds; speaker, label and values are copied into OUT/clips.csv, which `deiii "
        "preprocess` reads. Any separator and encoding, and tables that ELAN and Audacity export, are read. "
        "OUT/cut.csv has the outcome of every row. The exit status is 1 if more than a tenth of the segments "
        "have no file.",
        examples=[
            "cut interviews/segments.csv /clips",
            "cut annotations.txt /clips --recording interview.mp4",
        ],
        when_stopped="the clips of finished recordings are kept: run the same command again to continue",
    )
    sub.add_argument("table", metavar="TABLE", help="table of segments")
    sub.add_argument("out", metavar="OUT", help="folder to write the clips into")
    sub.add_argument("--root", metavar="FOLDER", help="folder of the recordings (default: that of the table)")
    sub.add_argument(
        "--recording", metavar="FILE", help="the recording of all rows, for a table without such a column"
    )
    quality = sub.add_mutually_exclusive_group()
    quality.add_argument(
        "--crf",
        type=_crf,
        default=12.0,
        help="quality of the video (H.264), 0 to 51; a lower number gives a better quality and a larger "
        "file (default: 12)",
    )
    quality.add_argument("--lossless", action="store_true", help="store the video without loss (large files)")


def _crf(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 51:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 51")
    return value


def _cut(args: argparse.Namespace) -> int:
    from deiii.pipeline.cut.cut import BACKUP, RECORD, cut

    root = Path(args.root) if args.root else None
    out = Path(args.out)
    result = cut(Path(args.table), out, root, args.recording, None if args.lossless else args.crf)
    failed, partial = result.failed, [row for row in result.rows if row.status == "ok_partial"]
    recordings = len({row.recording for row in result.rows})
    made = len(result.rows) - len(failed)
    print(f"{counted(made, 'clip')} of {counted(recordings, 'recording')} in {out}")
    if result.clips > made:
        print(f"clips.csv lists {counted(result.clips, 'clip')}, with those of earlier tables")
    for rows, word in ((failed, "without a file"), (partial, "incomplete")):
        if rows:
            print(
                f"{counted(len(rows), 'segment')} {word}, first row {rows[0].row} ({rows[0].recording}): "
                f"{rows[0].reason}; all reasons are in {out / RECORD}"
            )
    if result.changed:
        print(
            f"clips.csv has other values than before for {counted(len(result.changed), 'clip')}, first "
            f"{result.changed[0]}: values come from {args.table}; the earlier text is {out / BACKUP}"
        )
    if result.unlisted:
        print(
            f"{counted(len(result.unlisted), 'file')} of earlier rows, which the table no longer has, first "
            f"{out / result.unlisted[0]}: remove them if they are not needed"
        )
    if made:
        print(_next(result, out))
    return int(len(failed) > MOST_FAILED * len(result.rows))


def _next(result: CutResult, out: Path) -> str:
    """Return the next command."""
    lacking = [name for name in ("speaker", "label") if name not in result.columns]
    if lacking:
        them = "it" if len(lacking) == 1 else "them"
        return (
            f"clips.csv has no column {' and no column '.join(lacking)}, which training needs: add {them} to "
            "the table of segments and run the command again, which keeps the clips"
        )
    return f"next: deiii preprocess table tiny {shlex.quote(f'corpus.root={out}')}"
