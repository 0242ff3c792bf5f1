"""Recordings behind symbolic links: the table that init writes is one that preprocessing reads."""

from __future__ import annotations

import pytest

from deiii.__main__ import main
from deiii.data.config.load import load_config
from deiii.data.corpora.scan import scan
from deiii.pipeline.init.found import InitError
from deiii.pipeline.init.look import look
from tests.pipeline.init.test_folders import touch


def test_recordings_outside_the_folder_are_named_and_left_out(tmp_path, monkeypatch, capsys):
    """The written table named them, and `deiii preprocess` refused it."""
    root = touch(tmp_path / "clips", "anna/happy/1.mp4", "ben/sad/2.mp4", "carl/sad/3.mp4").resolve()
    touch(tmp_path / "disk", "happy/4.mp4")
    (root / "dora").symlink_to(tmp_path / "disk")
    (root / "ben/sad/5.mp4").symlink_to(tmp_path / "disk/happy/4.mp4")
    (root / "anna/up").symlink_to("..")  # a loop
    monkeypatch.chdir(tmp_path)
    assert main(["init", str(root), "--yes"]) == 0
    printed = capsys.readouterr()
    words = "2 recordings outside the folder, behind symbolic links: ben/sad/5.mp4, dora/happy/4.mp4"
    assert f"not used: {words}; a table may not name them" in printed.out
    clips = scan(load_config("clips.yaml").corpus).clips
    assert [clip.path for clip in clips] == ["anna/happy/1.mp4", "ben/sad/2.mp4", "carl/sad/3.mp4"]


def test_a_second_name_of_a_recording_is_said(tmp_path, caplog):
    root = touch(tmp_path / "clips", "anna/happy/1.mp4", "ben/sad/2.mp4").resolve()
    (root / "ben/sad/3.mp4").symlink_to("../../anna/happy/1.mp4")
    assert len(look(root).rows) == 3
    assert "1 link leads to a recording that is there already" in caplog.text
    assert "ben/sad/3.mp4 is anna/happy/1.mp4" in caplog.text


def test_a_folder_of_links_alone_is_refused(tmp_path):
    touch(tmp_path / "disk", "happy/4.mp4", "sad/5.mp4")
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/anna").symlink_to(tmp_path / "disk")
    with pytest.raises(InitError, match="has only 2 recordings outside the folder, .* copy them"):
        look(tmp_path / "clips")


def test_linked_folders_of_a_known_corpus_are_read(tmp_path, caplog):
    touch(tmp_path / "disk", "01-01-03-01-01-01-07.mp4", "01-01-04-01-01-01-07.mp4")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/Actor_07").symlink_to(tmp_path / "disk")
    assert look(tmp_path / "root").config == "ravdess"
    assert "1 symbolic link is followed: Actor_07" in caplog.text
