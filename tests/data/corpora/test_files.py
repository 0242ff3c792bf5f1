"""Which files count as recordings, however folders are linked, named or left packed."""

from __future__ import annotations

import errno
import os
import sys

import pytest

from deiii.data.config.schema import CorpusConfig
from deiii.data.corpora.clips import CorpusError
from deiii.data.corpora.files import AUDIO, VIDEO, expand_folders, media_files, passed_over
from deiii.data.corpora.scan import scan
from tests.helpers.layouts import place


def fill(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


@pytest.mark.parametrize("suffix", [".MTS", ".m2ts", ".webm", ".M4V", ".3GP", ".vob"])
def test_video_suffixes_of_cameras_and_phones_count(tmp_path, suffix):
    fill(tmp_path, f"a/clip{suffix}")
    assert media_files(tmp_path, VIDEO) == [f"a/clip{suffix}"] and not media_files(tmp_path, AUDIO)


@pytest.mark.parametrize("suffix", [".mp3", ".M4A", ".ogg", ".opus", ".aiff"])
def test_audio_suffixes_of_recorders_count(tmp_path, suffix):
    fill(tmp_path, f"clip{suffix}")
    assert media_files(tmp_path, AUDIO) == [f"clip{suffix}"] and not media_files(tmp_path, VIDEO)


def test_linked_folders_are_followed_once(tmp_path):
    fill(tmp_path, "other/disk/one.mp4", "root/real/two.mp4")
    (tmp_path / "root/Actor_01").symlink_to(tmp_path / "other/disk")
    (tmp_path / "root/again").symlink_to(tmp_path / "root/real")
    (tmp_path / "root/real/up").symlink_to(tmp_path / "root")
    (tmp_path / "root/gone").symlink_to(tmp_path / "nowhere")
    assert media_files(tmp_path / "root", VIDEO) == ["Actor_01/one.mp4", "real/two.mp4"]


def test_a_link_before_its_folder_does_not_take_its_name(tmp_path):
    fill(tmp_path, "z/deep/one.mp4")
    (tmp_path / "a").symlink_to(tmp_path / "z/deep")
    assert media_files(tmp_path, VIDEO) == ["z/deep/one.mp4"]


def test_linked_actors_of_ravdess_are_found(tmp_path):
    place(tmp_path / "disk", "01-01-03-01-01-01-07.mp4")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/Actor_07").symlink_to(tmp_path / "disk")
    corpus = scan(CorpusConfig(name="ravdess", root=str(tmp_path / "root")))
    assert [clip.path for clip in corpus.clips] == ["Actor_07/01-01-03-01-01-01-07.mp4"]


def test_archives_and_other_files_are_named_in_place_of_clips(tmp_path):
    fill(tmp_path, "Video_Speech_Actor_01.zip", "Video_Speech_Actor_02.ZIP", "notes.txt")
    assert passed_over(tmp_path) == "also there: 2 .zip (unpack them first), 1 .txt"
    with pytest.raises(CorpusError, match=r"no media files at all; also there: 2 \.zip \(unpack"):
        scan(CorpusConfig(name="ravdess", root=str(tmp_path)))


def test_archives_beside_clips_are_named_too(tmp_path, caplog):
    place(tmp_path / "Actor_07", "01-01-03-01-01-01-07.mp4")
    fill(tmp_path, "Video_Speech_Actor_02.zip")
    scan(CorpusConfig(name="ravdess", root=str(tmp_path)))
    assert "1 clip under" in caplog.text and "1 .zip (unpack it first)" in caplog.text


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, caplog, monkeypatch):
    fill(tmp_path, "a/one.wav", "b/two.wav")
    listed = os.scandir

    def scandir(folder):
        if str(folder).endswith("/b"):
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return listed(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    assert media_files(tmp_path, AUDIO) == ["a/one.wav"]
    assert f"{tmp_path}/b cannot be listed (Permission denied), and its recordings are left" in caplog.text
    assert passed_over(tmp_path) == "" and len(caplog.records) == 1  # it is named once


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_not_utf8_is_named(tmp_path):
    fill(tmp_path, "DC/a01.wav")
    (tmp_path / os.fsdecode(b"DC/\xe4.wav")).write_bytes(b"x")
    config = CorpusConfig(name="pattern", root=str(tmp_path), pattern="(?P<speaker>DC)/(?P<label>.)")
    with pytest.raises(CorpusError, match=r"the name of DC/\\xe4\.wav is not UTF-8; rename"):
        scan(config)


def test_a_file_that_several_paths_lead_to_is_listed_once(tmp_path, monkeypatch):
    fill(tmp_path, "one.wav", "in/two.wav")
    (tmp_path / "link.wav").symlink_to(tmp_path / "one.wav")
    monkeypatch.chdir(tmp_path)
    words = ["one.wav", "in/../one.wav", "./one.wav", str(tmp_path / "one.wav"), "in", "in/../in"]
    assert expand_folders([*words, "link.wav", "gone.wav"]).files == [
        "one.wav",
        "in/two.wav",
        "link.wav",
        "gone.wav",
    ]
