"""9. Training: whatever stops it, --resume gives the same loss curve, and every file is complete."""

from __future__ import annotations

import csv
import json
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from deiii.data.cache.index import read_index, record_shard, write_index
from deiii.data.cache.outcomes import Outcome, Status
from deiii.data.cache.shard_writer import ShardWriter
from deiii.data.cache.shards import open_shard
from deiii.model.training import checkpoint
from tests.faults.checks import check_done, check_error, check_stopped
from tests.faults.harness import Lost, faults
from tests.faults.processes import Ended, Running, wait_until
from tests.faults.workspace import SLOW_DISK, Workspace

training = faults("9 training")
SAME = "--resume gives the same loss curve to the last digit, and the same weights"
EPOCHS = 8
TIMES = ("seconds", "train_seconds")


def words(work: Workspace, run: Path, cache: Path | None = None) -> list[str]:
    settings = [
        "configs/tiny.yaml",
        *work.tone_words(cache or work.tone_cache),
        "model.video=false",
        "model.flow=false",
    ]
    settings += ["loader.batch=2", f"train.epochs={EPOCHS}", "train.patience=99", "train.ema=0.9"]
    return [*settings, "train.device=cpu", f"train.run={run}", "--quiet"]


def curve(run: Path) -> list[dict]:
    """The rows of metrics.csv without the times, as text, so that every digit is compared."""
    with open(run / "metrics.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]


def undisturbed(work: Workspace) -> Path:
    def make(folder: Path) -> Path:
        check_done(work.run("train", *words(work, folder / "run")))
        return folder / "run"

    return work.cached("curve", make)


def rows(run: Path) -> int:
    return len(curve(run)) if (run / "metrics.csv").exists() else 0


def start(work: Workspace, run: Path, *more: str, **how) -> Running:
    return work.start("train", *words(work, run), *more, **how)


def check_same(work: Workspace, run: Path, again: Ended) -> None:
    expected = undisturbed(work)
    check_done(again)
    if curve(run) != curve(expected):
        raise Lost("the loss curve differs")
    for name in ("last", "best"):
        if (run / f"{name}.safetensors").read_bytes() != (expected / f"{name}.safetensors").read_bytes():
            raise Lost(f"weights differ in {name}.safetensors")
    assert not list(run.glob(".*.tmp")), "temporary files left"


@training("SIGKILL in the middle of epoch {case}", SAME, cases=(0, 2, 5), short={2})
def killed(work: Workspace, case: int) -> str:
    undisturbed(work)
    run = work.folder() / "run"
    first = start(work, run)
    wait_until(lambda: rows(run) >= case and (run / "config.yaml").exists(), first)
    time.sleep(work.random.uniform(0, 0.1))
    first.kill_and_wait()
    kept = rows(run)
    check_same(work, run, start(work, run, "--resume").wait())
    return f"{kept} epochs kept"


@training("SIGKILL five times in one run", SAME)
def killed_often(work: Workspace) -> str:
    undisturbed(work)
    run, kept = work.folder() / "run", []
    for number in range(1, 6):
        one = start(work, run, "--resume")
        wait_until(lambda n=number: rows(run) >= n, one)
        time.sleep(work.random.uniform(0, 0.05))
        one.kill_and_wait()
        kept.append(rows(run))
    check_same(work, run, start(work, run, "--resume").wait())
    return f"after {kept} epochs"


@training("SIGKILL while {case} is being written", SAME, cases=("state", "last", "best", "metrics"))
def killed_while_writing(work: Workspace, case: str) -> str:
    undisturbed(work)
    run = work.folder() / "run"
    first = start(work, run, env=work.environment_with(SLOW_DISK.format(seconds=0.15)))
    wait_until(lambda: rows(run) >= 1, first)
    wait_until(lambda: bool(list(run.glob(f".{case}.*.tmp"))), first)
    first.kill_and_wait()
    left = [p.name for p in run.glob(".*.tmp")]
    for name in ("last", "best", "state"):
        checkpoint.load(run / f"{name}.safetensors")  # complete, whichever file was being written
    check_same(work, run, start(work, run, "--resume").wait())
    return f"{left[0] if left else 'nothing'} left and removed"


@training("{case} in the middle of an epoch", f"ends with status 130; {SAME}",
          cases=("SIGTERM", "Ctrl-C in a terminal", "SIGHUP"))  # fmt: skip
def asked_to_stop(work: Workspace, case: str) -> str:
    undisturbed(work)
    run = work.folder() / "run"
    first = start(work, run)
    wait_until(lambda: rows(run) >= 2, first)
    seconds = check_stopped(work, first, case)
    check_same(work, run, start(work, run, "--resume").wait())
    return f"ended after {seconds:.1f} s"


def _poison(cache: Path) -> str:
    """Set the log-mel of one clip to NaN, with matching digests; returns the id of the clip."""
    folder = next(cache.glob("*/logmel-*"))
    index = read_index(folder)
    record = next(r for r in index.shards if r.name.startswith("s1-"))
    shard, path = open_shard(folder / f"{record.name}.h5"), folder / f"{record.name}.h5"
    provenance = json.loads(shard.info.provenance)
    clips = [(r, {n: np.array(a) for n, a in shard.clip(r.id).items()}) for r in record.clips]
    victim = clips[0][0].id
    clips[0][1]["logmel"][:] = np.nan
    with ShardWriter(path, shard.info.stage, shard.info.key, provenance) as writer:
        for row, arrays in clips:
            writer.add(row.id, Outcome(Status(row.status), row.reason, row.fraction), arrays, row.source)
    shards = [record_shard(path) if r.name == record.name else r for r in index.shards]
    write_index(folder, replace(index, shards=shards))
    return victim


@training(
    "NaN in the features of a clip",
    "stops and names the step and the clips of its batch; the last good checkpoint is kept",
)
def nan(work: Workspace) -> str:
    expected = undisturbed(work)
    cache, run = work.folder() / "cache", work.folder() / "run"
    shutil.copytree(work.tone_cache, cache)
    settings = words(work, run, cache)
    first = work.start("train", *settings)
    wait_until(lambda: rows(run) >= 2, first)
    first.kill_and_wait()
    victim, kept = _poison(cache), rows(run)
    message = check_error(work.run("train", *settings, "--resume"), "step", victim, "last good checkpoint")
    weights, info = checkpoint.load(run / "last.safetensors")
    assert all(w.isfinite().all() for w in weights.values() if w.is_floating_point())
    assert rows(run) == kept == info["epoch"] + 1 and curve(run) == curve(expected)[:kept]
    return message[:100]


@training("a learning rate that diverges", "stops and names the step and the clips of its batch")
def diverges(work: Workspace) -> str:
    run = work.folder() / "run"
    done = work.run("train", *words(work, run), "train.lr=10", "train.weight_decay=10")
    return check_error(done, "step", "clips of that batch", "train.lr")[:80]


def _on_small_disk(work: Workspace) -> tuple[Path, Path]:
    expected = undisturbed(work)
    size = sum(p.stat().st_size for p in expected.rglob("*") if p.is_file())
    mount = work.mount(4 * size / 2**20 + 2)
    return mount, mount / "run"


@training(
    "the disk fills up before a checkpoint",
    f"an error line; no earlier checkpoint is lost; {SAME}",
    short=True,
)
def full(work: Workspace) -> str:
    mount, run = _on_small_disk(work)
    first = start(work, run)
    wait_until(lambda: rows(run) >= 2, first)
    filler = work.fill(mount)
    message = check_error(first.wait(60), "no space", "--resume")
    for name in ("last", "best", "state"):
        checkpoint.load(run / f"{name}.safetensors")
    kept = rows(run)
    assert kept >= 2
    filler.unlink()
    check_same(work, run, start(work, run, "--resume").wait())
    return f"{kept} epochs kept; {message[:80]}"


@training("a read-only run folder", "an error line, exit status 1")
def read_only(work: Workspace) -> str:
    mount, run = _on_small_disk(work)
    run.mkdir()
    work.remount(mount, "ro")
    return check_error(start(work, run).wait(), "read-only")[:80]


@training("metrics.csv read continuously while it is written", "complete rows at every time")
def watched(work: Workspace) -> str:
    undisturbed(work)
    run, stop, seen, broken = work.folder() / "run", threading.Event(), set(), []

    def watch() -> None:
        while not stop.is_set():
            try:
                text = (run / "metrics.csv").read_text()
            except FileNotFoundError:
                continue
            lines = list(csv.reader(text.splitlines()))
            if not text.endswith("\n") or len({len(line) for line in lines}) != 1:
                broken.append(text)
            seen.add(len(lines))

    reader = threading.Thread(target=watch)
    reader.start()
    try:
        done = start(work, run).wait()
    finally:
        stop.set()
        reader.join()
    assert not broken, broken[0][-200:]
    check_same(work, run, done)
    return f"{len(seen)} versions seen"


@training("the state to resume from is {case}", "refused by name", cases=("truncated", "another network's"))
def state(work: Workspace, case: str) -> str:
    run = work.folder() / "run"
    shutil.copytree(undisturbed(work), run)
    path = run / "state.safetensors"
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace(str(undisturbed(work)), str(run)))
    if case == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        tensors, info = checkpoint.load(path)
        name = next(n for n in tensors if n.startswith("model/"))
        checkpoint.save(path, {**tensors, name: tensors[name].flatten()[:1].clone()}, info)
    return check_error(start(work, run, "--resume").wait(), "state.safetensors")[-80:]


@training("a run folder of other settings, then --resume", "refused; the message says what differs")
def other_settings(work: Workspace) -> str:
    run = work.folder() / "run"
    shutil.copytree(undisturbed(work), run)
    return check_error(start(work, run, "--resume", "train.lr=0.5").wait(), "settings")[-80:]
