"""A clip in a process of its own gives the same result, and errors become outcomes."""

from __future__ import annotations

import numpy as np
import pytest

from deiii.data.cache.outcomes import Status
from deiii.data.config.load import load_config
from deiii.pipeline.stages.clip import run_clip
from deiii.pipeline.stages.isolation import _pack, _unpack, run_isolated
from tests.helpers.clips import write_sound


def test_an_isolated_clip_gives_the_same_result(tmp_path):
    path, config = str(write_sound(tmp_path / "a.flac")), load_config()
    here, there = run_clip("logmel", path, config), run_isolated("logmel", path, config)
    assert here.outcome == there.outcome and here.outcome.status is Status.OK
    assert all(np.array_equal(here.arrays[n], there.arrays[n]) for n in ("logmel", "time"))


def test_modules_of_the_current_folder_replace_none_of_python(tmp_path, monkeypatch):
    path = str(write_sound(tmp_path / "a.flac"))
    for name in ("types", "random", "numpy", "deiii"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('a module of the user')\n")
    monkeypatch.chdir(tmp_path)
    assert run_isolated("logmel", path, load_config()).outcome.status is Status.OK


def test_outcomes_pass_through_the_pipe(tmp_path):
    result = run_clip("logmel", str(tmp_path / "none.flac"), load_config())
    back = _unpack(_pack(result))
    assert back.outcome == result.outcome and back.outcome.status is Status.MISSING and not back.arrays


@pytest.mark.parametrize("limit", [1.0])
def test_a_clip_is_ended_after_its_time_limit(tmp_path, limit):
    """Starting Python, importing librosa and decoding take longer than the limit."""
    config = load_config(overrides=[f"clip_timeout={limit}"])
    long = write_sound(tmp_path / "a.flac", seconds=900.0)
    outcome = run_isolated("logmel", str(long), config).outcome
    assert outcome.status is Status.TIMED_OUT and "retry=true" in outcome.reason
