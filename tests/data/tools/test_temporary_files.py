"""Files without a name in the temporary folder reserve their room, and their errors name the folder."""

from __future__ import annotations

import errno
import mmap
import os
import tempfile

import numpy as np
import pytest

from deiii.data.tools import temporary_files
from deiii.data.tools.temporary_files import temporary_file, temporary_folder_errors
from deiii.pipeline.faces import stage as faces_stage
from deiii.pipeline.flow import stage as flow_stage


@pytest.fixture
def full_disk(monkeypatch, tmp_path):
    """Make the disk of the temporary folder full for everything that reserves its room."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(temporary_files.os, "posix_fallocate", refuse)
    return tmp_path


def test_the_room_is_reserved_before_the_array_is_used(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = os.posix_fallocate
    sizes = []
    monkeypatch.setattr(
        temporary_files.os, "posix_fallocate", lambda *args: sizes.append(args[2]) or before(*args)
    )
    with temporary_file(100_000) as file, mmap.mmap(file.fileno(), 100_000) as memory:
        memory[:3] = b"abc"
        assert sizes == [100_000] and memory[:4] == b"abc\x00"
    assert list(tmp_path.iterdir()) == []  # the file has no name


def test_flow_of_a_long_clip_on_a_full_disk_is_an_error_that_names_the_folder(monkeypatch, full_disk):
    monkeypatch.setattr(flow_stage, "IN_MEMORY", 1000)
    with pytest.raises(OSError) as caught:
        flow_stage.empty((100, 8, 8, 2), np.dtype(np.float16))
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(full_disk))


def test_crops_of_a_long_clip_on_a_full_disk_are_an_error_that_names_the_folder(monkeypatch, full_disk):
    monkeypatch.setattr(faces_stage, "SPOOL_BYTES", 1000)
    valid = np.ones(100, bool)
    with pytest.raises(OSError) as caught:
        faces_stage._crops([], np.zeros((100, 2, 3)), valid, np.arange(100), 16)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(full_disk))


def test_an_error_of_a_full_disk_names_the_temporary_folder(full_disk):
    with pytest.raises(OSError) as caught:
        with temporary_folder_errors():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.filename == str(full_disk)
