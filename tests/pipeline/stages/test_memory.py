"""A clip that needs too much memory ends as ``out_of_memory``, whatever error a library raises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deiii.data.cache.outcomes import StageResult
from deiii.data.config.load import load_config
from deiii.pipeline.preprocess.worker_settings import within_memory
from deiii.pipeline.stages import clip as clips
from deiii.pipeline.stages.limits import memory_limit
from tests.helpers.clips import audio_corpus

linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is limited on Linux only")

IMPORTS = """
import sys
from deiii.data.config.load import load_config
from deiii.pipeline.stages.clip import load_models, run_clip
config = load_config()
load_models("logmel", config)
before = set(sys.modules)
assert run_clip("logmel", sys.argv[1], config).outcome.usable
print(len(set(sys.modules) - before))
"""


def test_a_clip_does_not_pay_for_the_import_of_libraries(tmp_path):
    corpus = audio_corpus(tmp_path / "raw", speakers=1)
    file = Path(corpus.root) / corpus.clips[0].path
    command = [sys.executable, "-c", IMPORTS, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 20  # librosa alone is a thousand


def outcome(monkeypatch, work, gigabytes: float):
    """Return the outcome of a clip for which a stage does this work under the limit."""
    monkeypatch.setattr(clips, "import_function", lambda name: work)
    config = load_config(overrides=[f"clip_memory_gb={gigabytes}"])
    with memory_limit(gigabytes):
        return clips.run_clip("logmel", "clip.wav", config).outcome


ERRORS = [
    RuntimeError("Failed to allocate memory for requested buffer of size 2457600"),
    RuntimeError("std::bad_alloc"),
    ImportError("libfoo.so: failed to map segment from shared object"),
    cv_error := clips.cv2.error("Failed to allocate 3 bytes"),
]
cv_error.code = clips.cv2.Error.StsNoMem


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: str(error)[:20])
def test_an_error_that_speaks_of_memory(monkeypatch, error):
    def work(*_: object) -> StageResult:
        raise error

    found = outcome(monkeypatch, work, 0.25)
    assert found.status == "out_of_memory" and "clip_memory_gb" in found.reason
    assert str(error) in found.reason


@pytest.mark.parametrize(
    ("words", "limit"),
    [
        (["clip_memory_gb=8"], "8 GiB (clip_memory_gb)"),
        (
            ["cluster.kind=slurm", "cluster.memory_gb=4", "clip_memory_gb=8"],
            "3 GiB (cluster.memory_gb=4 less",
        ),
        (["cluster.kind=kubernetes", "cluster.memory_gb=1"], "0.5 GiB (cluster.memory_gb=1 less"),
        (["cluster.kind=slurm", "cluster.memory_gb=4", "clip_memory_gb=2"], "2 GiB (clip_memory_gb)"),
        (["cluster.memory_gb=4", "clip_memory_gb=8"], "8 GiB (clip_memory_gb)"),
    ],
)
def test_the_reason_names_the_setting_that_is_to_be_raised(monkeypatch, words, limit):
    def work(*_: object) -> StageResult:
        raise MemoryError

    monkeypatch.setattr(clips, "import_function", lambda name: work)
    config = within_memory(load_config(overrides=words))
    reason = clips.run_clip("logmel", "clip.wav", config).outcome.reason
    assert f"more than {limit}" in reason and "retry=true" in reason
    assert ("raise cluster.memory_gb" in reason) == ("cluster" in limit)
    assert ("raise clip_memory_gb" in reason) == ("cluster" not in limit)


def test_an_error_that_follows_from_a_memory_error(monkeypatch):
    def work(*_: object) -> StageResult:
        try:
            raise MemoryError
        except MemoryError as error:
            raise AttributeError("module 'numba' has no attribute 'core'") from error

    assert outcome(monkeypatch, work, 0.25).status == "out_of_memory"


@linux
@pytest.mark.parametrize(
    "error", [SystemError("error return without exception set"), OSError(12, "no memory")]
)
def test_any_error_while_hardly_any_memory_is_left(monkeypatch, error):
    def work(*_: object) -> StageResult:
        held = np.ones(240 << 20, np.uint8)
        if len(held):
            raise error
        raise AssertionError

    assert outcome(monkeypatch, work, 0.25).status == "out_of_memory"


@pytest.mark.parametrize(
    "error", [SystemError("error return without exception set"), OSError(12, "no memory")]
)
def test_the_same_error_with_enough_memory_is_another_one(monkeypatch, error):
    def work(*_: object) -> StageResult:
        raise error

    assert outcome(monkeypatch, work, 8.0).status == "failed"
