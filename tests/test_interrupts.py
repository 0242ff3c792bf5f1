"""Ctrl-C and SIGTERM at random times: every command ends with status 130, one line and no trace."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.helpers.clips import audio_corpus

TRIES = 4
START = "from deiii.__main__ import main; print(flush=True); raise SystemExit(main())"


def stopped(words: list[str], after_s: float, number: int, whole_group: bool) -> tuple[int, str]:
    """Status and standard error of a command that gets a signal after some seconds."""

    def own_group() -> None:
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell may have started the tests in the background

    program = subprocess.Popen(
        [sys.executable, "-c", START, *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=own_group,
    )  # fmt: skip
    with program:
        program.stdout.readline()  # Python itself ends with a trace if it is interrupted while it starts
        time.sleep(after_s)
        (os.killpg if whole_group else os.kill)(program.pid, number)
        _, errors = program.communicate(timeout=120)
    return program.returncode, errors


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("command", ["synthesize", "preprocess", "train", "settings"])
def test_a_stopped_command_says_so_and_nothing_else(command, tmp_path):
    corpus = audio_corpus(tmp_path / "clips", speakers=6)
    rows = "".join(f"{c.path},{c.speaker},{c.label}\n" for c in corpus.clips)
    (tmp_path / "clips/clips.csv").write_text(f"path,speaker,label\n{rows}")
    table = ["tiny", "corpus.name=table", f"corpus.root={tmp_path / 'clips'}", "stages=[logmel]", "workers=2"]
    table += [f"cache={tmp_path / 'cache'}", "model.video=false", "model.flow=false", "train.device=cpu"]
    words = {
        "synthesize": [f"corpus.root={tmp_path / 'raw'}", "workers=2"],
        "preprocess": table,
        "train": [
            *table,
            "train.epochs=4000",
            "train.patience=0",
            f"train.run={tmp_path / 'run'}",
            "--resume",
        ],
        "settings": [],
    }
    if command == "train":
        done = subprocess.run(
            [sys.executable, "-m", "deiii", "preprocess", *table], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    times = random.Random(command)
    ended = 0
    for n in range(TRIES):
        number = (signal.SIGINT, signal.SIGTERM)[n % 2]
        after_s = times.uniform(0.1, 0.4 if command == "settings" else 8.0)
        status, errors = stopped([command, *words[command]], after_s, number, whole_group=n % 4 < 2)
        if status == 0:
            continue  # it was faster than the signal
        ended += 1
        lines = [
            line for line in errors.splitlines() if line and "it/s" not in line and "batch/s" not in line
        ]
        assert status == 130, (after_s, errors)
        assert lines and lines[-1].startswith("stopped; ") and "Traceback" not in errors, (after_s, errors)
        assert "Exception" not in errors, (after_s, errors)
    assert ended or command == "settings"
