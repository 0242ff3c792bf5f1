"""Files and folders with odd names, and what is no file at all: an outcome for each, and no waiting."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from deiii.__main__ import main
from deiii.data.cache.outcomes import Status
from deiii.data.cache.shards import ClipRow
from deiii.data.config.schema import Config
from deiii.data.corpora.clips import Clip, Corpus
from deiii.data.corpora.files import MediaError, expand_folders
from deiii.data.tools.atomic_files import write_json
from deiii.pipeline.extract import Features
from deiii.pipeline.inspect import clips
from deiii.pipeline.media.audio import read_audio
from deiii.pipeline.stages.shard import source_digest
from tests.helpers.clipmaker import outcome_of
from tests.helpers.clips import write_audio

NAMES = (
    "a%03d.flac", "a{}.flac", "12:30.flac", "http:a.flac", "concat:a|b.flac", "-a.flac", " a .flac",
    "a\nb.flac", "$a\\b$c.flac", "a#b?c=d.flac", "ü漢🙂.flac", "~a.flac", "$HOME.flac",
    "a'b\"c.flac", "a" * 240 + ".flac",
    os.fsdecode(b"caf\xe9.flac"),
)  # fmt: skip


@pytest.mark.timeout(60)
def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.flac")
    found = outcome_of(read_audio, tmp_path / "pipe.flac", 16000)
    assert found.status is Status.UNREADABLE and "a pipe" in found.reason
    found = outcome_of(read_audio, tmp_path, 16000)
    assert found.status is Status.UNREADABLE and "a folder" in found.reason
    assert source_digest(tmp_path / "pipe.flac") == source_digest(tmp_path) == ""


@pytest.mark.parametrize("absolute", [True, False])
def test_a_name_is_only_a_name(tmp_path, monkeypatch, absolute):
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        path = write_audio(tmp_path / name, 0.1)
        assert len(read_audio(path if absolute else name, 16000)[0]) == 1600, ascii(name)


def test_files_are_drawn_whatever_they_are_called_and_the_rest_gets_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "1:2" / "clips"
    names = ["12:30.flac", "$a\\b$c.flac", "ü漢🙂.flac", *NAMES[-2:]]
    for name in names:
        write_audio(folder / name, 0.3)
    (folder / "folder.flac").mkdir()
    os.mkfifo(folder / "pipe.flac")
    (folder / "gone.flac").symlink_to(folder / "nowhere.flac")
    (folder / "empty.flac").touch()
    words = [f"1:2/clips/{name}" for name in sorted(os.listdir(folder))]
    assert main(["inspect", *words, "--no-video", "--out", "1:2/out"]) == 1
    assert len(list((tmp_path / "1:2/out").glob("*.png"))) == len(names)
    printed = capsys.readouterr()
    for name, reason in (
        ("folder", "a folder"),
        ("pipe", "a pipe"),
        ("gone", "no such file"),
        ("empty", "is empty"),
    ):
        assert any(f"{name}.flac cannot be drawn" in x and reason in x for x in printed.err.splitlines()), (
            name
        )


def test_a_folder_without_media_is_an_error_alone_and_passed_on_among_others(tmp_path):
    with pytest.raises(MediaError, match="holds no media files"):
        expand_folders([str(tmp_path)])
    assert expand_folders([str(tmp_path), "a.mp4"]).files == [str(tmp_path), "a.mp4"]


def test_a_name_that_is_not_utf8_is_printed_and_stored(tmp_path):
    name = NAMES[-1]
    code = "from deiii.data.command_line.entry import Command, run; import sys, os\n"
    code += "run(lambda: Command(lambda: print(os.fsdecode(b'caf\\xe9'), '\\u2588') or 0))"
    for encoding in ("utf-8", "latin-1", "ascii"):
        env = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=env)
        assert done.returncode == 0 and done.stdout.startswith(b"caf"), done.stderr
    write_json(tmp_path / "a.json", {"file": name})
    assert (tmp_path / "a.json").read_bytes().decode("utf-8").count("udce9") == 1


def test_no_clip_takes_the_file_of_another(tmp_path, monkeypatch):
    """A clip with the name of the overview replaced it, and on macOS "A" the contact sheet of "a"."""
    monkeypatch.setattr(clips, "describe_face", lambda features, config: "")
    monkeypatch.setattr(clips, "draw_contact_sheet", lambda features, path, *words: path.write_text("sheet"))
    (tmp_path / "worst.png").write_text("overview")
    features = Features("nowhere/clip.mp4", {})
    names = ["worst", "Worst", "a", "A"]
    drawn = [(name, lambda: features) for name in names]
    assert clips.draw_all(drawn, Config(), tmp_path, False, reserved=["worst"]) == []
    assert (tmp_path / "worst.png").read_text() == "overview"
    found = {path.stem.casefold() for path in tmp_path.iterdir()}
    assert found == {"worst", "worst-2", "worst-3", "a", "a-2"}


def test_the_overview_of_the_worst_clips_has_a_name_that_no_clip_has(tmp_path, monkeypatch):
    clip = Clip("worst", "worst.mp4", "anna", "happy")
    corpus = Corpus("table", str(tmp_path), ("happy",), (clip,))
    index = SimpleNamespace(clips={"worst": ClipRow("worst", 0, 0, "no_face", "", 0.0, "")})
    monkeypatch.setattr(clips, "read_indices", lambda *words: {"faces": index})
    monkeypatch.setattr(clips, "read_cached", lambda *words: None)
    monkeypatch.setattr(clips, "_overview", lambda *words: None)
    taken = []
    monkeypatch.setattr(clips, "draw_all", lambda *words, reserved: taken.extend(reserved))
    clips.draw_worst(Config(), corpus, 1, tmp_path, False)
    assert taken == ["worst"] and clips.OVERVIEW == "worst.png"
