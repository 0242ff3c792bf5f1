"""Find out whether this process is one of several that train together, without importing PyTorch."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping


class RankError(ValueError):
    """The processes of one training do not fit together, or one of them has ended."""


def launched(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether several processes were started for one training."""
    return any(environ.get(name) for name in ("RANK", "WORLD_SIZE")) and environ.get("WORLD_SIZE") != "1"


def single_process(action: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """Return an action that raises RankError under torchrun, whose processes would write the same files."""

    def refuse_torchrun(args: argparse.Namespace) -> int:
        if launched():
            raise RankError(
                f"`deiii {args.command}` runs in one process; start it without torchrun, which only "
                "`deiii train` supports"
            )
        return action(args)

    return refuse_torchrun
