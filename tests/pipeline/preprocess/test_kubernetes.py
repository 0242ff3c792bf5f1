"""A Kubernetes cluster without Kubernetes: a replacement for dask-kubernetes takes the resource."""

from __future__ import annotations

import re
import signal
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


spec_of = make_cluster_spec


class ServerError(Exception):
    """An error like those of kr8s and httpx, which are no OSError, RuntimeError or ValueError."""


def replaced(monkeypatch, start):
    """Replace dask-kubernetes; ``start`` takes the words of a new cluster, and its answer is ``made``."""

    class KubeCluster:
        def __init__(self, **words):
            self.made = start(**words)

        def sync(self, function, **words):
            raise ConnectionError("no server")  # nothing was created, so nothing can be deleted

    package = SimpleNamespace(KubeCluster=KubeCluster, make_cluster_spec=make_cluster_spec)
    monkeypatch.setitem(sys.modules, "dask_kubernetes", SimpleNamespace(operator=package))
    monkeypatch.setitem(sys.modules, "dask_kubernetes.operator", package)


def test_every_cluster_has_a_name_of_its_own(monkeypatch):
    """dask-kubernetes connects to a cluster of the same name: a second command used that of the first."""
    replaced(monkeypatch, lambda **words: words["custom_cluster_spec"]["metadata"]["name"])
    names = {kubernetes_cluster(CONFIG).made for _ in range(20)}
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


class HTTPStatusError(Exception):
    """The error of httpx where the server does not know a path."""

    def __init__(self, text):
        super().__init__(text)
        self.response = SimpleNamespace(status_code=404)


PATH = "'https://127.0.0.1:6443/apis/kubernetes.dask.org/v1/namespaces/default/daskclusters'"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"Client error '404 Not Found' for url {PATH}\nFor more information", "operator is not installed"),
        ('namespaces "missing" not found', 'namespaces "missing" not found; check the connection'),
    ],
)
def test_a_cluster_without_the_operator_is_told(text, says, monkeypatch):
    """The message was an address and two lines of httpx."""

    def refuse(**words):
        raise HTTPStatusError(text)

    replaced(monkeypatch, refuse)
    with pytest.raises(ClusterError, match=says) as found, open_cluster(CONFIG, 1):
        pass
    assert "\n" not in str(found.value)


def test_a_reason_of_a_pod_is_not_explained_by_rights(monkeypatch):
    def refuse(**words):
        raise ClusterError("the pod of the Dask scheduler cannot start: no image")

    replaced(monkeypatch, refuse)
    with (
        pytest.raises(ClusterError, match=r"cluster: the pod .* cannot start: no image$"),
        open_cluster(CONFIG, 1),
    ):
        pass


def test_ctrl_c_has_an_effect_while_kubernetes_starts_a_scheduler(monkeypatch):
    """It was blocked until the pod of the scheduler ran, which may take an hour."""
    blocked = []

    def start(**words):
        blocked.append(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        raise TimeoutError("no scheduler")

    replaced(monkeypatch, start)
    with pytest.raises(ClusterError), open_cluster(CONFIG, 1):
        pass
    assert blocked == [False]


def test_a_killed_command_leaves_no_pods_for_ever(monkeypatch):
    """Its scheduler ran until someone deleted it: no process is left that could."""
    words = {}
    monkeypatch.setattr(
        sys.modules[__name__], "make_cluster_spec", lambda **w: words.update(w) or spec_of(**w)
    )
    replaced(monkeypatch, lambda **words: None)
    kubernetes_spec(CONFIG)
    # At five minutes, an idle scheduler that the operator has asked ends itself, and is started again.
    assert 60 <= words["idle_timeout"] < 300


def test_a_worker_gets_all_of_its_memory(monkeypatch):
    """Dask divided it by the cores of the machine where the limit of the pod's cores was not seen."""
    replaced(monkeypatch, lambda **words: None)
    container = kubernetes_spec(CONFIG)["spec"]["worker"]["spec"]["containers"][0]
    words = [*container["command"], *container["args"]]
    assert words[words.index("--memory-limit") + 1] == "4GiB"
    assert words.count("--memory-limit") == 1
