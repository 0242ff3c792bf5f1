"""Settings that workers get from the run."""

from __future__ import annotations

import pytest

from deiii.data.config.load import load_config
from deiii.pipeline.preprocess.worker_settings import within_memory


@pytest.mark.parametrize(
    ("words", "limit"),
    [
        ([], 8.0),
        (["scheduler=tcp://127.0.0.1:8786"], 8.0),
        (["cluster.kind=slurm", "cluster.memory_gb=4"], 3.0),
        (["cluster.kind=kubernetes", "cluster.memory_gb=4"], 3.0),
        (["cluster.kind=kubernetes", "cluster.memory_gb=1"], 0.5),
        (["cluster.kind=slurm", "cluster.memory_gb=64"], 8.0),
    ],
)
def test_a_clip_may_not_use_more_memory_than_its_job_or_pod_has(words, limit):
    assert within_memory(load_config(overrides=words)).clip_memory_gb == limit
