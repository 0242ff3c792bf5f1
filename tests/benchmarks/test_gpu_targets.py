"""Targets of the check on a real GPU stand beside the figures, also where a part measured nothing."""

import pytest

from benchmarks.gpu_parts.targets import TARGETS, target_lines


def parts(pairs, stalls):
    flow = [{"model": "raft_large", "way": "torchvision batched float32", "pairs_per_s": 1000.0}]
    flow += [{"model": "raft_large", "dtype": "float32", "pairs_per_s": 99_000.0}]
    flow += [{"model": "raft_large", "dtype": "float16", "pairs_per_s": rate} for rate in pairs]
    flow += [{"model": "raft_large", "dtype": "float16", "error": "OutOfMemoryError"}]
    train = [{"launch": "graph", "stall": s, "epoch_s_of_7442": 2.5 + s} for s in stalls]
    train += [{"launch": "eager", "stall": 0.9, "epoch_s_of_7442": 0.1}]
    return {
        "flow": {"found": flow},
        "train": {"found": train},
        "preprocess": {
            "found": [
                {"run": "all stages", "gpu_busy_mean": 11.0, "gpu_busy_working": 45.0},
                {"run": "flow alone", "gpu_busy_mean": 24.0, "gpu_busy_working": 97.0},
            ]
        },
        "steps": {
            "found": [
                {"words": "train.launch=graph", "ms_a_step": 8.0},
                {"run": "training", "residency": "stream", "gpu_busy_working": 79.5},
                {"run": "training", "residency": "device", "gpu_busy_working": 99.0},
            ]
        },
        "tests": {"found": [{"file": "a", "code": 1}, {"files_with_failures": 1}]},
    }


def test_the_best_rate_and_the_worst_stall_count():
    lines = target_lines(parts([7_900.0, 10_500.0], [0.01, 0.05]))
    assert lines[0].endswith("10,500, target at least 10,000: reached")
    assert lines[1].endswith("10.5, target at least 8: reached")
    assert lines[2].endswith("2.51, target at most 2: not reached")
    assert lines[3].endswith("0.05, target at most 0.02: not reached")
    assert lines[4].endswith("GPU busy in training, %: 79.5, target at least 80: not reached")
    assert lines[5].endswith("preprocessing, %: 11, target at least 70: not reached")
    assert lines[6].endswith("cached faces, %: 97, target at least 70: reached")
    assert lines[7].endswith("1, target at most 0: not reached")


@pytest.mark.parametrize("found", [{}, {"flow": {"found": []}}])
def test_every_target_has_a_line(found):
    assert [line.split(":")[0] for line in target_lines(found)] == [target.name for target in TARGETS]
    assert all("not measured" in line for line in target_lines(found))
