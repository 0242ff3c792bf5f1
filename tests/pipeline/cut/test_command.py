"""The command ``deiii cut``: what it prints and its exit status."""

import numpy as np
import pytest

from deiii.__main__ import main
from tests.helpers.clipmaker import tone, write


@pytest.fixture
def folder(tmp_path):
    frames = [np.full((48, 64, 3), 5 * n, np.uint8) for n in range(50)]
    write(tmp_path / "talk.mp4", frames, audio=tone(2.0))
    return tmp_path


def run(folder, text, *more):
    (folder / "segments.csv").write_text(text)
    return main(["cut", str(folder / "segments.csv"), str(folder / "out"), *more])


def test_the_last_line_is_the_next_command(folder, capsys):
    text = "path,start,end,speaker,label\ntalk.mp4,0,1,anna,happy\ntalk.mp4,1,2,anna,sad\n"
    assert run(folder, text) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"2 clips of 1 recording in {folder / 'out'}"
    assert out[-1] == f"next: deiii preprocess table tiny corpus.root={folder / 'out'}"


def test_many_segments_without_a_file_are_an_error_that_names_a_reason(folder, capsys):
    text = "path,start,end,speaker,label\ntalk.mp4,0,1,anna,happy\ntalk.mp4,8,9,anna,sad\n"
    assert run(folder, text) == 1
    found = capsys.readouterr()
    assert "1 segment without a file, first row 3 (talk.mp4): the recording ends before" in found.out
    assert "cut.csv" in found.out
    assert "1 clip of 1 recording" in found.out


def test_a_table_without_speakers_or_labels_is_cut_and_the_lack_is_named(folder, capsys):
    assert run(folder, "start,end\n0,1\n", "--recording", "talk.mp4", "--lossless") == 0
    assert "clips.csv has no column speaker and no column label" in capsys.readouterr().out


@pytest.mark.parametrize("crf", ["60", "-1", "good"])
def test_a_quality_that_does_not_exist_is_refused(folder, capsys, crf):
    with pytest.raises(SystemExit):
        run(folder, "path,start,end\ntalk.mp4,0,1\n", "--crf", crf)
    assert "is not a number from 0 to 51" in capsys.readouterr().err


def test_a_missing_table_is_named(folder, capsys):
    assert main(["cut", str(folder / "none.csv"), str(folder / "out")]) == 1
    assert "none.csv" in capsys.readouterr().err
