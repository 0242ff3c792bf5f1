"""A warning of deiii's code is shown once in a command; those of other packages stay as they are."""

from __future__ import annotations

import logging
import subprocess
import sys

from deiii.__main__ import main
from deiii.data.command_line.repeated_warnings import each_warning_once

WARN = """
import logging
from deiii.data.command_line.repeated_warnings import each_warning_once
own, other = logging.getLogger("deiii.data.corpora.scan"), logging.getLogger("deiiix")
for command in range(2):
    with each_warning_once():
        for n in (1, 1, 2):
            own.warning("%d files left out", n)
            other.warning("of another package %d", n)
own.warning("1 files left out")
"""


def test_each_message_once_in_each_block():
    done = subprocess.run([sys.executable, "-c", WARN], capture_output=True, text=True)
    lines = done.stderr.splitlines()
    assert [line for line in lines if "left out" in line] == [
        "1 files left out", "2 files left out", "1 files left out", "2 files left out", "1 files left out",
    ]  # fmt: skip
    assert len(lines) == 5 + 6


def test_handlers_of_other_programs_get_every_record(caplog):
    with each_warning_once():
        for _ in range(2):
            logging.getLogger("deiii.data").warning("again")
    assert len(caplog.records) == 2


def test_a_command_does_not_leave_its_filter_behind():
    before = list(logging.lastResort.filters) if logging.lastResort else []
    assert main(["splits", "list"]) == 0
    assert logging.lastResort is None or logging.lastResort.filters == before


def test_a_command_that_reads_the_corpus_twice_warns_once(tmp_path):
    """As a cross-validation does for every run."""
    code = (
        "import sys; from deiii import __main__ as program; from deiii.data.corpora.scan import scan; "
        "from deiii.data.config.schema import CorpusConfig; from types import SimpleNamespace; "
        f"config = CorpusConfig(name='ravdess', root={str(tmp_path)!r}); "
        "program._act(SimpleNamespace(quiet=False, action=lambda args: [scan(config), scan(config)] and 0))"
    )
    for name in ("01-01-03-01-01-01-07.mp4", "notes.mp4"):
        (tmp_path / name).touch()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.count("ravdess: 1 file left out") == 1, done.stderr
