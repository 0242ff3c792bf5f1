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

from deiii.__main__ import main
from deiii.data.tools.atomic_files import (
    InputFiles,
    atomic_path,
    writable_file,
    write_json,
    write_text,
)


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


def test_two_writers_of_one_file_do_not_share_a_temporary_file(tmp_path):
    """Threads have one process number, and so have processes of two containers."""
    path = tmp_path / "a.txt"
    with atomic_path(path) as first, atomic_path(path) as second:
        first.write_text("first")
        second.write_text("second")
        assert first != second and first.read_text() == "first"
    assert path.read_text() == "first" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_an_input_file_is_not_taken_for_the_output(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "a.mp4")
    os.link(tmp_path / "a.mp4", tmp_path / "hard.mp4")
    for name in ("a.mp4", "link.mp4", "hard.mp4"):
        with pytest.raises(FileExistsError, match=f"{name} is an input file"):
            InputFiles([tmp_path / "b.mp4", tmp_path / "a.mp4"]).refuse(tmp_path / name)
    InputFiles([tmp_path / "a.mp4"]).refuse(tmp_path / "c.mp4")


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


def fail(number):
    """Return a function that raises the error of this number, without a file name as ``fsync`` does."""

    def raises(*_, **__):
        raise OSError(number, os.strerror(number))

    return raises


def test_a_read_only_disk_is_named_by_the_file_although_nothing_can_be_removed(tmp_path, monkeypatch):
    """It refuses to remove a file that does not exist, by an error that named the temporary file."""

    def refuse(path, *_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(OSError) as caught, atomic_path(tmp_path / "a.json") as temporary:
        refuse(temporary)
    assert (caught.value.errno, caught.value.filename) == (errno.EROFS, str(tmp_path / "a.json"))


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP])
def test_files_are_published_where_the_file_system_has_no_fsync(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "fsync", fail(number))
    write_json(tmp_path / "a.json", [1])
    assert (tmp_path / "a.json").read_text() == "[\n 1\n]\n"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_an_error_of_fsync_names_the_file(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "fsync", fail(number))
    with pytest.raises(OSError) as caught:
        write_json(tmp_path / "a.json", [1])
    assert (caught.value.errno, caught.value.filename) == (number, str(tmp_path / "a.json"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS])
def test_files_are_published_where_the_file_system_has_no_modes(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "fchmod", fail(number))
    with atomic_path(tmp_path / "weights") as temporary:
        save_file({"x": np.zeros(3, np.float32)}, temporary)  # made for the owner alone
    assert (tmp_path / "weights").exists()


def test_files_are_published_in_a_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    """A folder in which a user may make files, but not list them (mode 0333), cannot be opened."""
    real = os.open

    def open_file(path, *rest, **named):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *rest, **named)

    monkeypatch.setattr(os, "open", open_file)
    write_text(tmp_path / "a.txt", "a")
    assert (tmp_path / "a.txt").read_text() == "a"


def test_a_file_that_cannot_be_written_is_named_before_the_work(tmp_path):
    assert not writable_file(tmp_path / "new/a.json").exists() and (tmp_path / "new").is_dir()
    with pytest.raises(IsADirectoryError) as caught:
        writable_file(tmp_path / "new")
    assert caught.value.filename == str(tmp_path / "new")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=f"{tmp_path}/file"):
        writable_file(tmp_path / "file/a.json")


@pytest.mark.parametrize("words", [["audit", "crema_d-5fold", "--json"], ["overview", "--out"]])
def test_the_targets_of_audit_and_overview_are_checked_before_the_work(tmp_path, monkeypatch, capsys, words):
    def work(*_, **__):
        pytest.fail("the work began")

    monkeypatch.setattr("deiii.data.audit.run.audit", work)
    monkeypatch.setattr("deiii.data.corpora.scan.scan", lambda config: None)
    monkeypatch.setattr("deiii.pipeline.preprocess.claim.own_folder", lambda config, corpus: corpus)
    monkeypatch.setattr("deiii.pipeline.overview.page.read_indices", lambda config, corpus: {})
    monkeypatch.setattr("deiii.pipeline.overview.page.measure", work)
    monkeypatch.setattr("deiii.pipeline.overview.page.stage_folder", work)
    monkeypatch.setattr("deiii.pipeline.overview.page.by_chance", work)
    assert main([*words, str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err


def test_input_files_are_looked_up_once_for_all_outputs(tmp_path, monkeypatch):
    """They were looked up once for each output, which took minutes for ten thousand files."""
    looked_up = []
    real = os.path.realpath
    monkeypatch.setattr(os.path, "realpath", lambda path: looked_up.append(path) or real(path))
    names = [f"{n}.mp4" for n in range(50)]
    read = InputFiles([tmp_path / name for name in names])
    for name in names:
        read.refuse(tmp_path / "out" / name)
    assert len(looked_up) == 2 * len(names)
