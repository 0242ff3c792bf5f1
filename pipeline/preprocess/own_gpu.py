"""Dask preload of the workers of a SLURM job with several GPUs: each worker can use one GPU of its own.

Dask numbers the workers of a job: their names end with ``-0``, ``-1`` and so on. This module is loaded by
each before its first task, and so before CUDA starts. It imports no PyTorch.
"""

from __future__ import annotations

import os
from typing import Any

from deiii.data.tools.counts import counted
from deiii.data.tools.devices import NO_GPU, visible_devices


def own_gpu(name: str, visible: str | None) -> str:
    """Return the value of ``CUDA_VISIBLE_DEVICES`` for one of the workers of a job.

    Args:
        name: name of the worker, which ends with its number in the job.
        visible: the job's value of the variable; ``None`` where SLURM does not set it.

    Raises:
        RuntimeError: the job has fewer GPUs than workers.

    >>> own_gpu("SLURMCluster-0-1", "4,5")
    '5'
    """
    number = int(str(name).rpartition("-")[2])
    if visible is None:
        return str(number)
    devices = visible_devices(visible)
    if number >= len(devices):
        raise RuntimeError(
            f"worker {name} is number {number + 1} of its job, which has {counted(len(devices), 'GPU')} "
            f"(CUDA_VISIBLE_DEVICES={visible}): ask for cluster.per_job GPUs with "
            "cluster.gpu_directives=[--gres=gpu:N], or lower cluster.per_job"
        )
    return devices[number]


def dask_setup(worker: Any) -> None:
    """Give a worker its GPU; Dask calls this when the worker starts.

    Where there is none for it, the worker can use no GPU, and `NO_GPU` has the reason: Dask writes the errors
    of this function into its log and starts the worker all the same.
    """
    try:
        device = own_gpu(worker.name, os.environ.get("CUDA_VISIBLE_DEVICES"))
    except RuntimeError as error:
        device, os.environ[NO_GPU] = "", str(error)
    os.environ["CUDA_VISIBLE_DEVICES"] = device
