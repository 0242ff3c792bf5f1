"""The JSON files of ``deiii predict``, one for each media file."""

from __future__ import annotations

import json
import os
from pathlib import Path

from deiii.data.tools.text.printable import printable_name


def replaced_note(path: Path, media: Path) -> str:
    """Return a line for users where a JSON file holds the prediction for another media file; else empty.

    Args:
        path: JSON file, which need not exist.
        media: the media file whose prediction replaces it.

    >>> replaced_note(Path("predict/absent.json"), Path("clip.mp4"))
    ''
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        earlier = tree["file"] if isinstance(tree, dict) else None
    except (OSError, ValueError, KeyError):
        return ""
    if not isinstance(earlier, str) or os.path.realpath(earlier) == os.path.realpath(media):
        return ""
    return (
        f"{path}: the prediction for {printable_name(earlier)} is replaced by that for "
        f"{printable_name(media)}, which has the same name; use another --out to keep both"
    )
