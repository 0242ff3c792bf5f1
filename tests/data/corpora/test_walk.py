"""Symbolic links below a folder: loops end, and what is followed or there twice is said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deiii.data.corpora.files import VIDEO, Expanded, corpus_files, expand_folders, others_note, without_drawn
from deiii.data.corpora.walk import leads_out, same_file_note, walk
from tests.data.corpora.test_files import fill


@pytest.fixture
def linked(tmp_path):
    """A folder with a link to a folder outside, one to a file outside, a second name, and two loops."""
    fill(
        tmp_path, "disk/deep/two.mp4", "disk/notes.txt", "else/three.mp4", "root/one.mp4", "root/in/four.mp4"
    )
    root = tmp_path / "root"
    (root / "disk").symlink_to(tmp_path / "disk")
    (root / "three.mp4").symlink_to(tmp_path / "else/three.mp4")
    (root / "again.mp4").symlink_to("one.mp4")
    (root / "in/up").symlink_to("..")
    (tmp_path / "disk/back").symlink_to(root)
    (root / "loop.mp4").symlink_to("loop.mp4")
    (root / "gone.mp4").symlink_to("nowhere.mp4")
    return root


NAMES = ["again.mp4", "disk/deep/two.mp4", "gone.mp4", "in/four.mp4", "loop.mp4", "one.mp4", "three.mp4"]


def test_followed_links_and_second_names_of_a_corpus_are_logged(linked, caplog):
    assert corpus_files(linked, VIDEO) == NAMES
    followed, twice = (record.getMessage() for record in caplog.records)
    outside = linked.parent
    assert followed == (
        f"{linked}: 2 symbolic links are followed: disk (to {outside}/disk, 1 recording), "
        f"three.mp4 (to {outside}/else/three.mp4)"
    )
    assert twice.startswith(f"{linked}: 1 link leads to a recording that is there already")
    assert twice.endswith(": again.mp4 is one.mp4")


def test_a_corpus_without_links_says_nothing(tmp_path, caplog):
    fill(tmp_path, "a/one.mp4", "a/two.mp4")
    (tmp_path / "docs").symlink_to("/usr/bin")  # without recordings
    assert len(corpus_files(tmp_path, VIDEO)) == 2 and not caplog.records


def test_the_files_of_a_folder_are_named_or_counted(linked):
    fill(linked, "a.txt", "b.TXT", "c.jpg", "README", ".hidden.txt")
    found = expand_folders([str(linked)])
    assert [os.path.relpath(file, linked) for file in found.files] == NAMES
    assert len(found.notes) == 2 and found.notes[1].endswith(f"{linked}/again.mp4 is {linked}/one.mp4")
    assert sorted(map(os.path.basename, found.others)) == ["README", "a.txt", "b.TXT", "c.jpg", "notes.txt"]
    note = "5 files without the suffix of audio or video were left out: 3 .txt, 1 .jpg, 1 without a suffix"
    assert others_note(found.others) == found.said(linked / "out")[-1] == note


def test_results_of_a_command_are_not_counted(tmp_path):
    fill(tmp_path, "one.mp4", "out/one.json", "notes.txt")
    found = expand_folders([str(tmp_path)])
    assert found.said(tmp_path / "out") == [
        "1 file without the suffix of audio or video was left out: 1 .txt"
    ]
    assert expand_folders([str(tmp_path / "one.mp4")]).said(tmp_path) == []


def test_two_names_of_one_file_in_the_words_are_said(tmp_path):
    fill(tmp_path, "one.mp4", "two.mp4")
    (tmp_path / "link.mp4").symlink_to("one.mp4")
    words = [str(tmp_path / name) for name in ("link.mp4", "one.mp4", "two.mp4")]
    found = expand_folders(words)
    assert found.files == words and found.notes == [same_file_note([(words[1], "x"), (words[0], "x")])]


def test_which_files_lie_outside(linked):
    outside = {file.path.as_posix() for file in walk(linked) if leads_out(linked, file)}
    assert outside == {"disk/deep/two.mp4", "disk/notes.txt", "three.mp4"}


def test_a_walk_is_that_of_the_standard_library_where_nothing_is_linked(tmp_path):
    fill(tmp_path, "b/2.mp4", "b/c/3.wav", "a.txt", "A/x.mp4", "__MACOSX/y.mp4", "b/.git/z", "__MACOSX_note")
    meant = {
        Path(folder, name).relative_to(tmp_path)
        for folder, _, names in os.walk(tmp_path)
        for name in names
        if not any(part.startswith(".") or part == "__MACOSX" for part in Path(folder).parts)
    }
    assert {file.path for file in walk(tmp_path)} == meant and len(meant) == 5


def test_results_that_are_named_are_read(tmp_path):
    (tmp_path / "drawn").mkdir()
    files = [str(tmp_path / "a.mp4"), str(tmp_path / "drawn/a.mp4")]
    results = str(tmp_path / "drawn")

    def left(words, folder=results):
        return without_drawn(words, Expanded(files, [], []), folder, "the drawn clips").files

    assert left([str(tmp_path)]) == files[:1]
    assert left(files) == left([str(tmp_path), results]) == files
    assert left([str(tmp_path)], None) == left([str(tmp_path)], "none") == files
