"""Workers that lack files, packages or weights end the run with an error that names them; no clip is lost."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from deiii.data.cache.recipes import Recipe
from deiii.data.cache.shard_plan import plan_shards
from deiii.data.cluster import worker_checks
from deiii.data.cluster.on_workers import WorkerCheck, packed, run_checked
from deiii.data.config.load import load_config
from deiii.data.tools.processes.dask_workers import ClusterError, connect
from deiii.data.tools.weights import WeightsError
from deiii.pipeline.preprocess.graph import preprocess
from deiii.pipeline.preprocess.tasks import Attempt, next_attempt
from deiii.pipeline.stages.shard import ShardTask, UnseenFiles, refuse_unseen, run_shard
from tests.helpers.clips import audio_corpus
from tests.helpers.dask_processes import own_scheduler, own_worker

# The worker is on this machine, so its view is falsified.
HIDES = """
import os, posix
def stat(path, *words, **options):
    if str(path).endswith({hidden!r}):
        raise FileNotFoundError(2, "No such file or directory", str(path))
    return posix.stat(path, *words, **options)
os.stat = stat
"""
ROOT = Path(__file__).parents[3]
LACKS = r"worker \S+ on \S+ \(tcp://.*\) cannot import {} \(libGL.*\): where that worker runs, install"
BROKEN = "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')"


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    with own_scheduler(tmp_path_factory.mktemp("scheduler")) as (address, _):
        yield address


def settings(cache: Path, scheduler: str):
    words = ["stages=[logmel]", f"cache={cache}", "corpus.clips_per_shard=1", f"scheduler={scheduler}"]
    return load_config(overrides=words)


def hiding(folder: Path, hidden: str) -> tuple[str, str]:
    """Options of a worker that does not see files whose path ends with ``hidden``."""
    (folder / "hides.py").write_text(HIDES.format(hidden=hidden))
    return "--preload", str(folder / "hides.py")


def test_a_worker_whose_corpus_folder_is_empty(scheduler, tmp_path):
    """It would record every clip as missing: most likely a file system is not mounted there."""
    corpus = audio_corpus(tmp_path / "raw", speakers=1)
    says = (
        rf"worker \S+ on \S+ \(tcp://.*\) does not see {tmp_path}/raw/s0/c0.flac, which this process .*mount"
    )
    with own_worker(scheduler, tmp_path, *hiding(tmp_path, ".flac")):
        with pytest.raises(ClusterError, match=says):
            preprocess(settings(tmp_path / "cache", scheduler), corpus, lambda line: None)
    assert not list((tmp_path / "cache").rglob("*.h5"))


@pytest.mark.slow
def test_a_worker_with_an_incomplete_copy(scheduler, tmp_path, monkeypatch):
    """No file of the sample is the one that it lacks; nothing is recorded for that clip."""
    monkeypatch.setattr(worker_checks, "SAMPLE", 1)
    corpus = audio_corpus(tmp_path / "raw", speakers=1)
    config = settings(tmp_path / "cache", scheduler)
    says = (
        rf"worker \S+ on \S+ \(.*\): it does not find {tmp_path}/raw/s0/c3.flac, but this process does: "
        "most likely a file system is not mounted there, .*then run the same command again"
    )
    with own_worker(scheduler, tmp_path, *hiding(tmp_path, "c3.flac")):
        with pytest.raises(ClusterError, match=says):
            preprocess(config, corpus, lambda line: None)
    (tmp_path / "good").mkdir()
    with own_worker(scheduler, tmp_path / "good"):
        summary = preprocess(config, corpus, lambda line: None)
    assert summary.counts["logmel"] == Counter(ok=4) and summary.reused == 3


def test_only_files_that_are_missing_here_too_are_given_up(tmp_path):
    corpus = audio_corpus(tmp_path, speakers=1, clips=3)
    plan = plan_shards(corpus, 3)[0]
    recipe = Recipe("logmel", "0" * 12, {}, None)
    attempt = Attempt(ShardTask(recipe, plan, str(tmp_path), str(tmp_path), None, "", absent=()))
    for name in ("c1", "c2"):
        (tmp_path / f"s0/{name}.flac").unlink()
    with pytest.raises(UnseenFiles, match="it does not find .*c1.flac, .*c2.flac") as unseen:
        refuse_unseen(attempt.task, ["s0/c1.flac", "s0/c2.flac"])
    again = next_attempt(attempt, unseen.value)
    assert again.task.absent == ("s0/c1.flac", "s0/c2.flac") and again.number == 1
    assert again.marks != attempt.marks  # Dask takes equal keys for one task
    refuse_unseen(again.task, ["s0/c1.flac", "s0/c2.flac"])
    refuse_unseen(replace(attempt.task, absent=None), ["s0/c1.flac"])  # on one machine
    with pytest.raises(ClusterError, match="but this process finds .*s0/c0.flac: most likely a file system"):
        next_attempt(again, UnseenFiles("worker a: it does not find two", ["s0/c0.flac", "s0/c1.flac"]))


@pytest.mark.slow
def test_a_clip_that_is_missing_everywhere_is_recorded(scheduler, tmp_path):
    corpus = audio_corpus(tmp_path / "raw", speakers=1)
    (tmp_path / "raw/s0/c2.flac").unlink()
    with own_worker(scheduler, tmp_path):
        summary = preprocess(settings(tmp_path / "cache", scheduler), corpus, lambda line: None)
    assert summary.counts["logmel"] == Counter(ok=3, missing=1)
    assert "s0/c2,s0/c2.flac,logmel,missing,0.000,there is no such file" in summary.failures.read_text()


def broken(folder: Path, package: str) -> dict[str, str]:
    """Variables of a worker that finds a package which cannot be imported."""
    (folder / "lib" / package).mkdir(parents=True)
    (folder / "lib" / package / "__init__.py").write_text(BROKEN)
    return {"PYTHONPATH": f"{folder / 'lib'}:{ROOT}"}


@pytest.mark.parametrize(("package", "late"), [("av", False), ("cv2", False), ("cv2", True)])
def test_a_worker_that_cannot_import_a_package(scheduler, tmp_path, monkeypatch, package, late):
    """Before, it ended when it unpacked its first task, and the command waited."""
    if late:  # a worker that connects after the check
        monkeypatch.setattr(worker_checks, "check_workers", lambda client, check: None)
    corpus, lines = audio_corpus(tmp_path / "raw", speakers=1, clips=1), []
    with own_worker(scheduler, tmp_path, **broken(tmp_path, package)):
        with pytest.raises(ClusterError, match=LACKS.format(package)):
            preprocess(settings(tmp_path / "cache", scheduler), corpus, lines.append)
    assert any("1 worker" in line for line in lines) == late  # this line follows the check


def test_a_worker_that_cannot_import_what_only_the_task_needs(scheduler, tmp_path):
    (tmp_path / "probe").write_text("token")
    check = WorkerCheck(str(tmp_path / "probe"), "token", "")
    with own_worker(scheduler, tmp_path, **broken(tmp_path, "cv2")), connect(scheduler) as client:
        with pytest.raises(ClusterError, match=LACKS.format("cv2")):
            client.submit(run_checked, check, packed(run_shard, None), pure=False).result()


def lacks_weights() -> None:
    raise WeightsError("put a.onnx into a folder and set DEIII_WEIGHTS_DIR to that folder")


def test_a_worker_without_weights_is_named_with_where_to_set_the_variable(scheduler, tmp_path):
    """The user has set it for the command."""
    (tmp_path / "probe").write_text("token")
    check = WorkerCheck(str(tmp_path / "probe"), "token", "")
    says = r"worker \S+ on \S+ \(.*\): put a.onnx .*DEIII_WEIGHTS_DIR is not set: set it where that worker"
    with own_worker(scheduler, tmp_path, DEIII_WEIGHTS_DIR=""), connect(scheduler) as client:
        with pytest.raises(WeightsError, match=says):
            client.submit(run_checked, check, packed(lacks_weights), pure=False).result()


def test_the_file_that_workers_must_see_is_where_the_next_run_removes_it(scheduler, tmp_path, monkeypatch):
    """A killed command leaves it; `Survey.remove_temporary` looks into the folders of the stages."""
    corpus, written = audio_corpus(tmp_path / "raw", speakers=1, clips=1), []

    def killed(client, check):
        written.extend((tmp_path / "cache").rglob(".probe-*"))
        raise ClusterError("stop here")

    monkeypatch.setattr(worker_checks, "check_workers", killed)
    with own_worker(scheduler, tmp_path), pytest.raises(ClusterError, match="stop here"):
        preprocess(settings(tmp_path / "cache", scheduler), corpus, lambda line: None)
    assert [path.parent.name.partition("-")[0] for path in written] == ["logmel"]
    assert all(path.suffix == ".tmp" for path in written)
