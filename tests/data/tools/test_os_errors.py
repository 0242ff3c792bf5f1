"""Errors of the operating system, raised by the system itself, as ``file: reason; remedy``."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from pathlib import Path

import pytest

from deiii.data.tools.os_errors import EXPLAINED, explain, hdf5_errors, other_case

NOBODY = 65534  # user id


def told(action) -> str:
    """The explanation of the error that an action raises."""
    with pytest.raises(OSError) as caught:
        action()
    return explain(caught.value)


def test_a_missing_file(tmp_path):
    path = tmp_path / "clips.csv"
    assert told(path.read_text) == f"{path}: no such file or folder; check the path"


def test_a_folder_in_place_of_a_file(tmp_path):
    assert told(tmp_path.read_text) == f"{tmp_path}: is a folder, where a file is needed; name a file"


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_part_of_the_path_is_a_file(tmp_path, below):
    (tmp_path / "file").touch()
    path = tmp_path / "file/cache" / below
    message = told(lambda: path.mkdir(parents=True))
    assert f"{tmp_path / 'file'} is a file, not a folder; name another folder" in message


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_link_to_a_missing_folder_on_the_way_is_named(tmp_path, below):
    """The system calls such a link missing, or says that it exists already."""
    link = tmp_path / "cache"
    link.symlink_to("gone")
    for action in ((link / below).mkdir, lambda: os.makedirs(link / below), (link / below).read_text):
        message = told(action)
        assert f"{link} is a link to gone, which does not exist; create that, or correct" in message
        assert message.count(str(link)) == (2 if below else 1)


def test_a_folder_is_to_be_made_where_a_file_is(tmp_path):
    (tmp_path / "runs").touch()
    message = told(lambda: os.makedirs(tmp_path / "runs/a"))
    assert f"{tmp_path / 'runs'} is a file" in message


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux")
@pytest.mark.parametrize("path", ["/proc/x", "/proc/x/y", "/sys/x"])
def test_a_folder_of_the_kernel(path):
    message = told(lambda: Path(path).mkdir(parents=True))
    assert f"{Path(path).parents[-2]} belongs to the system" in message and "another folder" in message


@pytest.mark.parametrize("number", sorted(EXPLAINED))
def test_every_known_error_names_file_reason_and_remedy(number, tmp_path):
    message = explain(OSError(number, os.strerror(number), str(tmp_path)))
    assert message.startswith(f"{tmp_path}: ") and ";" in message
    assert not message.startswith(f"{tmp_path}: [Errno")


def test_an_unknown_error_keeps_the_words_of_the_system(tmp_path):
    error = OSError(errno.ENOTTY, os.strerror(errno.ENOTTY), str(tmp_path))
    assert explain(error) == f"{tmp_path}: {os.strerror(errno.ENOTTY)}"


def test_errors_without_a_file_or_a_number():
    assert explain(OSError(errno.EMFILE, os.strerror(errno.EMFILE))).startswith("too many open files")
    assert explain(OSError("a library says so")) == "a library says so"
    assert explain(OSError()) == "OSError"
    assert explain(PermissionError(errno.EACCES, "no", b"/x")).startswith("/x: permission denied")


def test_a_name_in_another_case_is_named(tmp_path):
    (tmp_path / "Anna 1").mkdir()
    (tmp_path / "Anna 1" / "a.WAV").touch()
    assert (
        other_case(str(tmp_path / "anna1" / "a.wav"))
        == f"; {tmp_path / 'Anna 1'} has another spelling than anna1"
    )
    assert other_case(str(tmp_path / "Anna 1" / "a.wav")).endswith("a.WAV has another spelling than a.wav")
    assert (
        other_case(str(tmp_path / "Anna 1" / "b.wav")) == other_case(str(tmp_path / "Bert" / "a.wav")) == ""
    )


def test_the_number_of_an_error_is_found_in_the_errors_before_it(tmp_path):
    """A file that could not be flushed raises a further error, without the number, when it is closed."""
    with pytest.raises(OSError, match=r"a\.h5") as raised, hdf5_errors(tmp_path / "a.h5"):
        try:
            raise RuntimeError("file write failed: errno = 28, error message = 'No space left on device'")
        except RuntimeError:
            raise OSError("File write failed (slist already enabled?)")  # noqa: B904
    assert raised.value.errno == errno.ENOSPC


def test_backslashes_in_a_name_in_place_of_folders_are_named(tmp_path):
    """As some programs unpack archives from Windows."""
    (tmp_path / "Anna\\1\\a.wav").touch()
    assert other_case(str(tmp_path / "Anna/1/a.wav")) == (
        f"; {tmp_path}/Anna\\1\\a.wav has backslashes in its name, where Anna/1/a.wav has folders: rename it"
    )
    assert other_case(str(tmp_path / "Anna/1/b.wav")) == ""


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT])
def test_a_path_that_cannot_be_examined_is_named_too(number, tmp_path):
    """`Path.is_dir` raises an error for such paths: in folders of others, and for names that are too long."""
    path = tmp_path / ("a" * 300) / "b"
    with pytest.raises(OSError):
        path.is_dir()
    assert explain(OSError(number, os.strerror(number), str(path))).startswith(f"{path}: ")


@contextmanager
def ordinary_user():
    """Give this process the rights of a user who is not root, who may search every folder."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_in_a_folder_that_may_not_be_searched(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    path = tmp_path / "closed/in/a.yaml"
    with ordinary_user():
        said = told(path.read_text)
    assert said == (
        f"{path}: permission denied; allow this user to use it (chmod, chown), or name another file or folder"
    )
