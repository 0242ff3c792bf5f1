"""Published files have the mode that the umask asks for, whatever wrote them."""

from __future__ import annotations

import errno
import os
import stat
import tempfile

import av
import numpy as np
import pytest
from safetensors.numpy import save_file

from deiii.data.tools.atomic_files import atomic_path, refuse_input_as_output, write_json, write_text


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o022, 0o002, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_files_follow_the_umask_whatever_writes_them(tmp_path, umask):
    with atomic_path(tmp_path / "weights") as temporary:
        save_file({"x": np.zeros(3)}, temporary)
    with atomic_path(tmp_path / "private") as temporary:
        descriptor, name = tempfile.mkstemp(dir=tmp_path)
        os.close(descriptor)
        os.replace(name, temporary)
    write_json(tmp_path / "table.json", {})
    for name in ("weights", "private", "table.json"):
        assert mode(tmp_path / name) == 0o666 & ~umask, name


def test_the_new_mode_replaces_the_old_file_s(tmp_path, umask):
    path = tmp_path / "table.json"
    path.write_text("")
    path.chmod(0o600)
    write_json(path, {})
    assert mode(path) == 0o666 & ~umask


def test_a_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(KeyError):
        with atomic_path(tmp_path / "a"):
            raise KeyError
    with pytest.raises(FileNotFoundError):
        with atomic_path(tmp_path / "b"):
            pass  # nothing was written, so there is nothing to publish
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_place_of_the_file_is_named(tmp_path):
    (tmp_path / "table.csv").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_text(tmp_path / "table.csv", "a,b\n")
    assert caught.value.filename == str(tmp_path / "table.csv")
    assert not list(tmp_path.glob(".table*"))


def test_an_input_file_is_not_taken_for_the_output(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "a.mp4")
    os.link(tmp_path / "a.mp4", tmp_path / "hard.mp4")
    for name in ("a.mp4", "link.mp4", "hard.mp4"):
        with pytest.raises(FileExistsError, match=f"{name} is an input file"):
            refuse_input_as_output(tmp_path / name, [tmp_path / "b.mp4", tmp_path / "a.mp4"])
    refuse_input_as_output(tmp_path / "c.mp4", [tmp_path / "a.mp4"])


def test_an_error_of_a_full_disk_names_the_file(tmp_path):
    with pytest.raises(OSError) as caught:
        with atomic_path(tmp_path / "report.html") as temporary, open(temporary, "w") as file:
            file.write("x")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as write() does: without a name
    assert caught.value.filename == str(tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_an_error_names_the_file_and_not_its_temporary_name(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_text(tmp_path / "gone" / "table.csv", "a,b\n")
    assert caught.value.filename == str(tmp_path / "gone" / "table.csv")


def test_an_error_of_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        with atomic_path(tmp_path / "copy.csv"):
            open(tmp_path / "source.csv")
    assert caught.value.filename == str(tmp_path / "source.csv")


def test_an_error_of_pyav_names_the_file_too(tmp_path):
    """Its file name cannot be set; the attempt ended as an AttributeError that named no cause."""
    with pytest.raises(OSError) as caught, atomic_path(tmp_path / "clip.mp4"):
        av.error.err_check(-errno.EFBIG)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(tmp_path / "clip.mp4"))
