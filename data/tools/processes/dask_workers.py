"""Connect to a running Dask scheduler, and call one whose connection may break.

>>> with connect("tcp://host:8786") as client:  # doctest: +SKIP
...     workers_of(client)
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from deiii.data.tools.counts import counted
from deiii.data.tools.text.sizes import memory_size

if TYPE_CHECKING:
    import psutil
    from distributed import Client, Future

Answer = TypeVar("Answer")
POLL_S = 0.2  # s between two looks at the connection
CONNECT_TIMEOUT = "15s"  # longest time until a scheduler answers
ASK_AGAIN_S = 5.0  # s without a result after which the result is requested again
FIRST_WORKER_S = 30  # longest time until a scheduler has a worker
CLOSE_S = 5  # s that closing a client may take
WORKER_GB = 1.0  # GiB of a worker's memory that its libraries and models take before the first clip
TLS_SETTINGS = (
    "DASK_DISTRIBUTED__COMM__TLS__CA_FILE",
    "DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT",
    "DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY",
)
MAX_NAMED = 3  # workers that a message names
# Settings that keep SLURM from ending jobs, by the state of such a job.
REMEDIES = {"TIMEOUT": "a longer cluster.walltime", "OUT_OF_MEMORY": "more cluster.memory_gb"}
CANCELLED = (concurrent.futures.CancelledError, asyncio.CancelledError)  # Dask then cancels all futures


class ClusterError(RuntimeError):
    """The Dask cluster cannot do the work; the message says what to change."""


def silence_logs() -> None:
    """Silence Dask's log messages: outcomes and errors report every problem.

    Many of Dask's loggers have a level of their own, so it is not enough to set that of their parents.
    """
    loud = {"distributed", "bokeh", "tornado", "asyncio", "dask_kubernetes"}
    for name in loud | {n for n in logging.root.manager.loggerDict if n.split(".")[0] in loud}:
        logging.getLogger(name).setLevel(logging.CRITICAL)


@contextmanager
def connect(address: str) -> Iterator[Client]:
    """Connect to the scheduler at an address, such as ``tcp://host:8786``, for the block.

    Raises:
        ClusterError: no scheduler answers.
    """
    from distributed import Client

    silence_logs()  # of the client, which would write a traceback if the scheduler ends
    try:
        client = Client(address, timeout=CONNECT_TIMEOUT)
    except (OSError, ValueError, TypeError) as error:
        without_certificates = "ssl_context" in str(error)  # in Dask's TypeError
        if isinstance(error, TypeError) and not without_certificates:
            raise
        why = "this command has no certificates for TLS" if without_certificates else str(error)
        if isinstance(error, FileNotFoundError):  # Python's ssl names no file
            why = f"there is no {_lost_certificate()}"
        raise ClusterError(
            f"no Dask scheduler answers at {address} ({why}); {_connection_remedy(address)}"
        ) from None
    with closed(client):
        yield client


def _lost_certificate() -> str:
    """Return the path of the first certificate or key in Dask's settings that does not exist."""
    import dask

    keys = ("ca-file", "client.cert", "client.key")
    paths = [dask.config.get(f"distributed.comm.tls.{key}", None) for key in keys]
    return next((str(path) for path in paths if path and not Path(path).is_file()), "such certificate")


def _connection_remedy(address: str) -> str:
    """Return what to do if no scheduler answers."""
    if not address.startswith("tls://"):
        return "start one with `dask scheduler` or leave out scheduler="
    return (
        f"for tls://, set {', '.join(TLS_SETTINGS)} to the PEM files of the certificate authority, of your "
        "certificate and of its key, and check that the scheduler runs"
    )


@contextmanager
def connect_to_workers(address: str) -> Iterator[Client]:
    """Connect to a scheduler as `connect`, and wait for its first worker.

    Raises:
        ClusterError: no scheduler answers, or it has no workers.
    """
    with connect(address) as client:
        try:
            while_connected(client, lambda: client.wait_for_workers(1, timeout=FIRST_WORKER_S))
        except TimeoutError:
            raise ClusterError(f"the scheduler at {address} has no workers; start some first") from None
        yield client


@contextmanager
def closed(client: Client) -> Iterator[Client]:
    """Close a client at the end of the block, in limited time."""
    try:
        yield client
    finally:
        with suppress(TimeoutError):
            client.close(timeout=CLOSE_S)


def while_connected(client: Client, ask: Callable[[], Answer]) -> Answer:
    """Return ``ask()``, a call that waits for the scheduler, or end as soon as the connection breaks.

    Dask's own calls try to connect again until their time limit has passed; futures are cancelled.

    Raises:
        CommClosedError: the scheduler is gone.

    >>> while_connected(client, lambda: client.wait_for_workers(1))  # doctest: +SKIP
    """
    from distributed.comm import CommClosedError

    answers: list[Answer] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(ask())
        except BaseException as error:
            errors.append(error)

    # A thread that still waits must not keep the process from ending.
    thread = threading.Thread(target=run, name="scheduler", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(POLL_S)
        if thread.is_alive() and client.status != "running":
            raise CommClosedError("the scheduler is gone")
    if errors and (client.status != "running" or isinstance(errors[0], (CommClosedError, *CANCELLED))):
        raise CommClosedError("the scheduler is gone") from errors[0]
    if errors:
        raise errors[0]
    return answers[0]


def result_of(future: Future) -> Any:
    """Wait for a task and return its result, or raise its error.

    If all workers die at once, fetching a result that is on its way may raise, or wait for ever, while the
    scheduler computes the task again (dask/distributed#7331). A second fetch succeeds.

    >>> result_of(client.submit(sum, [1, 2]))  # doctest: +SKIP
    3
    """
    from distributed import KilledWorker

    while True:
        try:
            return future.result(timeout=ASK_AGAIN_S)
        except (TimeoutError, KilledWorker):
            if future.status == "error":  # the task itself raised the error
                raise


def workers_of(client: Client) -> dict[str, Any]:
    """Return the scheduler's record of each worker, by address.

    Raises:
        CommClosedError: the scheduler is gone.
    """
    from distributed.comm import CommClosedError

    scheduler = client.scheduler
    if scheduler is None:
        raise CommClosedError("the scheduler is gone")

    def ask() -> dict[str, Any]:
        # Client.scheduler_info would return its last answer where the connection has just broken.
        try:
            return dict(client.sync(scheduler.identity))
        except OSError as error:
            raise CommClosedError("the scheduler is gone") from error

    workers: dict[str, Any] = while_connected(client, ask)["workers"]
    return workers


def no_worker(client: Client, kept: str) -> str:
    """Return a line for users if no worker is connected to the scheduler, else an empty text.

    Args:
        client: client of the scheduler.
        kept: what is kept if the user stops the command.

    Raises:
        CommClosedError: the scheduler is gone.
    """
    if workers_of(client):
        return ""
    queue = getattr(client.cluster, "queue", None)
    if queue is not None:  # the jobs are submitted by this command
        said = f"; the queue says: {queue}" if queue else ""
        after = f"The run continues when a job starts; {kept} are kept if you stop it"
        return f"no worker is connected{said}. {after}"
    address = client.scheduler.address if client.scheduler is not None else ""
    return (
        f"no worker is connected to the scheduler at {address}: the run continues when one connects "
        f"(`dask worker {address}`, or the next job or pod); {kept} are kept if you stop it"
    )


def ends_of_jobs(client: Client) -> list[str]:
    """Return how jobs of the client's cluster ended while workers of theirs were connected."""
    return list(getattr(getattr(client, "cluster", None), "ends", ()))


def ended_jobs(ends: Sequence[str], kept: str) -> str:
    """Return a line for users on jobs that ended since a task was finished; empty if there are none.

    Args:
        ends: how they ended, in SLURM's words.
        kept: what is kept if the user stops the command.

    >>> ended_jobs(["NODE_FAIL", "NODE_FAIL"], "finished shards")[:25]
    '2 jobs ended (NODE_FAIL),'
    """
    if not ends:
        return ""
    again = "another job computes its work" if len(ends) == 1 else "other jobs compute their work"
    return (
        f"{counted(len(ends), 'job')} ended ({said_of_ends(ends)}), and nothing was finished since; {again} "
        f"again. If this repeats, stop the command and run it with {remedy_for_ends(ends)}; {kept} are kept"
    )


def said_of_ends(ends: Sequence[str]) -> str:
    """Return how jobs ended, each way once.

    >>> said_of_ends(["TIMEOUT: TimeLimit", "NODE_FAIL", "TIMEOUT: TimeLimit"])
    'TIMEOUT: TimeLimit; NODE_FAIL'
    """
    return "; ".join(dict.fromkeys(ends))


def remedy_for_ends(ends: Sequence[str]) -> str:
    """Return the settings that keep jobs from ending in these ways.

    >>> remedy_for_ends(["TIMEOUT: TimeLimit"])
    'a longer cluster.walltime'
    """
    found = [remedy for state, remedy in REMEDIES.items() if any(end.startswith(state) for end in ends)]
    return " and ".join(found) or "another cluster.queue"


def paused_workers(client: Client, kept: str) -> str:
    """Return a line for users if Dask has paused workers because their memory is full, else an empty text.

    A paused worker gets no task. Where its libraries alone take most of its limit, it stays so for ever.

    Args:
        client: client of the scheduler.
        kept: what is kept if the user stops the command.

    Raises:
        CommClosedError: the scheduler is gone.
    """
    workers = workers_of(client).values()
    paused = [worker for worker in workers if worker.get("status") == "paused"]
    if not paused:
        return ""
    named = [
        f"{worker['name']} on {worker['host']} ({_limit_text(worker.get('memory_limit'))})"
        for worker in paused[:MAX_NAMED]
    ]
    more = f" and {len(paused) - MAX_NAMED} more" if len(paused) > MAX_NAMED else ""
    others = (
        "the run continues when one has free memory" if len(paused) == len(workers) else "others continue"
    )
    return (
        f"Dask has paused {counted(len(paused), 'worker')} of {len(workers)}, because the memory limit is "
        f"nearly reached: {', '.join(named)}{more}; {others}. Start workers with a larger --memory-limit (at "
        f"least {WORKER_GB:g} GiB and what a clip needs), or a larger cluster.memory_gb; {kept} are kept if "
        "you stop it"
    )


def _limit_text(limit: int | None) -> str:
    return memory_size(limit) if limit else "no limit"


def kill_workers(cluster: Any, others: set[psutil.Process] | None) -> None:
    """Kill the workers of a local cluster; they are not started again.

    Args:
        cluster: the cluster.
        others: children of this process that are not workers; ``None`` where no child is one.
    """
    import psutil

    if others is None:
        return
    for nanny in list(cluster.workers.values()):
        nanny.close_gracefully()  # without this, the nanny would start another worker
    for child in set(psutil.Process().children()) - others:  # includes workers that are starting
        with suppress(psutil.Error):
            child.kill()
