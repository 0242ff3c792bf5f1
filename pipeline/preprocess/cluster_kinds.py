"""The Dask clusters that deiii starts itself: processes of this machine, SLURM jobs, Kubernetes pods.

Each function returns a cluster without workers, but a cluster of this machine that uses GPUs starts its own.
`deiii.pipeline.preprocess.cluster` scales, watches and closes it. SLURM needs dask-jobqueue, and Kubernetes
needs dask-kubernetes with its operator; both are optional extras.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import dask
from distributed import Client, LocalCluster, Nanny, Scheduler, SpecCluster
from distributed.core import Status

from deiii.data.cluster.pods import watched
from deiii.data.cluster.whole_jobs import noting_refusals
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.tools.devices import visible_devices
from deiii.data.tools.processes.dask_workers import ClusterError, workers_of
from deiii.data.tools.processes.made_folders import make_folder
from deiii.data.tools.processes.main_guard import check_main_guard
from deiii.data.tools.processes.pool import SHARED_MEMORY_FULL, shared_memory_is_full
from deiii.data.tools.processes.signals import keep_stop_handlers

THREADS = 1  # threads of a worker; more workers, not more threads, use the cores
# Threads of the worker of a GPU: as many shards at a time, so that files are written while it computes.
GPU_THREADS = 3

# Processes of this machine on each GPU: Python runs one thread at a time, and starting RAFT's kernels takes
# long. On an NVIDIA H200 with 16 cores, one process with 3 threads computed 7,257 pairs/s, two with 2 each
# 10,443.
GPU_PROCESSES = 2
FURTHER = "-{}"  # follows the name of a GPU's first worker in those of its others

# s without a task after which the Dask operator deletes the pods of a command that was killed. A command that
# runs leaves its scheduler without a task for seconds only. It is less than the five minutes after which an
# idle scheduler ends itself once the operator has asked a busy one (dask-kubernetes 2026.3.0): it would be
# started again.
IDLE_S = 240

POLL_S = 0.02  # s between two looks for workers
OPERATOR = "https://kubernetes.dask.org/en/latest/installing.html"

# Dask counts CUDA's and page-locked memory as the worker's own, and would restart it; job or pod limit it.
GPU_WORKER = ["--resources", "GPU=1", "--memory-limit", "0"]

# Options of sbatch that do not fit jobs of workers. The elements of an array have workers of the same names;
# with --wait the number of the job is known only when the job has ended; jobs of another cluster are not
# found by squeue and scancel.
UNFIT = re.compile(r"\s*(--(array|wait|clusters?)(?![\w-])|-[aWM])")
OUTPUT = (("error", "deiii-%J.err"), ("output", "deiii-%J.out"))  # %J is the number of the job


def local_cluster(config: Config, workers: int, gpus: int) -> SpecCluster:
    """Return a cluster of processes of this machine; further ones compute the stages that use a GPU.

    Args:
        config: settings.
        workers: number of processes that use no GPU.
        gpus: number of GPUs to use.
    """
    if not gpus:
        return LocalCluster(
            n_workers=0,
            threads_per_worker=THREADS,
            processes=True,
            dashboard_address=config.dashboard,
            silence_logs=logging.CRITICAL,
            env={"CUDA_VISIBLE_DEVICES": ""},
        )
    scheduler = {"host": "127.0.0.1", "dashboard": True, "dashboard_address": config.dashboard}
    return SpecCluster(
        scheduler={"cls": Scheduler, "options": scheduler},
        workers=local_workers(
            workers, gpus, os.environ.get("CUDA_VISIBLE_DEVICES"), config.faces.decoder != "cpu"
        ),
        silence_logs=logging.CRITICAL,
    )


def await_processes(cluster: Any, client: Client, wanted: int, mark: Path) -> None:
    """Wait for the workers of this machine.

    Raises:
        ClusterError: a worker process ended while it started.
        UnguardedMain: the script that runs here starts workers at its top level.
    """
    # A worker that dies after it has connected, but before its nanny counts it as running, is not started
    # again. So no task, which may kill its worker, starts before each nanny counts its worker as running.
    while len(workers_of(client)) < wanted or _in_state(cluster, Status.running) < wanted:
        check_main_guard(mark)
        if failed := _in_state(cluster, Status.failed, Status.closed):
            why = (
                "most likely too few open files or processes are allowed (ulimit -n, ulimit -u), or memory "
                "is short; try fewer workers"
            )
            if shared_memory_is_full():
                why = SHARED_MEMORY_FULL
            raise ClusterError(f"{failed} of {wanted} worker processes cannot be started: {why}")
        time.sleep(POLL_S)


def _in_state(cluster: Any, *states: Status) -> int:
    """Return the number of workers of this machine whose nanny is in one of these states."""
    return sum(nanny.status in states for nanny in cluster.workers.values())


def local_workers(
    workers: int, gpus: int, visible: str | None = None, decoding: bool = False
) -> dict[str, dict[str, Any]]:
    """Return specifications of the workers with and without a GPU, by name.

    Each GPU has `GPU_PROCESSES` workers, which see only that GPU and offer the resource ``GPU``. The other
    workers see no GPU and offer ``CPU``.

    Args:
        workers: number of workers without a GPU.
        gpus: number of GPUs with workers of their own.
        visible: the value of ``CUDA_VISIBLE_DEVICES``, where it is set.
        decoding: whether the workers without a GPU decode videos on those of the others, each on one of them.

    Raises:
        ConfigError: ``visible`` names fewer GPUs than are asked for, or hides them all.

    >>> list(local_workers(1, 2))
    ['cpu-0', 'gpu-0', 'gpu-0-2', 'gpu-1', 'gpu-1-2']
    """
    devices = [str(n) for n in range(gpus)] if visible is None else visible_devices(visible)
    if len(devices) < gpus:
        raise ConfigError(
            f"gpus={gpus}, but CUDA_VISIBLE_DEVICES={visible} names {len(devices)}: lower gpus, or name "
            "more GPUs there"
        )
    common = {"silence_logs": logging.CRITICAL, "dashboard": False}
    specs = {}
    for n in range(workers):
        seen = devices[n % gpus] if decoding and gpus else ""
        own = {"resources": {"CPU": 1}, "env": {"CUDA_VISIBLE_DEVICES": seen}}
        specs[f"cpu-{n}"] = {"cls": Nanny, "options": {"nthreads": THREADS, **common, **own}}
    for device in devices[:gpus]:
        own = {"resources": {"GPU": 1}, "env": {"CUDA_VISIBLE_DEVICES": device}, **_affinity(device)}
        # CUDA and page-locked buffers take more than a core's share of the memory, Dask's default limit.
        more = {"nthreads": GPU_THREADS, "memory_limit": 0}
        for number in range(GPU_PROCESSES):
            name = f"gpu-{device}" + (FURTHER.format(number + 1) if number else "")
            specs[name] = {"cls": Nanny, "options": {**more, **common, **own}}
    return specs


def _affinity(device: str) -> dict[str, Any]:
    """Return options that keep a worker on the CPU cores next to its GPU, where dask-cuda is installed."""
    try:
        from dask_cuda.plugins import CPUAffinity
        from dask_cuda.utils import get_cpu_affinity
    except ImportError:
        return {}
    return {"plugins": {CPUAffinity(get_cpu_affinity(int(device) if device.isdigit() else device))}}


def slurm_cluster(config: Config) -> Any:
    """Return a Dask cluster of SLURM jobs, through dask-jobqueue.

    Raises:
        ConfigError: dask-jobqueue is not installed, this machine has no ``sbatch``, or a directive does not
            fit.
        OSError: the folder ``cluster.logs`` cannot be made.

    >>> print(slurm_cluster(config).job_script())    # doctest: +SKIP
    """
    try:
        # The package replaces the reaction to Ctrl-C by a plain exit: an interrupted command would end with
        # status 0, as a finished one does.
        with keep_stop_handlers():
            from dask_jobqueue import SLURMCluster
    except ImportError:
        raise ConfigError(_needs("slurm", "dask-jobqueue")) from None
    if shutil.which("sbatch") is None:
        raise ConfigError(
            "cluster.kind=slurm, but there is no sbatch here; run this on a machine with SLURM's commands"
        )
    cluster = config.cluster
    more: dict[str, Any] = {}
    directives = list(cluster.directives)
    if cluster.gpu:
        directives += cluster.gpu_directives
        more["worker_extra_args"] = GPU_WORKER
        if cluster.per_job > 1:  # otherwise, all workers of a job would use its first GPU
            more["worker_extra_args"] = [*GPU_WORKER, "--preload", "deiii.pipeline.preprocess.own_gpu"]
    for name in ["directives"] + ["gpu_directives"] * cluster.gpu:
        for directive in filter(UNFIT.match, getattr(cluster, name)):
            raise ConfigError(
                f"{directive.strip()} in cluster.{name}: leave it out, because every job is submitted, "
                "watched and cancelled by itself, on the cluster of this machine; workers= and "
                "cluster.per_job set the number of jobs"
            )
    logs = make_folder(cluster.logs)
    output = [f"--{kind}={shlex.quote(str(logs / name))}" for kind, name in OUTPUT]
    job_class, refused = noting_refusals(SLURMCluster.job_cls)
    made: Any = SLURMCluster(
        job_cls=job_class,
        queue=cluster.queue,
        account=cluster.account,
        walltime=cluster.walltime,
        cores=cluster.per_job * (GPU_THREADS if cluster.gpu else THREADS),
        processes=cluster.per_job,
        memory=f"{cluster.memory_gb * cluster.per_job:g}GiB",
        interface=cluster.interface,
        # dask-jobqueue quotes no path. In the scratch folder the shell of the node replaces variables.
        local_directory=_in_quotes(cluster.scratch) if cluster.scratch else None,
        python=dask.config.get("jobqueue.slurm.python", None) or shlex.quote(sys.executable),
        job_name="deiii",
        job_extra_directives=[*output, *directives],
        job_script_prologue=["export OMP_NUM_THREADS=1", *cluster.prologue],
        scheduler_options={"dashboard_address": config.dashboard},
        **more,
    )
    made.refused = refused  # the errors of jobs that could not be submitted
    return made


def _in_quotes(path: str) -> str:
    """Return a path in double quotes for a shell, which replaces variables in it.

    >>> print(_in_quotes("$TMPDIR/my files"))
    "$TMPDIR/my files"
    """
    home = re.sub("^~(?=/|$)", "$HOME", path)
    return '"' + re.sub(r'(["`\\])', r"\\\1", home) + '"'


def kubernetes_cluster(config: Config) -> Any:
    """Return a Dask cluster of Kubernetes pods, through the Dask operator and dask-kubernetes.

    Raises:
        ConfigError: dask-kubernetes is not installed, or no image or claim is named.
        ClusterError: the pod of the scheduler does not start, or is not reached.
        RuntimeError: Kubernetes does not answer or refuses the cluster, or has no operator.
    """
    try:
        from dask_kubernetes.operator import KubeCluster
    except ImportError:
        raise ConfigError(_needs("kubernetes", "dask-kubernetes")) from None
    cluster, spec = config.cluster, kubernetes_spec(config)
    try:
        return watched(KubeCluster)(
            patience=cluster.patience,
            namespace=cluster.namespace,
            custom_cluster_spec=spec,
            quiet=True,
        )
    except ClusterError:
        raise
    except Exception as error:  # dask-kubernetes raises types of httpx and kr8s, which share no base
        why = " ".join(str(error).split()) or type(error).__name__
        absent = getattr(getattr(error, "response", None), "status_code", None) == 404
        if absent and "namespaces" not in why.partition("http")[0]:
            raise RuntimeError(
                f"the Dask operator is not installed in the Kubernetes cluster ({OPERATOR})"
            ) from error
        raise RuntimeError(
            f"{why}; check the connection and the rights with: kubectl --namespace {cluster.namespace} auth "
            "can-i create daskclusters"
        ) from error


def kubernetes_spec(config: Config) -> dict[str, Any]:
    """Return the ``DaskCluster`` resource for the operator.

    Workers mount the claim with corpus and caches at ``cluster.mount``, where this process must have it
    mounted, too. A GPU is requested by the name that NVIDIA's device plugin uses. Every call gives the
    resource a name of its own: if there is one of the same name, such as that of another command in the
    namespace or one that is being deleted, dask-kubernetes connects to it, whatever its settings.

    Raises:
        ConfigError: no image or no claim is named.
    """
    from dask_kubernetes.operator import make_cluster_spec

    cluster = config.cluster
    for name in ("image", "claim"):
        if not getattr(cluster, name):
            raise ConfigError(
                f"cluster.kind=kubernetes needs cluster.{name}; name both: deiii preprocess ... kubernetes "
                "cluster.image=IMAGE cluster.claim=CLAIM"
            )
    threads = GPU_THREADS if cluster.gpu else THREADS
    limits: dict[str, str] = {"cpu": str(threads), "memory": f"{cluster.memory_gb:g}Gi"}
    if cluster.gpu:
        limits["nvidia.com/gpu"] = "1"
    weights = f"{cluster.mount.rstrip('/')}/weights"
    # By itself, Dask divides the memory by the cores that it finds, which may be all of the machine.
    own = GPU_WORKER if cluster.gpu else ["--memory-limit", f"{cluster.memory_gb:g}GiB"]
    command = ["dask", "worker", "--nthreads", str(threads), *own]
    spec = make_cluster_spec(
        name=f"deiii-{uuid4().hex[:8]}",
        image=cluster.image,
        n_workers=0,
        idle_timeout=IDLE_S,
        resources={"requests": limits, "limits": limits},
        # All pods share the weights; a pod's own folder would be empty whenever a pod starts.
        env={
            "OMP_NUM_THREADS": "1",
            "DASK_DISTRIBUTED__WORKER__DAEMON": "False",
            "DEIII_WEIGHTS_DIR": weights,
            "DEIII_CACHE_DIR": weights,  # downloads
        },
        worker_command=command,
    )
    # dask-kubernetes gives the scheduler a worker's resources, and calls a script that Dask has no more.
    scheduler = spec["spec"]["scheduler"]["spec"]["containers"][0]
    scheduler["args"] = ["dask", "scheduler", *scheduler["args"][1:]]
    without_gpu = {"cpu": "1", "memory": limits["memory"]}
    scheduler["resources"] = {"requests": without_gpu, "limits": without_gpu}
    pod = spec["spec"]["worker"]["spec"]
    for container in (scheduler, pod["containers"][0]):
        # `args` alone would follow the entry point of an image: `deiii dask worker`.
        container["command"], container["args"] = container["args"][:1], container["args"][1:]
    pod["volumes"] = [{"name": "deiii", "persistentVolumeClaim": {"claimName": cluster.claim}}]
    pod["containers"][0]["volumeMounts"] = [{"name": "deiii", "mountPath": cluster.mount}]
    return spec


def _needs(extra: str, package: str) -> str:
    return f"cluster.kind={extra} needs {package}: pip install {package}"
