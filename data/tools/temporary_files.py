"""Files without a name in the temporary folder, for arrays that are too large for memory.

The folder is that of `tempfile.gettempdir`; the environment variable ``TMPDIR`` names another one.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from deiii.data.tools.os_errors import name_written_file


@contextmanager
def temporary_folder_errors() -> Iterator[None]:
    """Name the temporary folder in errors of a full or read-only disk that name no file."""
    with name_written_file(tempfile.gettempdir()):
        yield


@contextmanager
def temporary_file(size: int) -> Iterator[IO[bytes]]:
    """Yield a file of ``size`` zero bytes, which exists as long as it or a memory map of it is open.

    The room on the disk is reserved here. Without this, the first write to a page that the disk has no room
    for would end the process by the signal SIGBUS, and the clip would be recorded as the cause.

    Raises:
        OSError: the disk of the temporary folder has no room for it; the error names the folder.

    >>> with temporary_file(3) as file:
    ...     file.read()
    b'\\x00\\x00\\x00'
    """
    with temporary_folder_errors(), tempfile.TemporaryFile() as file:
        file.truncate(size)
        if hasattr(os, "posix_fallocate"):  # macOS has none
            os.posix_fallocate(file.fileno(), 0, size)
        yield file
