"""What the two doors, ``python -m pipeline`` and ``python -m model``, have in common."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence

from data.config import load_config
from data.schema import Config
from data.signals import INTERRUPTED, hear_stop

HELP = "YAML files and key=value overrides, in order, e.g. configs/ravdess.yaml faces.size=128"


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Positional ``CONFIG.yaml`` and ``key=value`` words."""
    parser.add_argument("settings", nargs="*", metavar="CONFIG|KEY=VALUE", help=HELP)


def read_settings(words: Sequence[str]) -> Config:
    """The configuration that ``CONFIG.yaml … key=value …`` describes."""
    files = [w for w in words if "=" not in w]
    return load_config(files, [w for w in words if "=" in w])


def run(main: Callable[[], int], go_on: str = "run the same command to go on") -> int:
    """Run a command so that people see messages instead of traces, and Ctrl-C and SIGTERM end it alike.

    Args:
        main: the command.
        go_on: what to do after Ctrl-C.

    Returns:
        the exit status: the command's own, 1 for an error told in a line, 130 when interrupted.
    """
    hear_stop()
    try:
        return main()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is tidied up; let Python end
        print(f"\nstopped; what is finished is kept, {go_on}", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError, RuntimeError) as error:
        if type(error) in (ValueError, RuntimeError):  # not one of ours: a defect deserves its trace
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
