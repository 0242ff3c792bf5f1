"""Progress: a bar on a terminal, few whole lines in a log."""

from __future__ import annotations

import io
import sys
import time
from types import SimpleNamespace

import pytest

from deiii.data.tools import progress
from deiii.data.tools.progress import progress_bar, quietly, say


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets, in s."""
    now = [1000.0]
    # The name in the module alone: other threads of the process go on by the real clock.
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_a_log_gets_a_line_every_30_seconds(capsys, clock):
    with progress_bar(desc="preprocess", unit="step", total=1000) as bar:
        for _ in range(1000):
            clock[0] += 0.125
            bar.update()
    log = capsys.readouterr().err
    lines = log.splitlines()
    assert len(lines) == 5  # after 30, 60, 90, 120 s and at the end
    assert "\r" not in log
    assert lines[0].startswith("preprocess:") and "240/1000" in lines[0] and "24%" in lines[0]
    assert "1000/1000" in lines[-1]


def test_the_time_before_the_first_unit_is_not_repeated_in_the_estimate(capsys, clock):
    bar = progress_bar(desc="preprocess", unit="step", total=1000)
    clock[0] += 20  # workers start
    for _ in range(80):
        clock[0] += 0.125
        bar.update()
    line = capsys.readouterr().err
    assert "80/1000 [00:30<01:55,  8.00step/s]" in line


def test_short_work_writes_nothing_into_a_log(capsys, clock):
    for _ in progress_bar(range(100), desc="checking", unit="shard"):
        clock[0] += 0.1
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("stream", [io.StringIO, Terminal], ids=["log", "terminal"])
def test_a_command_that_loads_for_long_says_so(monkeypatch, stream):
    """Also in a log, which would be empty until PyTorch is loaded."""
    monkeypatch.setattr(progress, "_shown", [False])
    monkeypatch.setattr(sys, "stderr", stream())
    with progress.loading_note("loading ...", after_s=0.0):
        end = time.monotonic() + 30
        while not sys.stderr.getvalue() and time.monotonic() < end:
            time.sleep(0.01)
    assert sys.stderr.getvalue() == "loading ...\n"


@pytest.mark.parametrize("first", ["a report", "quiet"])
def test_a_command_that_reported_something_or_is_quiet_does_not(monkeypatch, first):
    monkeypatch.setattr(progress, "_shown", [first == "a report"])
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with quietly(first == "quiet"), progress.loading_note("loading ...", after_s=0.0):
        time.sleep(0.2)
    assert sys.stderr.getvalue() == ""


def test_resumed_work_counts_what_was_finished(capsys, clock):
    with progress_bar(desc="media", unit="B", total=4_000_000, initial=1_000_000, scale=True) as bar:
        clock[0] += 30
        bar.update(1_000_000)
    log = capsys.readouterr().err
    assert "2.00M/4.00M" in log and "50%" in log


def test_an_error_ends_the_lines(capsys, clock):
    bar = progress_bar(desc="work", unit="clip", total=2)
    with pytest.raises(KeyError), bar:
        clock[0] += 31
        bar.update()
        raise KeyError
    bar.close()
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_terminal_gets_a_bar(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(progress_bar("abc", desc="letters", unit="letter")) == ["a", "b", "c"]
    assert "\r" in stream.getvalue() and "3/3" in stream.getvalue()


def test_nothing_is_shown_in_a_log_where_it_is_switched_off(capsys, clock):
    for _ in progress_bar(range(3), desc="quiet", unit="clip", shown=False):
        clock[0] += 60
    assert capsys.readouterr().err == ""


def test_nothing_is_shown_on_a_terminal_where_it_is_switched_off(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(progress_bar(range(3), desc="quiet", unit="clip", shown=False)) == [0, 1, 2]
    assert stream.getvalue() == ""


def test_a_quiet_command_shows_no_bar_and_says_nothing(monkeypatch, capsys):
    monkeypatch.setattr(progress, "LINE_S", 0.0)  # every update would write a line
    with quietly():
        assert list(progress_bar(range(3), desc="a", unit="clip")) == [0, 1, 2]
        say("12 clips")
        with quietly(False):  # a command within, as notebooks run them
            say("inner")
        say("13 clips")
    assert capsys.readouterr() == ("inner\n", "")
    with pytest.raises(ValueError), quietly():
        raise ValueError
    say("after")  # an error does not leave the process quiet
    assert list(progress_bar(range(3), desc="a", unit="clip")) == [0, 1, 2]
    shown = capsys.readouterr()
    assert shown.out == "after\n" and "3/3" in shown.err


def test_a_log_gets_lines_while_no_unit_is_finished(capsys, monkeypatch):
    """The start of workers, and the search for the people of a long file, took minutes without a line."""
    monkeypatch.setattr(progress, "LINE_S", 0.1)
    with (
        progress_bar(desc="files", unit="file", total=2),
        progress_bar(desc="talk", unit="s", total=60) as bar,
    ):
        bar.set_postfix_str("reading the audio")
        lines = []
        until = time.monotonic() + 20
        while len(lines) < 2 and time.monotonic() < until:
            time.sleep(0.05)
            lines += capsys.readouterr().err.splitlines()
    assert len(lines) >= 2
    for line in lines:  # the inner one alone
        assert line.startswith("talk:   0% 0/60") and "reading the audio" in line
    capsys.readouterr()
    time.sleep(0.3)
    assert capsys.readouterr().err == ""  # nothing is written after the end
    assert all(reference() is None for reference in progress._open[-2:]) or not progress._open


def test_the_last_line_is_not_written_twice(capsys, clock):
    with progress_bar(desc="predicting", unit="file", total=1) as bar:
        clock[0] += 43
        bar.update()
    assert len(capsys.readouterr().err.splitlines()) == 1
