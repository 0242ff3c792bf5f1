"""Names of the columns of tables and lists that others wrote.

>>> column_name("File_Path") in PATHS
True
"""

from __future__ import annotations

import re

# Columns that name a file, as `column_name` returns them.
PATHS = (
    "filename", "file_name", "file", "filepath", "file_path", "path", "wav", "wav_path", "audio",
    "audio_path", "video", "video_path", "clip", "clip_id",
)  # fmt: skip


def column_name(name: str) -> str:
    """Return the name of a column without case, blanks and signs.

    >>> column_name(" Split Set ")
    'split_set'
    """
    return re.sub(r"[^a-z0-9]+", "_", name.casefold()).strip("_")
