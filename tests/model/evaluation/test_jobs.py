"""The number of runs at a time: given, one on a CPU, by the memory of the first run on a GPU."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deiii.data.config.schema import Config
from deiii.model.evaluation import many_runs
from deiii.model.evaluation.many_runs import CONTEXT, GIB, GpuMemory, jobs_that_fit


@pytest.mark.parametrize(
    ("peak", "available", "gpus", "cores", "jobs"),
    [
        (6, 79, 1, 16, 10),  # 0.9 * 79 / (6 + 1)
        (6, 79, 1, 4, 4),  # a core a run
        (60, 79, 1, 16, 1),
        (200, 79, 1, 16, 1),  # one went before, so one goes
        (6, 79, 4, 64, 40),
        (60, 79, 4, 2, 4),  # every GPU gets a run
        (0, 0, 1, 16, 1),  # nothing was measured
    ],
)
def test_runs_fit_into_memory_and_cores(peak, available, gpus, cores, jobs):
    assert jobs_that_fit(GpuMemory(peak * GIB, available * GIB), gpus, cores) == jobs


@given(st.integers(0, 100), st.integers(0, 200), st.integers(1, 8), st.integers(1, 256))
def test_more_than_one_a_gpu_never_exceeds_the_memory(peak, available, gpus, cores):
    jobs = jobs_that_fit(GpuMemory(peak * GIB, available * GIB), gpus, cores)
    assert jobs >= gpus
    if jobs > gpus:
        assert jobs / gpus * (peak * GIB + CONTEXT) <= available * GIB and jobs <= cores


@pytest.fixture
def calls(monkeypatch):
    """Run nothing: note the texts and the number of processes of each round."""
    noted = []

    def in_processes(texts, jobs, work=None, progress=False):
        noted.append((list(texts), jobs))
        for name in texts:
            yield name, GpuMemory(6 * GIB, 79 * GIB)

    monkeypatch.setattr(many_runs, "_in_processes", in_processes)
    monkeypatch.setattr(many_runs, "finished", lambda config, tables=None: False)
    monkeypatch.setattr(many_runs, "run_one", lambda text, **_: noted.append("here"))
    monkeypatch.setattr(many_runs, "usable_cores", lambda: 16)
    return noted


def runs(count):
    return {f"run{n}": Config() for n in range(count)}


@pytest.mark.parametrize(
    ("gpus", "jobs", "rounds"),
    [
        (1, 0, [(["run0"], 1), (["run1", "run2", "run3"], 3)]),
        (1, 2, [(["run0", "run1", "run2", "run3"], 2)]),
        (1, 1, ["here"] * 4),
        (0, 0, ["here"] * 4),
        (4, 0, [(["run0", "run1", "run2", "run3"], 4)]),  # a GPU each: nothing to measure
    ],
)
def test_the_first_run_is_measured_where_runs_share_a_gpu(calls, monkeypatch, gpus, jobs, rounds):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    ended = [name for name, _ in many_runs.run_all(runs(4), jobs, progress=False)]
    assert sorted(ended) == ["run0", "run1", "run2", "run3"]
    assert calls == rounds


def test_gpus_of_a_driver_that_is_too_old_count_for_nothing(calls, monkeypatch):
    """PyTorch counts them, and cannot use them: device=auto is the CPU."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    ended = [name for name, _ in many_runs.run_all(runs(4), progress=False)]
    assert len(ended) == 4 and calls == ["here"] * 4


def test_a_run_on_a_cpu_reports_no_memory(monkeypatch):
    monkeypatch.setattr(many_runs, "finished", lambda config, scored: True)
    assert many_runs.run_one("{}") == GpuMemory()
