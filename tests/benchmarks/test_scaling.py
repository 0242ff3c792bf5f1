"""The cost model and the counting of requests: known answers."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.object_store import measure, runs
from benchmarks.scaling import Assumed, Measured, cost, last_result, table

UNIT = Measured(
    face_frames_per_core_s=60, flow_pairs_per_core_s=60,
    overhead_ms_per_task=16, overhead_kb_per_clip=1, cache_mb_per_clip=4, rows_requests_per_clip=20,
    rows_mb_per_clip=1, shard_requests_per_clip=0.5,
)  # fmt: skip


def test_rows_close_to_each_other_are_one_request():
    assert runs(np.array([0, 1, 5]), 10, gap=15) == [20, 10]
    assert runs(np.array([0, 1, 5]), 10, gap=30) == [60]
    assert runs(np.array([7]), 10, gap=0) == [10]


def test_requests_of_real_shards_hold_what_the_loader_reads(tmp_path):
    found = measure(tmp_path, 8, 20, ["configs/tiny.yaml"])
    rows, span, shard = (found[way] for way in ("rows", "span", "shard"))
    assert rows["mb_read_per_clip"] <= span["mb_read_per_clip"] <= shard["mb_read_per_clip"]
    assert rows["mb_read_per_clip"] * rows["share_used"] == pytest.approx(
        span["mb_read_per_clip"] * span["share_used"], rel=0.01
    )
    assert span["requests_per_clip"] == 3 and shard["requests_per_clip"] <= 3


def test_an_hour_is_an_hour():
    a = Assumed(frames=60, logmel_ms=1000, gpu_pairs_per_s=60, gpu_clips_per_s=10, epochs=10, cores=2, gpus=1)
    found = cost(3600, UNIT, a)
    assert found["faces_core_h"] == found["logmel_core_h"] == found["flow_gpu_h"] == found["train_gpu_h"] == 1
    assert found["scheduler_h"] == pytest.approx(3 * 16e-3 / 16)
    assert found["cache_tb"] == pytest.approx(0.0144)
    assert found["compute_usd"] == pytest.approx(2 * a.core_hour + 2 * a.gpu_hour)
    assert found["gets_usd_training_rows"] == pytest.approx(3600 * 10 * 20 / 1e6 * a.store_million_gets)


def test_what_gives_way_first_is_named():
    assert cost(10**4, UNIT, Assumed(cores=1, gpus=1000))["first_limit"] == "faces and log-mel on the cores"
    assert cost(10**4, UNIT, Assumed(gpus=0.001, epochs=0))["first_limit"] == "flow on the GPUs"
    assert cost(10**4, UNIT, Assumed(cores=1e9, gpus=1e9))["first_limit"] == "the scheduler"
    assert "memory of the command" in cost(10**8, UNIT, Assumed(memory_gb=64))["first_limit"]


def test_every_measured_figure_has_a_file():
    measured = Measured.read()
    assert all(value > 0 for value in vars(measured).values())
    rows = [cost(10**n, measured, Assumed()) for n in (4, 6)]
    assert table(rows).startswith("| | 10^4 clips | 10^6 clips |")


def test_a_result_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="run `python -m benchmarks.faces`"):
        last_result(tmp_path, "faces")
