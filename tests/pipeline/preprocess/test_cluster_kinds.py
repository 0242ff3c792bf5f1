"""Clusters that preprocessing starts: SLURM jobs, Kubernetes pods and processes of this machine."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from distributed import Nanny

from deiii.data.cache.stages import get_stage
from deiii.data.config.load import load_config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.tools.processes.signals import keep_stop_handlers
from deiii.pipeline.preprocess.cluster import (
    ClusterError,
    device_lines,
    open_cluster,
    stage_resources,
    wanted_workers,
    with_devices,
)
from deiii.pipeline.preprocess.cluster_kinds import (
    kubernetes_cluster,
    kubernetes_spec,
    local_workers,
    slurm_cluster,
)
from deiii.pipeline.preprocess.graph import preprocess, turns
from deiii.pipeline.preprocess.tasks import share
from tests.helpers.clips import audio_corpus, tree_bytes
from tests.helpers.waiting import PATIENCE_S

CONFIGS = Path(__file__).parents[3] / "configs"


def skip_without_jobqueue() -> None:
    """Skip a test where dask-jobqueue is not installed; its import replaces the reaction to Ctrl-C."""
    with keep_stop_handlers():
        pytest.importorskip("dask_jobqueue")


def config_of(name: str, *words: str):
    return load_config([CONFIGS / f"{name}.yaml"], words)


def test_a_slurm_job_follows_its_config(queue, tmp_path):
    config = config_of(
        "slurm", "cluster.queue=short", "cluster.account=mine", "cluster.gpu=true", "cluster.per_job=2",
        "cluster.directives=['--constraint=avx2']", "cluster.gpu_directives=['--gres=gpu:2']",
        "cluster.prologue=['module load gcc']",
        f"cluster.logs={tmp_path}", "dashboard=127.0.0.1:0",
    )  # fmt: skip
    with slurm_cluster(config) as cluster:
        script = cluster.job_script()
    lines = script.splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    for directive in (
        "-p short",
        "-A mine",
        "--mem=8G",
        "-t 04:00:00",
        "--gres=gpu:2",
        "--constraint=avx2",
        "--cpus-per-task=6",
    ):
        assert f"#SBATCH {directive}" in lines, script
    assert lines.index("module load gcc") < len(lines) - 1 and "export OMP_NUM_THREADS=1" in lines
    start = lines[-1]
    assert (
        "distributed.cli.dask_worker tcp://" in start and "--nthreads 3 " in start and "--nworkers 2" in start
    )
    assert "--preload deiii.pipeline.preprocess.own_gpu" in start
    assert "--resources GPU=1" in start
    assert start.rindex("--memory-limit 0") > start.rindex("--memory-limit 4.00GiB")  # the last one counts
    with slurm_cluster(replace(config, cluster=replace(config.cluster, gpu=False))) as cluster:
        script = cluster.job_script()
    assert "--gres" not in script and "GPU" not in script and "--constraint=avx2" in script
    assert "#SBATCH --cpus-per-task=2" in script and "--memory-limit 4.00GiB" in script


def test_a_machine_without_slurm_is_an_error(tmp_path, monkeypatch):
    skip_without_jobqueue()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="no sbatch here"), open_cluster(config_of("slurm"), 1):
        pass


SBATCH = """#!{python}
import subprocess, sys
log = open({log!r}, "a")
script = open(sys.argv[-1]).read()  # sbatch copies it; dask-jobqueue deletes the file at once
job = subprocess.Popen(["bash", "-c", script], stdout=log, stderr=log, start_new_session=True)
print(f"Submitted batch job {{job.pid}}")
"""
SCANCEL = """#!{python}
import os, signal, sys
for job in sys.argv[1:]:
    os.killpg(int(job), signal.SIGTERM)
"""


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """Replacements of SLURM's commands that start a job's script at once; the rest is dask-jobqueue."""
    skip_without_jobqueue()
    (tmp_path / "bin").mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tmp_path / "bin" / name).write_text(
            text.format(python=sys.executable, log=str(tmp_path / "jobs.txt"))
        )
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(CONFIGS.parent))
    return tmp_path


@pytest.mark.parametrize("adaptive", ["true", pytest.param("false", marks=pytest.mark.slow)])
def test_jobs_compute_the_same_cache_as_this_machine(queue, adaptive):
    corpus = audio_corpus(queue / "raw", speakers=1)
    words = ["stages=[logmel]", "corpus.clips_per_shard=2"]
    far = config_of(
        "slurm", *words, "workers=1", "cluster.per_job=1", f"cluster.adaptive={adaptive}",
        f"cache={queue / 'far'}", f"cluster.logs={queue / 'logs'}",
    )  # fmt: skip
    preprocess(far, corpus, lambda line: None)
    preprocess(
        load_config(overrides=[*words, "workers=1", f"cache={queue / 'near'}"]), corpus, lambda line: None
    )
    assert tree_bytes(queue / "far") == tree_bytes(queue / "near")


def test_a_kubernetes_cluster_follows_its_config():
    pytest.importorskip("dask_kubernetes")
    config = config_of("kubernetes", "cluster.image=registry/deiii:1", "cluster.gpu=true")
    spec = kubernetes_spec(config)
    assert (spec["kind"], spec["spec"]["worker"]["replicas"]) == ("DaskCluster", 0)
    pod = spec["spec"]["worker"]["spec"]
    worker = pod["containers"][0]
    assert worker["image"] == "registry/deiii:1"
    assert worker["resources"]["limits"] == {"cpu": "3", "memory": "4Gi", "nvidia.com/gpu": "1"}
    assert worker["volumeMounts"] == [{"name": "deiii", "mountPath": "/data"}]
    assert {"name": "DEIII_WEIGHTS_DIR", "value": "/data/weights"} in worker["env"]
    assert pod["volumes"] == [{"name": "deiii", "persistentVolumeClaim": {"claimName": "deiii"}}]
    words = [*worker["command"], *worker["args"]]
    assert words[:4] == ["dask", "worker", "--nthreads", "3"]
    assert words[4:8] == ["--resources", "GPU=1", "--memory-limit", "0"]
    assert "--name" in words  # the operator identifies pods by it
    scheduler = spec["spec"]["scheduler"]["spec"]["containers"][0]
    assert [*scheduler["command"], *scheduler["args"]][:2] == ["dask", "scheduler"]
    assert scheduler["resources"]["limits"] == {"cpu": "1", "memory": "4Gi"}  # no GPU
    # An image may have an entry point, such as `deiii`; only a command replaces it.
    assert scheduler["command"] == worker["command"] == ["dask"]
    spec = kubernetes_spec(replace(config, cluster=replace(config.cluster, gpu=False)))
    worker = spec["spec"]["worker"]["spec"]["containers"][0]
    assert worker["resources"]["limits"] == {"cpu": "1", "memory": "4Gi"} and "GPU=1" not in worker["args"]


@pytest.mark.parametrize("kind", ["slurm", "kubernetes"])
def test_workers_with_a_gpu_compute_only_what_uses_one(kind):
    """Others come first and compute what the GPU's stages read."""
    words = ["flow.method=raft", "stages=[faces,flow,logmel]", "workers=64", "cluster.gpu_workers=4"]
    config = config_of(kind, *words, "cluster.gpu=true")
    upstream = {"faces": None, "logmel": None, "flow": "faces"}

    def task(stage):
        return SimpleNamespace(recipe=SimpleNamespace(stage=stage, upstream=upstream[stage]))

    def found(config, *stages):
        tasks = [task(stage) for stage in stages]
        return [
            (turn.cluster.gpu, wanted_workers(turn), [t.recipe.stage for t in part])
            for turn, part in turns(config, tasks)
        ]

    assert found(config, "faces", "flow", "logmel", "flow") == [
        (False, 64, ["faces", "logmel"]), (True, 4, ["flow", "flow"])
    ]  # fmt: skip
    assert found(config, "flow") == [(True, 4, ["flow"])]
    assert found(config, "logmel") == [(False, 64, ["logmel"])]
    assert found(config_of(kind, *words), "faces", "flow") == [(False, 64, ["faces", "flow"])]
    of_cpu = config_of(kind, *words, "cluster.gpu=true", "flow.device=cpu")
    assert found(of_cpu, "faces", "flow") == [(False, 64, ["faces", "flow"])]


@pytest.mark.parametrize("name", ["image", "claim"])
def test_kubernetes_needs_an_image_and_a_claim(name):
    pytest.importorskip("dask_kubernetes")
    words = ["cluster.image=x", f"cluster.{name}=null"]
    with pytest.raises(ConfigError, match=f"needs cluster.{name}"):
        kubernetes_spec(config_of("kubernetes", *words))


@pytest.mark.parametrize(
    ("name", "make", "package"),
    [
        ("slurm", slurm_cluster, "dask_jobqueue"),
        ("kubernetes", kubernetes_cluster, "dask_kubernetes.operator"),
    ],
)
def test_an_extra_that_is_missing_is_named(name, make, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"cluster.kind={name} needs dask-.*: pip install dask-"):
        make(config_of(name))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["cluster.kind=slurm"], "needs workers="),
        (["cluster.kind=slurm", "scheduler=tcp://127.0.0.1:9"], "leave out cluster.kind"),
        (["cluster.adaptive=true", "scheduler=tcp://127.0.0.1:9"], "leave out cluster.kind"),
        (["cluster.adaptive=true", "gpus=1", "flow.method=raft"], "not for GPUs of this machine"),
    ],
)
def test_settings_that_exclude_each_other(words, says):
    with pytest.raises(ConfigError, match=says), open_cluster(load_config(overrides=words), 1):
        pass


@pytest.mark.slow
def test_adaptive_workers_compute_the_same_cache(tmp_path):
    corpus = audio_corpus(tmp_path / "raw", speakers=1)
    lines: list[str] = []
    words = ["stages=[logmel]", "corpus.clips_per_shard=1", "workers=2"]
    for name, more in (("fixed", []), ("adaptive", ["cluster.adaptive=true"])):
        preprocess(load_config(overrides=[*words, *more, f"cache={tmp_path / name}"]), corpus, lines.append)
    assert any("0 workers (up to 2, as there is work)" in line for line in lines)
    assert tree_bytes(tmp_path / "fixed") == tree_bytes(tmp_path / "adaptive")


def test_each_gpu_has_processes_that_see_only_this_gpu():
    spec = local_workers(2, 2)
    assert list(spec) == ["cpu-0", "cpu-1", "gpu-0", "gpu-0-2", "gpu-1", "gpu-1-2"]
    options = {name: worker["options"] for name, worker in spec.items()}
    assert all(worker["cls"] is Nanny for worker in spec.values())
    for name in ("gpu-1", "gpu-1-2"):
        assert options[name]["env"] == {"CUDA_VISIBLE_DEVICES": "1"}
        assert options[name]["resources"] == {"GPU": 1}
    assert options["cpu-0"]["env"] == {"CUDA_VISIBLE_DEVICES": ""} and options["cpu-0"]["resources"] == {
        "CPU": 1
    }
    assert list(local_workers(0, 2, "3,GPU-5"))[::2] == ["gpu-3", "gpu-GPU-5"]
    with pytest.raises(ConfigError, match="CUDA_VISIBLE_DEVICES=3 names 1"):
        local_workers(0, 2, "3")


@pytest.mark.parametrize("visible", ["", "-1", "NoDevFiles"])
def test_gpus_that_the_environment_hides_are_not_used(visible):
    """An empty value hides all GPUs; it is not the same as no value."""
    with pytest.raises(ConfigError, match=f"CUDA_VISIBLE_DEVICES={visible} names 0: lower gpus"):
        local_workers(0, 1, visible)


def test_a_gpus_worker_computes_several_shards_at_a_time_without_a_limit_of_memory():
    """Dask's default limit is the machine's memory divided by its cores, less than CUDA alone takes."""
    options = {name: worker["options"] for name, worker in local_workers(1, 1).items()}
    assert options["gpu-0"]["nthreads"] >= get_stage("flow").at_once > 1
    assert options["gpu-0"]["memory_limit"] == 0 and "memory_limit" not in options["cpu-0"]
    assert options["cpu-0"]["nthreads"] == 1
    part = share("flow", {"GPU": 1})
    assert part is not None and part["GPU"] * get_stage("flow").at_once <= 1
    assert share("faces", {"CPU": 1}) == {"CPU": 1} and share("flow", None) is None


def test_gpus_0_leaves_gpus_alone(tmp_path):
    config = load_config(overrides=["gpus=0", "workers=1", "flow.method=raft"])
    with open_cluster(config, 1) as client:
        client.wait_for_workers(1, timeout=PATIENCE_S)
        assert client.submit(_visible, 0).result() == ""
        assert with_devices(client, config).flow.device == "cpu"
        assert device_lines(client, config) == ["flow on the CPU"]
        # Jobs and pods without a GPU said so of a stage that others computed later, on a GPU.
        assert device_lines(client, config, computed=["faces"]) == []
        assert device_lines(client, config, computed=["flow"]) == ["flow on the CPU"]
    asked = load_config(overrides=["gpus=0", "flow.method=raft", "flow.device=cuda"])
    with (
        pytest.raises(ConfigError, match="gpus=0 uses no GPU, but flow.device=cuda"),
        open_cluster(asked, 1),
    ):
        pass


def test_a_gpus_worker_that_finds_no_gpu_is_an_error(tmp_path):
    config = load_config(overrides=["gpus=1", "workers=1", "flow.method=raft"])
    with open_cluster(config, 1) as client:
        client.wait_for_workers(3, timeout=PATIENCE_S)
        assert with_devices(client, config).flow.device == "cuda"
        with pytest.raises(ClusterError, match="gpu-0 offers a GPU, but PyTorch finds none"):
            device_lines(client, config)


@pytest.mark.parametrize("settings,device", [
    (["cluster.kind=slurm", "cluster.gpu=true"], "cuda"), (["cluster.kind=slurm"], "cpu"),
    (["gpus=2"], "cuda"), (["gpus=2", "flow.device=cpu"], "cpu"), (["gpus=0"], "cpu"),
])  # fmt: skip
def test_workers_are_told_the_device(settings, device):
    config = load_config(overrides=["flow.method=raft", *settings])
    assert with_devices(None, config).flow.device == device
    assert with_devices(None, load_config(overrides=settings)).flow == load_config(overrides=settings).flow


def test_workers_with_and_without_a_gpu_start_and_share_the_work(tmp_path):
    """The processes are real and the GPUs are not: tasks return the GPUs that they would see."""
    config = load_config(overrides=["gpus=2", "workers=1", "flow.method=raft"])
    with open_cluster(config, 1) as client:
        client.wait_for_workers(3, timeout=PATIENCE_S)
        resources = stage_resources(client, config)
        assert resources("flow") == {"GPU": 1} and resources("faces") == {"CPU": 1}
        seen = {
            stage: set(client.gather([
                client.submit(_visible, n, resources=resources(stage), pure=False) for n in range(8)
            ]))
            for stage in ("flow", "faces")
        }  # fmt: skip
    assert seen["flow"] <= {"0", "1"} and seen["faces"] == {""}


def _visible(n: int) -> str:
    import time

    time.sleep(0.05)
    return os.environ["CUDA_VISIBLE_DEVICES"]
