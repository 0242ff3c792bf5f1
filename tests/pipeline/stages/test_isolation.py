"""Clips in a process of their own give the same results, and errors become outcomes of the right clip."""

from __future__ import annotations

import queue
import time
from types import SimpleNamespace

import numpy as np
import pytest

from deiii.data.cache.outcomes import Status
from deiii.data.config.load import load_config
from deiii.pipeline.stages import isolation
from deiii.pipeline.stages.clip import run_clip
from deiii.pipeline.stages.isolation import START_S, IsolatedClips, pack, unpack
from tests.helpers.clips import write_audio
from tests.helpers.waiting import PATIENCE_S

# A log-mel stage that writes down which process served which clip; without librosa, which is slow to import.
STAGE = """
import os, sys, types
import numpy as np
from deiii.data.cache.outcomes import Outcome, StageResult, Status
from deiii.data.tools.compilation import librosa_loading
librosa_loading.load_parts = lambda: None
served = []
def extract_logmel(path, config):
    name = os.path.basename(path)
    with open({log!r}, "a") as log:
        print(name, os.getpid(), file=log)
    first = not served
    served.append(name)
    if name == "aborts" or name == "aborts later" and not first:
        os.abort()
    if name == "sleeps" or name == "sleeps later" and not first:
        import time
        time.sleep(60)
    if name == "hangs at its end":
        import time
        os.closerange(3, 100)
        time.sleep(60)
    if name == "full":
        raise OSError(28, "No space left on device")
    return StageResult(Outcome(Status.OK), {{"logmel": np.full((2, 3), len(served)), "time": np.arange(2.0)}})
module = sys.modules["deiii.pipeline.logmel.stage"] = types.ModuleType("deiii.pipeline.logmel.stage")
module.extract_logmel = extract_logmel
"""


def run_isolated(stage, path, config):
    """One clip in a process that serves no other."""
    with IsolatedClips(stage, config) as isolated:
        return isolated.run(path)


def test_an_isolated_clip_gives_the_same_result(tmp_path):
    path, config = str(write_audio(tmp_path / "a.flac")), load_config()
    here, there = run_clip("logmel", path, config), run_isolated("logmel", path, config)
    assert here.outcome == there.outcome and here.outcome.status is Status.OK
    assert all(np.array_equal(here.arrays[n], there.arrays[n]) for n in ("logmel", "time"))


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Replace the stage in new processes; returns a function that lists each clip with its process."""
    log = tmp_path / "log"
    (tmp_path / "sitecustomize.py").write_text(STAGE.format(log=str(log)))
    monkeypatch.syspath_prepend(str(tmp_path))

    def by_clip():
        rows = [line.rsplit(" ", 1) for line in log.read_text().splitlines()]
        numbers = {process: n for n, process in enumerate(dict.fromkeys(process for _, process in rows))}
        return [(name, numbers[process]) for name, process in rows]

    return by_clip


@pytest.fixture
def begun_clips(served, tmp_path, monkeypatch):
    """Let the time limit of each clip count from when its process has begun it, also on a busy machine."""
    log = tmp_path / "log"

    class Answers(queue.Queue):
        begun = 0  # clips of all processes

        def get(self, block=True, timeout=None):
            if timeout < START_S:  # the process has started, and was given a clip
                Answers.begun += 1
                until = time.monotonic() + PATIENCE_S
                while not log.exists() or log.read_text().count("\n") < Answers.begun:
                    assert time.monotonic() < until, "the process did not begin the clip"
                    time.sleep(0.01)
            return super().get(block, timeout)

    monkeypatch.setattr(isolation, "queue", SimpleNamespace(Queue=Answers, Empty=queue.Empty))


def test_one_process_serves_all_clips_until_one_ends_it(served):
    with IsolatedClips("logmel", load_config()) as isolated:
        found = [isolated.run(name) for name in ("a", "ö", "aborts", "b")]
    assert [r.outcome.status for r in found] == [Status.OK, Status.OK, Status.CRASHED_DECODER, Status.OK]
    assert "exit status -6" in found[2].outcome.reason
    assert [int(r.arrays["logmel"][0, 0]) for r in found if r.arrays] == [1, 2, 1]
    # The clip that aborts is tried in the process that is there, and twice in one of its own.
    assert served() == [("a", 0), ("ö", 0), ("aborts", 0), ("aborts", 1), ("aborts", 2), ("b", 3)]


@pytest.mark.usefixtures("begun_clips")
@pytest.mark.parametrize("name", ["aborts later", "sleeps later"])
def test_a_clip_is_not_blamed_for_what_an_earlier_one_did_to_the_process(served, name):
    with IsolatedClips("logmel", load_config(overrides=["clip_timeout=5"])) as isolated:
        assert [isolated.run(n).outcome.status for n in ("a", name, "b")] == [Status.OK] * 3
    assert served() == [("a", 0), (name, 0), (name, 1), ("b", 1)]


@pytest.mark.usefixtures("begun_clips")
def test_a_process_that_closes_its_pipe_and_hangs_is_ended_after_the_time_limit(served):
    outcome = run_isolated("logmel", "hangs at its end", load_config(overrides=["clip_timeout=5"])).outcome
    assert outcome.status is Status.TIMED_OUT
    assert served() == [("hangs at its end", 0)]


def test_an_error_of_the_machine_is_no_outcome_of_the_clip(served):
    with IsolatedClips("logmel", load_config()) as isolated:
        assert isolated.run("a").outcome.status is Status.OK
        with pytest.raises(OSError, match="No space left"):
            isolated.run("full")
        assert isolated.run("b").outcome.status is Status.OK
    assert served() == [("a", 0), ("full", 0), ("b", 1)]


def test_modules_of_the_current_folder_replace_none_of_python(tmp_path, monkeypatch):
    path = str(write_audio(tmp_path / "a.flac"))
    for name in ("types", "random", "numpy", "deiii"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('a module of the user')\n")
    monkeypatch.chdir(tmp_path)
    assert run_isolated("logmel", path, load_config()).outcome.status is Status.OK


def test_outcomes_pass_through_the_pipe(tmp_path):
    result = run_clip("logmel", str(tmp_path / "none.flac"), load_config())
    back = unpack(pack(result))
    assert back.outcome == result.outcome and back.outcome.status is Status.MISSING and not back.arrays


@pytest.mark.usefixtures("begun_clips")
def test_a_clip_is_ended_after_its_time_limit(served):
    """The first clip of a process, whose start is not counted."""
    outcome = run_isolated("logmel", "sleeps", load_config(overrides=["clip_timeout=1"])).outcome
    assert served() == [("sleeps", 0)]
    assert outcome.status is Status.TIMED_OUT and "retry=true" in outcome.reason


def test_the_start_of_a_process_is_not_a_part_of_its_clips_time(served, monkeypatch):
    """Otherwise clips without fault end as timed_out where the limit is low or the disk is slow."""
    now, limits = [0.0], []

    class Answers(queue.Queue):
        """The start takes 60 s by the clock of the parent; nothing ends early on a busy machine."""

        def get(self, block=True, timeout=None):
            limits.append(timeout)
            answer = super().get(timeout=PATIENCE_S)
            now[0] += 60.0 if len(limits) == 1 else 1.0
            return answer

    monkeypatch.setattr(isolation, "queue", SimpleNamespace(Queue=Answers, Empty=queue.Empty))
    monkeypatch.setattr(isolation, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with IsolatedClips("logmel", load_config(overrides=["clip_timeout=2"])) as isolated:
        assert [isolated.run(name).outcome.status for name in ("a", "b")] == [Status.OK] * 2
    assert limits == [START_S, 2.0, 2.0]
