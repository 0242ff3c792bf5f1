"""A Kubernetes cluster without Kubernetes: a replacement for dask-kubernetes takes the resource."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace

import pytest

from deiii.data.config.load import load_config
from deiii.data.tools.processes.dask_workers import ClusterError
from deiii.pipeline.preprocess.cluster import open_cluster
from deiii.pipeline.preprocess.cluster_kinds import kubernetes_cluster, kubernetes_spec

CONFIG = load_config("kubernetes", ["cluster.image=registry/deiii:1", "cluster.namespace=lab", "workers=2"])


def make_cluster_spec(name, worker_command, **words):
    """Return the fields of dask-kubernetes's resource that deiii changes."""
    scheduler = {"args": ["dask-scheduler", "--host", "0.0.0.0"]}
    worker = {"args": [*worker_command], "env": words["env"]}
    spec = {"worker": {"spec": {"containers": [worker]}}, "scheduler": {"spec": {"containers": [scheduler]}}}
    return {"metadata": {"name": name}, "spec": spec}


class ServerError(Exception):
    """An error like those of kr8s and httpx, which are no OSError, RuntimeError or ValueError."""


def replaced(monkeypatch, start):
    """Replace dask-kubernetes; ``start`` takes the words of a new cluster."""
    package = SimpleNamespace(KubeCluster=start, make_cluster_spec=make_cluster_spec)
    monkeypatch.setitem(sys.modules, "dask_kubernetes", SimpleNamespace(operator=package))
    monkeypatch.setitem(sys.modules, "dask_kubernetes.operator", package)


def test_every_cluster_has_a_name_of_its_own(monkeypatch):
    """dask-kubernetes connects to a cluster of the same name: a second command used that of the first."""
    replaced(monkeypatch, lambda **words: words["custom_cluster_spec"]["metadata"]["name"])
    names = {kubernetes_cluster(CONFIG) for _ in range(20)}
    names.add(kubernetes_spec(CONFIG)["metadata"]["name"])
    assert len(names) == 21
    assert all(re.fullmatch(r"[a-z][-a-z0-9]{0,51}[a-z0-9]", name) for name in names)  # the operator's rule


def test_pods_download_weights_into_the_claim(monkeypatch):
    """They were downloaded into the pod's own folder, again whenever a pod started."""
    replaced(monkeypatch, lambda **words: None)
    (worker,) = kubernetes_spec(CONFIG)["spec"]["worker"]["spec"]["containers"]
    assert worker["env"]["DEIII_CACHE_DIR"] == worker["env"]["DEIII_WEIGHTS_DIR"] == "/data/weights"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ServerError("daskclusters is forbidden"), "daskclusters is forbidden"),
        (ServerError(), "ServerError"),
        (TimeoutError("no scheduler"), "no scheduler"),
    ],
)
def test_what_kubernetes_refuses_is_one_line(error, says, monkeypatch):
    """It was reported as a defect of deiii, with a traceback."""

    def refuse(**words):
        raise error

    replaced(monkeypatch, refuse)
    with pytest.raises(ClusterError) as found, open_cluster(CONFIG, 1):
        pass
    assert str(found.value) == (
        f"kubernetes did not start a cluster: {says}; check the connection and the rights with: kubectl "
        "--namespace lab auth can-i create daskclusters"
    )
