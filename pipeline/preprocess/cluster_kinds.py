"""The Dask clusters that this project starts itself: processes of this machine, SLURM jobs, Kubernetes pods.

Each function returns a cluster that is not scaled yet; `deiii.pipeline.preprocess.cluster` scales, watches
and closes it. SLURM comes from dask-jobqueue, Kubernetes from dask-kubernetes and its operator; both are
optional extras.
"""

from __future__ import annotations

import logging
import os
import shutil
from typing import Any

from distributed import LocalCluster, Nanny, Scheduler, SpecCluster

from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError

THREADS = 1  # of a worker: more workers, not more threads, share the cores


def local_cluster(config: Config, workers: int, gpus: int) -> SpecCluster:
    """Worker processes of this machine; with GPUs one more for each, which then has the flow to itself.

    Args:
        workers: processes for what needs no GPU.
        gpus: how many GPUs to use.
    """
    if not gpus:
        return LocalCluster(
            n_workers=0,
            threads_per_worker=THREADS,
            processes=True,
            dashboard_address=config.dashboard,
            silence_logs=logging.CRITICAL,
        )
    scheduler = {"host": "127.0.0.1", "dashboard": True, "dashboard_address": config.dashboard}
    spec = local_workers(workers, gpus, os.environ.get("CUDA_VISIBLE_DEVICES"))
    cluster = SpecCluster(
        scheduler={"cls": Scheduler, "options": scheduler}, workers=spec, silence_logs=logging.CRITICAL
    )
    return cluster


def local_workers(workers: int, gpus: int, visible: str | None = None) -> dict[str, dict[str, Any]]:
    """Specifications of the workers beside and on GPUs, by name.

    A GPU's worker sees that GPU alone and offers ``GPU``; the others see none and offer ``CPU``.

    Args:
        visible: ``CUDA_VISIBLE_DEVICES`` of this process, where it is set.
    """
    devices = visible.split(",") if visible else [str(n) for n in range(gpus)]
    if len(devices) < gpus:
        raise ConfigError(f"gpus={gpus}, but CUDA_VISIBLE_DEVICES={visible} names {len(devices)}")
    common = {"nthreads": THREADS, "silence_logs": logging.CRITICAL, "dashboard": False}
    made = {}
    for n in range(workers):
        own = {"resources": {"CPU": 1}, "env": {"CUDA_VISIBLE_DEVICES": ""}}
        made[f"cpu-{n}"] = {"cls": Nanny, "options": {**common, **own}}
    for device in devices[:gpus]:
        own = {"resources": {"GPU": 1}, "env": {"CUDA_VISIBLE_DEVICES": device}, **near(device)}
        made[f"gpu-{device}"] = {"cls": Nanny, "options": {**common, **own}}
    return made


def near(device: str) -> dict[str, Any]:
    """Where dask-cuda is installed, its plugin that keeps a worker on the cores beside its GPU."""
    try:
        from dask_cuda.plugins import CPUAffinity
        from dask_cuda.utils import get_cpu_affinity
    except ImportError:
        return {}
    return {"plugins": {CPUAffinity(get_cpu_affinity(int(device) if device.isdigit() else device))}}


def slurm_cluster(config: Config) -> Any:
    """Jobs of a SLURM cluster, through dask-jobqueue.

    >>> print(slurm_cluster(config).job_script())    # doctest: +SKIP
    """
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise ConfigError(_needs("slurm", "dask-jobqueue")) from None
    if shutil.which("sbatch") is None:
        raise ConfigError(
            "cluster.kind=slurm, but there is no sbatch here; run it where SLURM's commands are"
        )
    c = config.cluster
    more: dict[str, Any] = {"worker_extra_args": ["--resources", "GPU=1"]} if c.gpu else {}
    return SLURMCluster(
        queue=c.queue,
        account=c.account,
        walltime=c.walltime,
        cores=c.per_job * THREADS,
        processes=c.per_job,
        memory=f"{c.memory_gb * c.per_job:g}GiB",
        interface=c.interface,
        local_directory=c.scratch,
        log_directory=c.logs,
        job_name="deiii",
        job_extra_directives=list(c.directives),
        job_script_prologue=["export OMP_NUM_THREADS=1", *c.prologue],
        scheduler_options={"dashboard_address": config.dashboard},
        **more,
    )


def kubernetes_cluster(config: Config) -> Any:
    """Pods of a Kubernetes cluster on which the Dask operator is installed, through dask-kubernetes."""
    try:
        from dask_kubernetes.operator import KubeCluster
    except ImportError:
        raise ConfigError(_needs("kubernetes", "dask-kubernetes")) from None
    c = config.cluster
    return KubeCluster(
        namespace=c.namespace,
        custom_cluster_spec=kubernetes_spec(config),
        resource_timeout=int(c.patience),
        quiet=True,
    )


def kubernetes_spec(config: Config) -> dict[str, Any]:
    """The ``DaskCluster`` resource for the operator.

    Workers mount the claim that holds corpus and caches where this process has it mounted, too; a GPU is
    asked for by the name that NVIDIA's device plugin gives it.

    Raises:
        ConfigError: no image or no claim is named.
    """
    from dask_kubernetes.operator import make_cluster_spec

    c = config.cluster
    for name in ("image", "claim"):
        if not getattr(c, name):
            raise ConfigError(
                f"cluster.kind=kubernetes needs cluster.{name}; configs/kubernetes.yaml shows how"
            )
    most = {"cpu": str(THREADS), "memory": f"{c.memory_gb:g}Gi"}
    if c.gpu:
        most["nvidia.com/gpu"] = "1"
    command = ["dask", "worker", "--nthreads", str(THREADS), *(["--resources", "GPU=1"] if c.gpu else [])]
    spec = make_cluster_spec(
        name="deiii",
        image=c.image,
        n_workers=0,
        resources={"requests": most, "limits": most},
        env={"OMP_NUM_THREADS": "1", "DASK_DISTRIBUTED__WORKER__DAEMON": "False"},
        worker_command=command,
    )
    pod = spec["spec"]["worker"]["spec"]
    pod["volumes"] = [{"name": "deiii", "persistentVolumeClaim": {"claimName": c.claim}}]
    pod["containers"][0]["volumeMounts"] = [{"name": "deiii", "mountPath": c.mount}]
    return spec


def _needs(extra: str, package: str) -> str:
    return f"cluster.kind={extra} needs {package}: .venv/bin/python -m pip install '.[{extra}]'"
