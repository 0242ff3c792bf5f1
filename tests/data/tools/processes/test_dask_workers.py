"""Results of tasks arrive although the first fetch fails, and errors of tasks are theirs."""

from __future__ import annotations

import logging
import time

import dask
import pytest
from distributed import Client, LocalCluster

from deiii.data.tools.processes import dask_workers
from deiii.data.tools.processes.dask_workers import TLS_SETTINGS, ClusterError, connect, result_of
from tests.helpers.dask_fetch import fail_first_fetch


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0") as made:
        yield made


@pytest.fixture
def client(cluster, monkeypatch):
    monkeypatch.setattr(dask_workers, "ASK_AGAIN_S", 0.2)
    with Client(cluster) as client:
        yield client


@pytest.mark.parametrize("waits", [False, True])
def test_a_result_that_cannot_be_fetched_is_asked_for_again(waits, client, monkeypatch):
    failed = fail_first_fetch(client, waits, monkeypatch)
    assert result_of(client.submit(sum, [1, 2])) == 3
    assert failed


def test_a_client_of_a_running_scheduler_writes_no_logs(cluster, monkeypatch):
    """Runs on a cluster whose scheduler ended showed a traceback of Dask before the error."""
    monkeypatch.setattr(logging.getLogger("distributed.client"), "level", logging.INFO)
    with connect(cluster.scheduler_address):
        assert not logging.getLogger("distributed.client").isEnabledFor(logging.ERROR)


def test_a_long_task_is_waited_for(client):
    future = client.submit(time.sleep, 0.7)
    assert result_of(future) is None and future.status == "finished"


def test_the_error_of_a_task_is_raised(client):
    def late() -> None:
        raise TimeoutError("the task's own")

    with pytest.raises(TimeoutError, match="the task's own"):
        result_of(client.submit(late))


def test_a_scheduler_with_tls_and_no_certificates():
    """Before, this was a traceback and "a defect of deiii"."""
    says = "no Dask scheduler answers at tls://127.0.0.1:9 .this command has no certificates for TLS"
    with pytest.raises(ClusterError, match=says) as refused, connect("tls://127.0.0.1:9"):
        pass
    assert all(name in str(refused.value) for name in TLS_SETTINGS)


def test_a_certificate_that_does_not_exist_is_named(tmp_path):
    lost = str(tmp_path / "ca.pem")
    names = ("ca-file", "client.cert", "client.key")
    with dask.config.set({f"distributed.comm.tls.{name}": lost for name in names}):
        with pytest.raises(ClusterError, match=f"there is no {lost}"), connect("tls://127.0.0.1:9"):
            pass
