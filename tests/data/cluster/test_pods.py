"""What keeps Kubernetes pods from running is told in its words, and ends the command where it does not pass.

The resources are those that Kubernetes 1.20 gave in these cases, without the fields that are not read.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from types import SimpleNamespace

import pytest

from deiii.data.cluster import pods
from deiii.data.cluster.pods import ENDS, LASTING_S, TOLD_S, PodWatch, Trouble, is_ready, pod_trouble, watched
from deiii.data.tools.processes.dask_workers import ClusterError

RUNS = {
    "status": {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"ready": True, "restartCount": 0, "state": {"running": {"startedAt": "..."}}}],
    }
}
PULL = 'Back-off pulling image "nope:1"'
NO_IMAGE = {
    "status": {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [
            {"restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff", "message": PULL}}}
        ],
    }
}


def unscheduled(message: str) -> dict:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
    }
    return {"status": {"phase": "Pending", "conditions": [condition]}}


NO_MEMORY = unscheduled("0/1 nodes are available: 1 Insufficient memory.")
NO_CLAIM = unscheduled('0/1 nodes are available: 1 persistentvolumeclaim "nope" not found.')
UNBOUND = unscheduled("0/1 nodes are available: 1 pod has unbound immediate PersistentVolumeClaims.")
CREATING = {
    "status": {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [{"restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}}],
    }
}
NOT_FOUND = 'exec: "dask": executable file not found in $PATH'


def crashed(times: int) -> dict:
    ended = {"exitCode": 127, "reason": "ContainerCannotRun", "message": NOT_FOUND}
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container=scheduler"}
    container = {"restartCount": times, "state": {"waiting": waiting}, "lastState": {"terminated": ended}}
    return {"status": {"phase": "Running", "containerStatuses": [container]}}


QUOTA = 'pods "x" is forbidden: exceeded quota: small, requested: pods=1, used: pods=1, limited: pods=1'
REFUSED = {
    "status": {
        "conditions": [
            {"type": "Available", "status": "False", "reason": "MinimumReplicasUnavailable"},
            {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": QUOTA},
        ]
    }
}
ACCEPTED = {"status": {"conditions": [{"type": "Available", "status": "True"}]}}


@pytest.mark.parametrize(
    ("given", "deployments", "text", "lasting"),
    [
        ([NO_IMAGE], [ACCEPTED], f"ImagePullBackOff: {PULL}", True),
        ([NO_MEMORY], [], "Unschedulable: 0/1 nodes are available: 1 Insufficient memory.", False),
        ([NO_CLAIM], [], "Unschedulable: 0/1 nodes are available: 1 persistentvolumeclaim "
         '"nope" not found.', True),
        ([UNBOUND], [], "Unschedulable: 0/1 nodes are available: 1 pod has unbound immediate "
         "PersistentVolumeClaims.", False),
        ([], [REFUSED], f"FailedCreate: {QUOTA}", False),
        ([NO_MEMORY, NO_IMAGE], [], f"ImagePullBackOff: {PULL}", True),  # what does not pass goes first
    ],
)  # fmt: skip
def test_the_reason_of_kubernetes_is_told(given, deployments, text, lasting):
    found = pod_trouble(given, deployments)
    assert found == Trouble(text, lasting)


@pytest.mark.parametrize(
    ("given", "deployments"),
    [([], []), ([], [ACCEPTED]), ([RUNS], []), ([RUNS, NO_IMAGE], []), ([CREATING], []), ([{}], [{}])],
)
def test_a_pod_that_runs_or_starts_is_no_trouble(given, deployments):
    assert pod_trouble(given, deployments) is None


def test_a_container_that_ends_again_and_again_is_told_with_its_last_end():
    assert not pod_trouble([crashed(ENDS - 1)], []).final
    found = pod_trouble([crashed(ENDS)], [])
    assert found.final and "ended with status 127" in found.text and NOT_FOUND in found.text


def test_a_pod_is_ready_when_it_answers():
    assert is_ready(RUNS) and not is_ready(NO_IMAGE) and not is_ready({})


class Seen:
    """A watch whose time goes by on demand."""

    def __init__(self) -> None:
        self.time = 0.0
        self.lines: list[str] = []
        self.watch = PodWatch("pod of a worker", 3600, self.lines.append, lambda: self.time)

    def note(self, seconds: float, trouble: Trouble | None) -> None:
        self.time += seconds
        self.watch.note(trouble)


def test_what_passes_by_itself_is_printed_once_and_waited_for():
    seen = Seen()
    seen.note(TOLD_S - 1, Trouble("no memory"))
    assert seen.lines == []
    for _ in range(100):
        seen.note(60, Trouble("no memory"))
        seen.note(60, Trouble("quota"))
    assert seen.lines == [
        f"the pod of a worker waits: {text}; the command ends if this lasts longer than "
        "cluster.patience=3600 s"
        for text in ("no memory", "quota")
    ]
    assert seen.watch.reason() == ": quota"
    seen.note(1, None)
    assert seen.watch.reason() == ""


def test_what_does_not_pass_ends_the_command_after_a_minute():
    seen = Seen()
    seen.note(1, Trouble("no image", lasting=True))
    seen.note(LASTING_S - 1, Trouble("no answer of the registry", lasting=True))
    seen.note(1, None)  # the pull succeeded
    seen.note(100, Trouble("no image", lasting=True))
    with pytest.raises(ClusterError, match="the pod of a worker cannot start: no image"):
        seen.note(LASTING_S, Trouble("no image", lasting=True))
    with pytest.raises(ClusterError, match="cannot start: crashed"):
        Seen().note(1, Trouble("crashed", lasting=True, final=True))


class Cluster:
    """As `KubeCluster`: starts in a loop when it is made, and is closed when Python ends."""

    namespace = "lab"
    name = "deiii-0"

    def __init__(self, fails: Exception | None = None, **words):
        self.fails = fails
        self.closed = 0
        made.append(self)
        self.sync(self._start)

    def sync(self, function, *args, **words):
        return asyncio.run(function(*args, **words))

    async def _start(self):
        if self.fails:
            raise self.fails
        await asyncio.sleep(30)

    async def _close(self, timeout):
        self.closed += 1

    def close(self, timeout=1):
        self.sync(self._close, timeout=timeout)


made: list[Cluster] = []


class Server:
    """The objects of Kubernetes that `kr8s.asyncio.objects` offers, for the questions of this module."""

    def __init__(self, **found):
        self.found = found
        self.asked: list[tuple] = []
        self.deleted: list[tuple] = []
        for kind in ("Pod", "Deployment", "Service"):
            setattr(self, kind, SimpleNamespace(list=partial(self.list, kind)))

    async def list(self, kind, label_selector, namespace):
        self.asked.append((kind, label_selector, namespace))
        found = self.found.get(kind, [])
        if isinstance(found, Exception):
            raise found
        for raw in found:
            yield SimpleNamespace(raw=raw)

    def new_class(self, kind, version):
        async def get(name, namespace):
            async def delete():
                if isinstance(self.found.get(kind), Exception):
                    raise self.found[kind]
                self.deleted.append((kind, version, name, namespace))

            return SimpleNamespace(delete=delete)

        return get


@pytest.fixture
def server(monkeypatch):
    """Replace kr8s by a server without objects, and return it."""
    server = Server()
    monkeypatch.setitem(sys.modules, "kr8s", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "kr8s.asyncio", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "kr8s.asyncio.objects", server)
    return server


@pytest.fixture
def quick(monkeypatch):
    """Let the pods be looked at after a moment."""
    monkeypatch.setattr(pods, "LOOK_S", 0.01)


AUTOSCALER = ("DaskAutoscaler", "kubernetes.dask.org/v1", "deiii-0", "lab")


@pytest.mark.usefixtures("quick")
def test_a_scheduler_that_cannot_start_ends_the_command_and_leaves_no_cluster(server):
    """dask-kubernetes waited for the pod without a limit."""
    server.found["Pod"] = [crashed(ENDS)]
    with pytest.raises(ClusterError, match="pod of the Dask scheduler cannot start: .*status 127"):
        watched(Cluster)(patience=3600)
    assert made.pop().closed == 1
    # The operator adopts it some time after it was created: it stayed where a command ended at once.
    assert server.deleted == [AUTOSCALER]
    labels = {"dask.org/cluster-name": "deiii-0", "dask.org/component": "scheduler"}
    assert server.asked[:2] == [("Pod", labels, "lab"), ("Deployment", labels, "lab")]


@pytest.mark.usefixtures("quick")
def test_a_scheduler_that_does_not_start_in_time_is_told_with_the_reason(server):
    server.found["Pod"] = PermissionError("pods is forbidden")  # the reason is a help only
    server.found["Deployment"] = [REFUSED]
    with pytest.raises(
        ClusterError, match=r"not start within cluster.patience=0.05 s: FailedCreate: pods .* quota"
    ):
        watched(Cluster)(patience=0.05)
    assert made.pop().closed == 1


@pytest.mark.usefixtures("quick")
def test_a_scheduler_that_runs_and_is_not_reached_is_told(server, monkeypatch):
    """Without the right to forward ports, dask-kubernetes tries to connect for ever."""
    server.found["Pod"] = [RUNS]
    monkeypatch.setattr(pods, "REACH_S", 0.05)
    with pytest.raises(
        ClusterError, match="has not reached it .*namespace lab auth can-i create pods/portforward"
    ):
        watched(Cluster)(patience=3600)
    assert made.pop().closed == 1


@pytest.mark.parametrize("error", [ValueError("no credentials"), KeyboardInterrupt()])
def test_a_cluster_that_did_not_start_is_closed_once(error, server):
    """dask-kubernetes closed it when Python ended, with a traceback where Kubernetes did not answer."""
    server.found["DaskAutoscaler"] = ConnectionError("no server")
    with pytest.raises(type(error)):
        watched(Cluster)(patience=3600, fails=error)
    assert made.pop().closed == 1


def test_the_operator_has_acted_when_the_service_exists(server, monkeypatch):
    """The status, for which dask-kubernetes waits, may stay "Pending" while everything runs."""
    monkeypatch.setattr(pods, "OPERATOR_S", 0.1)
    cluster = watched(Started)(patience=3600)
    with pytest.raises(ClusterError, match="the Dask operator did nothing for 0.1 s: .*namespace lab"):
        asyncio.run(cluster._wait_for_controller())
    server.found["Service"] = [{}]
    asyncio.run(cluster._wait_for_controller())
    assert server.asked[-1] == ("Service", {"dask.org/cluster-name": "deiii-0"}, "lab")


class Started(Cluster):
    async def _start(self):
        pass


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (None, []),
        (
            TimeoutError(),
            ["note: Kubernetes is still deleting the pods of this command (daskcluster deiii-0)"],
        ),
        (
            ConnectionError("All connection\nattempts failed"),
            [
                "note: Kubernetes did not delete the pods of this command (All connection attempts failed): "
                "kubectl --namespace lab delete daskcluster deiii-0"
            ],
        ),
    ],
)
def test_a_cluster_that_is_not_deleted_is_a_note(error, says, server):
    """The results are complete by then; an error was a traceback at the end of the command."""

    class Closing(Started):
        async def _close(self, timeout):
            if error:
                raise error

    lines: list[str] = []
    watched(Closing, lines.append)(patience=3600).close()
    assert lines == says and server.deleted == [AUTOSCALER]
