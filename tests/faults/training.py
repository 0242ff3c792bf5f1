"""9. Training: whatever stops it, --resume ends on the very same curve, and no file is ever half."""

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
from tests.faults.checks import check_done, check_stopped, check_told
from tests.faults.harness import Lost, faults
from tests.faults.laboratory import SLOW_DISK, Lab
from tests.faults.processes import Ended, Running, wait_until

training = faults("9 training")
SAME = "--resume ends on the same loss curve to the last digit, with the same weights"
EPOCHS = 8
TIMES = ("seconds", "train_seconds")


def words(lab: Lab, run: Path, cache: Path | None = None) -> list[str]:
    settings = [
        "configs/tiny.yaml",
        *lab.tone_words(cache or lab.heard),
        "model.video=false",
        "model.flow=false",
    ]
    settings += ["loader.batch=2", f"train.epochs={EPOCHS}", "train.patience=99", "train.ema=0.9"]
    return [*settings, "train.device=cpu", f"train.run={run}", "--quiet"]


def curve(run: Path) -> list[dict]:
    """The rows of metrics.csv but for the times, as text: to the last digit."""
    with open(run / "metrics.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]


def undisturbed(lab: Lab) -> Path:
    def make(folder: Path) -> Path:
        check_done(lab.run("train", *words(lab, folder / "run")))
        return folder / "run"

    return lab.once("curve", make)


def rows(run: Path) -> int:
    return len(curve(run)) if (run / "metrics.csv").exists() else 0


def start(lab: Lab, run: Path, *more: str, **how) -> Running:
    return lab.start("train", *words(lab, run), *more, **how)


def check_same(lab: Lab, run: Path, again: Ended) -> None:
    whole = undisturbed(lab)
    check_done(again)
    if curve(run) != curve(whole):
        raise Lost("another loss curve")
    for name in ("last", "best"):
        if (run / f"{name}.safetensors").read_bytes() != (whole / f"{name}.safetensors").read_bytes():
            raise Lost(f"other weights in {name}.safetensors")
    assert not list(run.glob(".*.tmp")), "temporary files left"


@training("SIGKILL in the middle of epoch {case}", SAME, cases=(0, 2, 5), short={2})
def killed(lab: Lab, case: int) -> str:
    undisturbed(lab)
    run = lab.folder() / "run"
    first = start(lab, run)
    wait_until(lambda: rows(run) >= case and (run / "config.yaml").exists(), first)
    time.sleep(lab.random.uniform(0, 0.1))
    first.slay()
    kept = rows(run)
    check_same(lab, run, start(lab, run, "--resume").wait())
    return f"{kept} epochs kept"


@training("SIGKILL five times in one run", SAME)
def killed_often(lab: Lab) -> str:
    undisturbed(lab)
    run, kept = lab.folder() / "run", []
    for number in range(1, 6):
        one = start(lab, run, "--resume")
        wait_until(lambda n=number: rows(run) >= n, one)
        time.sleep(lab.random.uniform(0, 0.05))
        one.slay()
        kept.append(rows(run))
    check_same(lab, run, start(lab, run, "--resume").wait())
    return f"after {kept} epochs"


@training("SIGKILL while {case} is being written", SAME, cases=("state", "last", "best", "metrics"))
def killed_while_writing(lab: Lab, case: str) -> str:
    undisturbed(lab)
    run = lab.folder() / "run"
    first = start(lab, run, env=lab.injected(SLOW_DISK.format(seconds=0.15)))
    wait_until(lambda: rows(run) >= 1, first)
    wait_until(lambda: bool(list(run.glob(f".{case}.*.tmp"))), first)
    first.slay()
    left = [p.name for p in run.glob(".*.tmp")]
    for name in ("last", "best", "state"):
        checkpoint.load(run / f"{name}.safetensors")  # whole, whatever was being written
    check_same(lab, run, start(lab, run, "--resume").wait())
    return f"{left[0] if left else 'nothing'} left and removed"


@training("{case} in the middle of an epoch", f"ends with status 130; {SAME}",
          cases=("SIGTERM", "Ctrl-C in a terminal"))  # fmt: skip
def asked(lab: Lab, case: str) -> str:
    undisturbed(lab)
    run = lab.folder() / "run"
    first = start(lab, run)
    wait_until(lambda: rows(run) >= 2, first)
    seconds = check_stopped(lab, first, case)
    check_same(lab, run, start(lab, run, "--resume").wait())
    return f"ended after {seconds:.1f} s"


def _poison(cache: Path) -> str:
    """Make one clip's log-mel NaN, with digests that are right; returns the clip's id."""
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
    "stops with the step and the clips of its batch; the last good checkpoint stays",
)
def nan(lab: Lab) -> str:
    whole = undisturbed(lab)
    cache, run = lab.folder() / "cache", lab.folder() / "run"
    shutil.copytree(lab.heard, cache)
    settings = words(lab, run, cache)
    first = lab.start("train", *settings)
    wait_until(lambda: rows(run) >= 2, first)
    first.slay()
    victim, kept = _poison(cache), rows(run)
    told = check_told(lab.run("train", *settings, "--resume"), "step", victim, "last good checkpoint")
    weights, info = checkpoint.load(run / "last.safetensors")
    assert all(w.isfinite().all() for w in weights.values() if w.is_floating_point())
    assert rows(run) == kept == info["epoch"] + 1 and curve(run) == curve(whole)[:kept]
    return told[:100]


@training("a learning rate that diverges", "stops with the step and the clips, or ends with finite figures")
def diverges(lab: Lab) -> str:
    run = lab.folder() / "run"
    done = lab.run("train", *words(lab, run), "train.lr=1e30", "train.clip_norm=1e30")
    return check_told(done, "step", "clips of that batch", "train.lr")[:80]


def _on_small_disk(lab: Lab) -> tuple[Path, Path]:
    whole = undisturbed(lab)
    size = sum(p.stat().st_size for p in whole.rglob("*") if p.is_file())
    mount = lab.mount(4 * size / 2**20 + 2)
    return mount, mount / "run"


@training(
    "the disk fills up before a checkpoint",
    f"a line that says so; no older checkpoint is lost; {SAME}",
    short=True,
)
def full(lab: Lab) -> str:
    mount, run = _on_small_disk(lab)
    first = start(lab, run)
    wait_until(lambda: rows(run) >= 2, first)
    filler = lab.fill(mount)
    told = check_told(first.wait(60), "no space", "--resume")
    for name in ("last", "best", "state"):
        checkpoint.load(run / f"{name}.safetensors")
    kept = rows(run)
    assert kept >= 2
    filler.unlink()
    check_same(lab, run, start(lab, run, "--resume").wait())
    return f"{kept} epochs kept; {told[:80]}"


@training("a read-only run folder", "a line that says so, exit status 1")
def read_only(lab: Lab) -> str:
    mount, run = _on_small_disk(lab)
    run.mkdir()
    lab.remount(mount, "ro")
    return check_told(start(lab, run).wait(), "read-only")[:80]


@training("metrics.csv read all the time while it is written", "whole rows at every moment")
def watched(lab: Lab) -> str:
    undisturbed(lab)
    run, stop, seen, broken = lab.folder() / "run", threading.Event(), set(), []

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
        done = start(lab, run).wait()
    finally:
        stop.set()
        reader.join()
    assert not broken, broken[0][-200:]
    check_same(lab, run, done)
    return f"{len(seen)} versions seen"


@training("the state to resume from is {case}", "refused with its name", cases=("cut", "another network's"))
def state(lab: Lab, case: str) -> str:
    run = lab.folder() / "run"
    shutil.copytree(undisturbed(lab), run)
    path = run / "state.safetensors"
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace(str(undisturbed(lab)), str(run)))
    if case == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        tensors, info = checkpoint.load(path)
        name = next(n for n in tensors if n.startswith("model/"))
        checkpoint.save(path, {**tensors, name: tensors[name].flatten()[:1].clone()}, info)
    return check_told(start(lab, run, "--resume").wait(), "state.safetensors")[-80:]


@training("a run folder of other settings, then --resume", "refused with what differs")
def other_settings(lab: Lab) -> str:
    run = lab.folder() / "run"
    shutil.copytree(undisturbed(lab), run)
    return check_told(start(lab, run, "--resume", "train.lr=0.5").wait(), "settings")[-80:]
