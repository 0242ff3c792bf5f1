"""Each worker of a SLURM job with several GPUs has a GPU of its own, or none and the reason."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from distributed import Client, LocalCluster

from deiii.data.config.load import load_config
from deiii.data.tools.devices import NO_GPU, DeviceError, pick_device
from deiii.pipeline.preprocess.cluster import ClusterError, device_lines
from deiii.pipeline.preprocess.own_gpu import dask_setup, own_gpu


@pytest.mark.parametrize("name,visible,expected", [
    ("SLURMCluster-0-0", "4,5", "4"), ("SLURMCluster-3-1", "4,5", "5"), ("SLURMCluster-3-1", None, "1"),
])  # fmt: skip
def test_each_worker_of_a_job_has_a_gpu_of_its_own(name, visible, expected, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible or "")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    dask_setup(SimpleNamespace(name=name))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == expected


def test_a_worker_without_a_gpu_of_its_own_uses_none_and_ends_the_run_with_the_reason(monkeypatch):
    """Dask only logs what a preload raises, and starts the worker."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4")
    monkeypatch.setenv(NO_GPU, "")
    dask_setup(SimpleNamespace(name="SLURMCluster-0-1"))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    reason = "number 2 of its job, which has 1 GPU .*lower cluster.per_job"
    with pytest.raises(DeviceError, match=reason):
        pick_device("cuda")
    config = load_config(overrides=["flow.method=raft", "cluster.kind=slurm", "cluster.gpu=true"])
    with (
        LocalCluster(1, processes=False, dashboard_address=None, resources={"GPU": 1}) as cluster,
        Client(cluster) as client,
        pytest.raises(ClusterError, match=reason),
    ):
        device_lines(client, config)


def test_a_job_with_too_few_gpus_is_an_error():
    with pytest.raises(RuntimeError, match="number 3 of its job, which has 2 GPUs"):
        own_gpu("SLURMCluster-0-2", "0,1")
    with pytest.raises(RuntimeError, match="number 3 of its job, which has 1 GPU "):
        own_gpu("SLURMCluster-0-2", "0")
