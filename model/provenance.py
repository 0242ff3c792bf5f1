"""What made a result: versions, the kind of machine, the source's revision and the command."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deiii.data.tools.machine import package_versions, source_revision

if TYPE_CHECKING:
    import torch

PACKAGES = ("torch", "torchvision", "numpy", "librosa", "av", "opencv-contrib-python", "h5py", "dask")
ENTRIES = ("deiii", "deiii.exe")  # programs that start the commands of deiii
MODULE = ("deiii", "__main__.py")  # the file of `python -m deiii`


def provenance(device: torch.device | None = None) -> dict[str, Any]:
    """Return versions, the kind of machine and its GPU, the source's revision if known, and the command.

    Args:
        device: the device that computes; the GPU is this one, and ``None`` for a CPU. Where no device is
            given, it is the current GPU of the machine, if there is one.
    """
    import torch  # here, so that a folder that is no run is refused before PyTorch is loaded

    on_gpu = torch.cuda.is_available() if device is None else device.type == "cuda"

    return {
        "versions": package_versions("deiii", *PACKAGES),
        "platform": f"{platform.system()} {platform.machine()}",
        "gpu": torch.cuda.get_device_name(device) if on_gpu else None,
        "revision": source_revision(),
        "command": command_line(sys.argv),
    }


def command_line(words: Sequence[str]) -> str:
    """Return a command as it is typed in a shell.

    Args:
        words: program and arguments, as in ``sys.argv``. A program other than deiii, such as a benchmark or
            the user's script, is a Python file; its path is relative if it lies in the current folder.

    >>> command_line(["/usr/bin/deiii", "train", "tiny", "corpus.root=/my clips"])
    "deiii train tiny 'corpus.root=/my clips'"
    >>> command_line(["/home/me/own.py", "--seeds", "0"])
    'python /home/me/own.py --seeds 0'
    """
    program, *rest = words or [""]
    path = Path(program)
    if path.name in ENTRIES or path.parts[-2:] == MODULE:
        return shlex.join(["deiii", *rest])
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return shlex.join(["python", *([str(path)] if program else []), *rest])
