"""A folder in the place of the home folder, for users who have none."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

HOME = "HOME"
_replacements: list[str] = []  # of this process


def replace_missing_home() -> None:
    """Name a folder of this user in the temporary folder as home if the user has none; else do nothing.

    A user who is in no list of users has none: ``HOME`` is unset, or it is ``/`` and cannot be written, as
    Docker sets it in a container that is started with ``--user 12345``. Libraries keep caches and settings
    there, and some cannot be imported without a home: pooch, and with it librosa; Bokeh, and with it the
    dashboard. Child processes inherit the variable.

    >>> replace_missing_home()
    """
    home = os.environ[HOME] if HOME in os.environ else os.path.expanduser("~")
    if os.path.isabs(home) and (home != "/" or os.access("/", os.W_OK)):
        return
    folder = Path(tempfile.gettempdir()) / f"deiii-home-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        mine = not folder.is_symlink() and folder.stat().st_uid == os.getuid()
    except OSError:
        return
    if not mine:  # it may hold another user's code, which must not be run
        folder = Path(tempfile.mkdtemp(prefix="deiii-home-"))
    os.environ[HOME] = str(folder)
    _replacements.append(str(folder))


def has_home() -> bool:
    """Return whether the user has a home folder, as opposed to the one that `replace_missing_home` made.

    >>> has_home()
    True
    """
    return os.environ.get(HOME) not in _replacements
