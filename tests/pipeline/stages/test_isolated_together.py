"""Clips that are computed together in a process of their own, and clips that end this process."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

from deiii.data.config.load import load_config
from deiii.pipeline.stages.isolated_together import isolated_results
from tests.helpers.onnx_maker import speech_file

SLOW_S = 2.5  # that reading the clip "slow" takes, and computing it, too
# A speech stage that computes pairs of clips and writes down which process computed which of them.
STAGE = """
import os, sys, time, types
import numpy as np
from deiii.data.cache.outcomes import Outcome, StageResult, Status
from deiii.data.tools.compilation import librosa_loading
librosa_loading.load_parts = lambda: None
def read_speech(path, config):
    if path == "unreadable":
        os.abort()
    time.sleep({slow} * (path == "slow"))
    return StageResult(Outcome(Status.OK), {{"name": np.array(path)}})
class SpeechClips:
    def __init__(self, config, models):
        self.held = []
    def add(self, arrays):
        self.held.append(str(arrays["name"]))
        return self.rest() if len(self.held) == 2 else []
    def rest(self):
        names, self.held = self.held, []
        time.sleep({slow} * ("slow" in names))
        with open({log!r}, "a") as log:
            print("+".join(names), os.getpid(), file=log)
        if "aborts" in names:
            os.abort()
        if "full" in names:
            raise OSError(28, "No space left on device")
        if "fails" in names:
            raise ValueError("fails")
        arrays = {{"states": np.ones(2), "time": np.ones(2)}}
        return [StageResult(Outcome(Status.OK, name), arrays) for name in names]
module = sys.modules["deiii.pipeline.speech.stage"] = types.ModuleType("deiii.pipeline.speech.stage")
module.read_speech, module.SpeechClips = read_speech, SpeechClips
loading = sys.modules["deiii.pipeline.encoders.load"] = types.ModuleType("deiii.pipeline.encoders.load")
loading.load_encoder = lambda config: None
"""


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Replaces the stage in new processes; returns a function from names of clips to statuses and calls."""
    filters = np.random.default_rng(0).normal(size=(6, 1, 320)).astype(np.float32)
    path = speech_file(tmp_path / "encoder.onnx", filters)  # its name is checked, but it is not loaded
    config = load_config(overrides=["stages=[speech]", f"speech.encoder={path}", "speech.outputs=[rows]"])
    log = tmp_path / "log"
    (tmp_path / "sitecustomize.py").write_text(STAGE.format(log=str(log), slow=SLOW_S))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")

    def serve(*names, clip_timeout=600.0):
        limited = replace(config, clip_timeout=clip_timeout)
        found = [r.outcome for r in isolated_results("speech", names, limited)]
        rows = [line.split() for line in log.read_text().splitlines()]
        numbers = {process: n for n, process in enumerate(dict.fromkeys(process for _, process in rows))}
        return [str(o.status) for o in found], [(name, numbers[process]) for name, process in rows]

    return serve


def test_a_clip_that_ends_the_process_that_computes_it(served):
    """Its neighbour has a result, and later clips are computed together again."""
    statuses, calls = served("a", "b", "c", "aborts", "d", "e")
    assert statuses == ["ok", "ok", "ok", "crashed_decoder", "ok", "ok"]
    together, alone = [("a+b", 0), ("c+aborts", 0)], [("c", 1), ("aborts", 1), ("aborts", 2), ("aborts", 3)]
    assert calls == [*together, *alone, ("d+e", 4)]


def test_a_clip_that_ends_the_process_that_reads_changes_no_batch(served):
    statuses, calls = served("a", "unreadable", "b", "c")
    assert statuses == ["ok", "crashed_decoder", "ok", "ok"]
    assert calls == [("a+b", 0), ("c", 0)]


def test_errors_in_the_process_that_computes(served):
    statuses, calls = served("a", "fails", "b")
    assert statuses == ["ok", "failed", "ok"]
    assert calls == [("a+fails", 0), ("a", 0), ("fails", 0), ("b", 0)]
    with pytest.raises(OSError, match="No space left"):
        served("a", "full")


def test_reading_and_computing_a_clip_have_one_limit(served):
    """A clip could take up to three times its limit: once for reading, and twice for computing."""
    statuses, calls = served("a", "b", "slow", clip_timeout=1.6 * SLOW_S)
    assert statuses == ["ok", "ok", "timed_out"]
    assert calls == [("a+b", 0)]  # the calls of "slow" were ended before they wrote a line


def test_clips_of_one_batch_have_the_sum_of_their_limits(served):
    statuses, calls = served("a", "slow", clip_timeout=1.6 * SLOW_S)
    assert statuses == ["ok", "ok"] and calls == [("a+slow", 0)]
