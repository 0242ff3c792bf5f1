"""A command that refuses its input leaves nothing behind: no folder, no lock file, no half of a download."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from deiii.__main__ import main
from deiii.data.command_line.entry import Command, run
from deiii.data.tools.atomic_files import writable_folder
from deiii.data.tools.processes.made_folders import make_folder
from deiii.data.tools.writer_lock import writer_lock

REFUSED = [
    "inspect nothere.mp4",
    "inspect junk.mp4 --out a/b",
    "inspect --worst 3 --out a table tiny",
    "predict empty junk.mp4",
    "predict empty junk.mp4 --out a/b --overlay o/x.mp4",
    "predict empty --live nothere.mp4 --out p --overlay o/x.mp4",
    "overview tiny --out o/x.html",
    "export empty exported",
    "export empty empty exported",
    "export-features features tiny --to npz",
    "pack empty archive",
    "unpack empty cache",
    "fetch-cache http://127.0.0.1:9/x archive",
    "sweep tiny train.lr=[0.1,0.2]",
    "sweep tiny train.lr=log(1e-4,1e-2)",
    "train tiny",
    "train tiny train.run=a/b/c",
    "crossval tiny train.run=a/b",
    "evaluate empty",
    "compare empty empty --out a/b",
    "preprocess table tiny corpus.root=. cache=a/b",
    "preprocess table tiny corpus.root=named cache=a/b faces.detector=yunet faces.weights=nothere.onnx",
    "preprocess table tiny corpus.root=named cache=a/b scheduler=tcp://127.0.0.1:9",
    "init empty --yes --config a/b.yaml",
    "synthesize corpus.root=a/b corpus.synthetic.speakers=0",
    "download ravdess corpus.root=a/b --part nothing --accept-licence",
]


pytestmark = pytest.mark.usefixtures("own_signals")


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A working folder with inputs that every command refuses."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "junk.mp4").write_text("text")
    (tmp_path / "named").mkdir()
    (tmp_path / "named/a.mp4").write_text("text")
    (tmp_path / "named/clips.csv").write_text("path,speaker,label\na.mp4,anna,happy\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("deiii.data.tools.fetch.PAUSE_S", 0.0)
    monkeypatch.setattr("deiii.data.tools.processes.dask_workers.CONNECT_TIMEOUT", "0.5s")
    return tmp_path


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("line", REFUSED)
def test_nothing_stays_behind_of_a_refused_command(line, place, capsys):
    before = everything(place)
    try:
        status = main(line.split())
    except SystemExit as ended:
        status = ended.code
    assert status in (1, 2) and "error:" in capsys.readouterr().err
    assert everything(place) == before


def ends_with(status: int, action) -> int:
    def command() -> int:
        action()
        return status

    return run(lambda: Command(command))


def test_folders_with_files_and_folders_that_were_there_stay(tmp_path):
    (tmp_path / "old").mkdir()

    def work() -> None:
        writable_folder(tmp_path / "old")
        writable_folder(tmp_path / "new/full")
        writable_folder(tmp_path / "new/empty/deeper")
        (tmp_path / "new/full/result.txt").write_text("a")

    assert ends_with(1, work) == 1
    assert everything(tmp_path) == {"old", "new", "new/full", "new/full/result.txt"}


def test_an_empty_folder_of_a_successful_command_stays(tmp_path):
    assert ends_with(0, lambda: make_folder(tmp_path / "a/b")) == 0
    assert everything(tmp_path) == {"a", "a/b"}
    assert ends_with(1, lambda: None) == 1  # the next command does not remove them
    assert everything(tmp_path) == {"a", "a/b"}


def test_a_lock_that_another_holds_keeps_its_folder(tmp_path):
    folder = tmp_path / "run"
    with writer_lock(folder):
        assert ends_with(1, lambda: make_folder(folder / "deeper")) == 1
        assert everything(tmp_path) == {"run", "run/.lock"}


def test_a_lock_file_that_was_removed_meanwhile_is_made_again(tmp_path, monkeypatch):
    """Two processes never hold the lock of one folder, though one of them removes the file of the other."""
    folder = tmp_path / "run"
    opened = []
    flock = fcntl.flock

    def removed_before_it_is_locked(file, how) -> None:
        opened.append(os.fstat(file.fileno()).st_ino)
        if len(opened) == 1:
            (folder / ".lock").unlink()
            folder.rmdir()
        flock(file, how)

    monkeypatch.setattr("deiii.data.tools.writer_lock.fcntl.flock", removed_before_it_is_locked)
    with writer_lock(folder):
        assert len(opened) == 2
        assert (folder / ".lock").read_text().startswith(f"process {os.getpid()}")
