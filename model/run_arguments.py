"""Arguments that the commands of many runs share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from deiii.data.command_line.numbers import whole_number, whole_numbers
from deiii.data.config.schema_fields import MOST_SEED
from deiii.data.config.strict_yaml import ConfigError

MOST_RUNS = 1000  # folds, and runs at a time


def add_seeds(parser: argparse.ArgumentParser, of: str) -> None:
    """Add ``--seeds``, by default seed 0 alone.

    Args:
        parser: parser of the command.
        of: noun for what gets the seeds, for the help.
    """
    parser.add_argument(
        "--seeds",
        type=whole_numbers(0, MOST_SEED),
        default=[0],
        metavar="0,1,2",
        help=f"seeds of {of} (default: 0)",
    )


def refuse_repeated(name: str, given: Sequence[int]) -> None:
    """Refuse a list of seeds or folds that is empty or has a number twice.

    Raises:
        ConfigError: names them.

    >>> refuse_repeated("seeds", [0, 1])
    """
    if not given or len(set(given)) != len(given):
        raise ConfigError(f"name at least one of the {name}, and each only once, not {list(given)}")


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """Add ``--jobs``, the number of runs at the same time; 0, the default, leaves it to the command."""
    parser.add_argument(
        "--jobs",
        type=whole_number(0, MOST_RUNS),
        default=0,
        metavar="N",
        help="number of runs at the same time (default: 1 on a CPU; on GPUs as many as fit into their "
        "memory, judged by the first run)",
    )
