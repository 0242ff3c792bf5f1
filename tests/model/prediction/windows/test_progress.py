"""The bar of a file that takes minutes: what is read, and how much time is left."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from deiii.data.tools import progress
from deiii.model.prediction.windows import progress as of_file
from deiii.model.prediction.windows.progress import seconds_bar

HOUR = Path("interview.mp4")


@pytest.fixture
def clock(monkeypatch):
    """The time in s that the bar sees, in a list; every file is said to last an hour."""
    now = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(of_file, "declared_seconds", lambda path: 3600.0)
    return now


def test_the_time_left_of_a_long_file_does_not_count_reading_its_audio(clock, capsys):
    """The audio of an hour took 2 of the 5 minutes; the first lines promised days."""
    with seconds_bar(HOUR, True) as advance:
        for clock[0], done_s in ((160.0, 2.0), (195.0, 362.0)):
            advance(done_s)
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith("interview.mp4:  10% 362/3600 [00:35<05:14, 10.29s of media/s]")


def test_each_reading_of_a_long_file_has_its_own_progress(clock, capsys):
    """With ``--people all`` the bar stayed at 100 % while the file was read for the other people."""
    with seconds_bar(HOUR, True) as advance:
        for clock[0], done_s in ((1.0, 2.0), (40.0, 3600.0), (41.0, 3599.0), (42.0, 2.0), (80.0, 902.0)):
            advance(done_s)
    first, second, *_ = capsys.readouterr().err.splitlines()
    assert "100% 3600/3600" in first and "reading" not in first
    assert "25% 902/3600" in second and second.endswith("reading 2]")


def test_the_bar_moves_while_the_audio_of_a_long_file_is_read(clock, capsys):
    """It stayed at 0 % for a minute or more."""
    with seconds_bar(HOUR, True) as bar:
        steps = [(bar.speech, 1.0, 36.0), (bar.speech, 31.0, 1800.0), (bar.speech, 32.0, 3600.0)]
        steps += [(bar.audio, 33.0, 100.0), (bar.audio, 64.0, 900.0), (bar, 65.0, 2.0), (bar, 100.0, 362.0)]
        for advance, clock[0], done_s in steps:
            advance(done_s)
    first, second, third, *_ = capsys.readouterr().err.splitlines()
    assert "50% 1800/3600" in first and first.endswith("finding speech]")
    assert "25% 900/3600" in second and second.endswith("reading the audio]")
    assert third.startswith("interview.mp4:  10% 362/3600 [00:35<05:14, 10.29s of media/s]")


def test_the_bar_names_the_person_for_whom_a_long_file_is_read(clock, capsys):
    """It counted the readings of the file, of which the first one finds the people."""
    with seconds_bar(HOUR, True) as bar:
        for clock[0], done_s in ((1.0, 2.0), (20.0, 3600.0)):
            bar(done_s)
        bar.person(1, 2)
        for advance, clock[0], done_s in ((bar.audio, 21.0, 3600.0), (bar, 22.0, 2.0), (bar, 60.0, 902.0)):
            advance(done_s)
    assert capsys.readouterr().err.splitlines()[0].endswith("person 1 of 2]")
