"""Kubernetes pods: why those of a cluster do not start, and a cluster that ends with the reason.

The class of dask-kubernetes waits without a limit for the pod of the scheduler, whatever keeps it from
starting. The class that `watched` returns ends with the reason, and leaves nothing in the namespace.

>>> cluster = watched(KubeCluster)(name="deiii-0123abcd", namespace="lab", patience=60)  # doctest: +SKIP
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from deiii.data.tools.processes.dask_workers import ClusterError
from deiii.data.tools.progress import say

LOOK_S = 5.0  # s between two looks at the pods
TOLD_S = 30.0  # s without a running pod after which the reason is printed
LASTING_S = 60.0  # s after which a reason that does not pass by itself ends the command
ENDS = 3  # times that a container has ended by itself after which the command ends
OPERATOR_S = 60.0  # s that the Dask operator may take until it creates the first object
REACH_S = 120.0  # s without a connection to a scheduler that runs after which the command ends
CLOSE_S = 10.0  # s that Kubernetes may take to delete a cluster
ANSWER_S = 20.0  # longest time in s until Kubernetes answers
MAX_TEXT = 300  # characters of a message of Kubernetes that are shown

# Reasons of a waiting container (kubelet) that only a change of the image, the settings or the rights
# removes. A registry may answer late, so these have `LASTING_S`.
LASTING = frozenset(
    (
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImageInspectError",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    )
)
NO_CLAIM = ("persistentvolumeclaim", "not found")  # in the message on a pod whose claim does not exist


class Trouble(NamedTuple):
    """Why a pod does not run.

    Attributes:
        text: the reason, in the words of Kubernetes, on one line.
        lasting: whether it does not pass by itself. Memory and a quota that are used up may be free later.
        final: whether its container has ended by itself `ENDS` times, so that no further start is awaited.
    """

    text: str
    lasting: bool = False
    final: bool = False


def pod_trouble(pods: Iterable[Mapping], deployments: Iterable[Mapping]) -> Trouble | None:
    """Return why pods do not run; ``None`` if one runs or nothing is known yet.

    Args:
        pods, deployments: resources of a cluster as Kubernetes's API gives them.

    >>> state = {"waiting": {"reason": "ErrImageNeverPull", "message": "Container image ..."}}
    >>> pod_trouble([{"status": {"phase": "Pending", "containerStatuses": [{"state": state}]}}], []).text
    'ErrImageNeverPull: Container image ...'
    """
    found = [_trouble_of(pod) for pod in pods]
    refused = [_refusal(deployment) for deployment in deployments]
    known = [trouble for trouble in (*found, *refused) if trouble]
    if not known or any(trouble is None for trouble in found):
        return None
    return max(known, key=lambda trouble: (trouble.final, trouble.lasting))


def _trouble_of(pod: Mapping) -> Trouble | None:
    """Return why a pod does not run; ``None`` if it runs, starts or is deleted."""
    status = pod.get("status") or {}
    for container in status.get("containerStatuses") or []:
        state = container.get("state") or {}
        waiting = state.get("waiting") or {}
        if container.get("restartCount", 0) >= ENDS and "running" not in state:
            return Trouble(_last_end(container) or _line(waiting), lasting=True, final=True)
        if waiting.get("reason") in LASTING:
            return Trouble(_last_end(container) or _line(waiting), lasting=True)
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            text = _line(condition)
            return Trouble(text, lasting=all(part in text for part in NO_CLAIM))
    return None


def is_ready(pod: Mapping) -> bool:
    """Return whether a pod has started and answers."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(part.get("type") == "Ready" and part.get("status") == "True" for part in conditions)


def _last_end(container: Mapping) -> str:
    """Return how a container ended last; empty if it never ended."""
    ended = (container.get("lastState") or {}).get("terminated") or {}
    if not ended:
        return ""
    times = container.get("restartCount", 0)
    why = _line(ended) or "no reason is given"
    return (
        f"its container ended with status {ended.get('exitCode')} and was started {times} times again ({why})"
    )


def _refusal(deployment: Mapping) -> Trouble | None:
    """Return why Kubernetes does not create the pod of a deployment, such as a quota."""
    for condition in (deployment.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            return Trouble(_line(condition))
    return None


def _line(state: Mapping) -> str:
    """Return reason and message of a state or condition on one line."""
    parts = (str(state.get(name) or "") for name in ("reason", "message"))
    text = " ".join(": ".join(part for part in parts if part).split())
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} ..."


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


class PodWatch:
    """Records since when pods do not run, prints the reason, and raises an error if it does not pass.

    Args:
        what: the pods, as the subject of a sentence.
        patience: longest time in s that the caller waits for the first pod, for the line.
        report: called with a line of text for users.
        clock: returns the time in s.

    >>> PodWatch("pod of the scheduler", 3600).note(None)
    """

    def __init__(
        self,
        what: str,
        patience: float,
        report: Callable[[str], None] = say,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._what = what
        self._patience = patience
        self._report = report
        self._clock = clock
        self._began = clock()
        self._lasting: float | None = None  # since when the reason is one that does not pass by itself
        self._told: set[str] = set()
        self._latest = ""

    def note(self, trouble: Trouble | None) -> None:
        """Take note of what keeps the pods from running now.

        Raises:
            ClusterError: it is final, or does not pass by itself and has lasted for `LASTING_S`.
        """
        now = self._clock()
        self._latest = trouble.text if trouble else ""
        if trouble is None or not trouble.lasting:
            self._lasting = None
        elif self._lasting is None:
            self._lasting = now
        lasted = self._lasting is not None and now - self._lasting >= LASTING_S
        if trouble and (trouble.final or lasted):
            raise ClusterError(f"the {self._what} cannot start: {trouble.text}")
        if trouble and now - self._began >= TOLD_S and trouble.text not in self._told:
            self._told.add(trouble.text)
            self._report(
                f"the {self._what} waits: {trouble.text}; the command ends if this lasts longer than "
                f"cluster.patience={self._patience:g} s"
            )

    def reason(self) -> str:
        """Return the end of a sentence with the latest reason; empty if none is known."""
        return f": {self._latest}" if self._latest else ""


async def ask_trouble(name: str, namespace: str, component: str) -> Trouble | None:
    """Ask Kubernetes why the pods of a cluster do not run; `ask_objects` has the arguments.

    Returns:
        the reason; ``None`` if a pod runs, if nothing is known yet, or if there is no answer.
    """
    return pod_trouble(*await ask_objects(name, namespace, component))


async def ask_objects(name: str, namespace: str, component: str) -> list[list[Mapping]]:
    """Ask Kubernetes for the pods and the deployments of a cluster.

    Args:
        name: of the ``DaskCluster``.
        namespace: where it is.
        component: ``scheduler`` or ``worker``.

    Returns:
        the pods and the deployments; empty where Kubernetes does not answer or does not permit the question.
    """
    from kr8s.asyncio.objects import Deployment, Pod

    labels = {"dask.org/cluster-name": name, "dask.org/component": component}
    found: list[list[Mapping]] = []
    for kind in (Pod, Deployment):
        found.append([])
        with suppress(Exception):  # types of httpx and kr8s, which share no base; the reason is a help only
            async with asyncio.timeout(ANSWER_S):
                found[-1] += [
                    item.raw async for item in kind.list(label_selector=labels, namespace=namespace)
                ]
    return found


async def delete_autoscaler(name: str, namespace: str) -> None:
    """Delete the autoscaler of a cluster, if there is one and Kubernetes answers.

    The operator makes it a part of the cluster, which is deleted with it, but not at once. Where a command
    ended within seconds, the autoscaler stayed for ever.
    """
    from kr8s.asyncio.objects import new_class

    with suppress(Exception):  # types of httpx and kr8s, which share no base
        async with asyncio.timeout(ANSWER_S):
            found = await new_class("DaskAutoscaler", "kubernetes.dask.org/v1")(name, namespace=namespace)
            await found.delete()


def watched(kind: type, report: Callable[[str], None] = say) -> Any:
    """Return a class of `dask_kubernetes.operator.KubeCluster` that ends if its scheduler cannot start.

    - The operator has `OPERATOR_S` to create the first object, and the pod of the scheduler ``patience``
      seconds to start.
    - What keeps the pod from starting is the error, or is printed while it can pass.
    - A cluster that did not start is deleted, also after Ctrl-C. dask-kubernetes tries this when Python ends,
      and prints a traceback where Kubernetes does not answer.
    - Where Kubernetes does not delete a cluster, a line says so; the results are complete by then.

    Args:
        kind: the class; its instances take ``patience``, a time in s, as a further argument.
        report: called with a line of text for users.
    """

    class Watched(kind):
        def __init__(self, patience: float, **words: Any):
            self._patience = patience
            self._starting: asyncio.Task | None = None
            try:
                super().__init__(**words)
            except BaseException:
                with suppress(Exception):  # the first error is the one to report
                    self.sync(self._close, timeout=CLOSE_S)
                raise

        async def _start(self) -> None:
            self._starting = asyncio.create_task(super()._start())
            watching = asyncio.create_task(self._watch_scheduler())
            try:
                await asyncio.wait((self._starting, watching), return_when=asyncio.FIRST_COMPLETED)
                if not self._starting.done():
                    await watching  # raises the reason
                await self._starting
            finally:
                watching.cancel()
                self._starting.cancel()

        async def _watch_scheduler(self) -> None:
            watch = PodWatch("pod of the Dask scheduler", self._patience, report)
            end = time.monotonic() + self._patience
            ready = None
            while time.monotonic() < end:
                await asyncio.sleep(LOOK_S)
                pods, deployments = await ask_objects(self.name, self.namespace, "scheduler")
                watch.note(pod_trouble(pods, deployments))
                ready = (ready or time.monotonic()) if any(map(is_ready, pods)) else None
                if ready and time.monotonic() - ready > REACH_S:
                    raise ClusterError(
                        f"the Dask scheduler runs in its pod, but this command has not reached it within "
                        f"{REACH_S:g} s: check the right to forward its ports (kubectl --namespace "
                        f"{self.namespace} auth can-i create pods/portforward), or run the command in a pod"
                    )
            raise ClusterError(
                f"the pod of the Dask scheduler did not start within cluster.patience={self._patience:g} s"
                f"{watch.reason()}"
            )

        async def _wait_for_controller(self) -> None:
            # dask-kubernetes waits for the status "Running". The operator's handler of the service writes it,
            # and the one that creates the service writes "Pending". The second may come later, and the status
            # then stays "Pending" (seen in two starts of six with version 2026.3.0).
            from kr8s.asyncio.objects import Service

            end = time.monotonic() + OPERATOR_S
            selector = {"dask.org/cluster-name": self.name}
            while time.monotonic() < end:
                async for _ in Service.list(label_selector=selector, namespace=self.namespace):
                    return
                await asyncio.sleep(0.25)
            raise ClusterError(
                f"the Dask operator did nothing for {OPERATOR_S:g} s: check that it runs in the cluster, and "
                f"that it watches the namespace {self.namespace}"
            )

        async def _close(self, timeout: float = CLOSE_S) -> None:
            if self._starting is not None:
                self._starting.cancel()
            await delete_autoscaler(self.name, self.namespace)
            await super()._close(timeout=timeout)

        def close(self, timeout: float = CLOSE_S) -> None:
            try:
                super().close(timeout=timeout)
            except TimeoutError:
                report(
                    f"note: Kubernetes is still deleting the pods of this command (daskcluster {self.name})"
                )
            except Exception as error:  # the results are complete; types of httpx and kr8s share no base
                report(
                    f"note: Kubernetes did not delete the pods of this command ({_one_line(error)}): kubectl "
                    f"--namespace {self.namespace} delete daskcluster {self.name}"
                )

    return Watched
