"""Two processes train as one: equal losses, no clip twice, one writer, and any number after a stop."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from torch.distributed import TCPStore

from deiii.model.distributed.ranks import Ranks
from deiii.model.training import checkpoint
from tests.helpers import two_ranks
from tests.helpers.ports import free_port
from tests.helpers.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[3]


def start(
    command: list[str], world: int, logs: Path, store: TCPStore | None = None
) -> list[subprocess.Popen]:
    """Start one process for each rank, as torchrun does; each writes its output to ``rank<n>.txt``.

    The ranks meet at a store of this process, as under torchrun, whose port nothing else can take. Without
    one, rank 0 opens it at a port that was free.
    """
    logs.mkdir(exist_ok=True)
    common = {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1"}
    common |= {"MASTER_PORT": str(free_port() if store is None else store.port), "OMP_NUM_THREADS": "1"}
    if store is not None:
        common |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
    common["PYTHONPATH"] = str(ROOT)
    running = []
    for rank in range(world):
        environ = {**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        with open(logs / f"rank{rank}.txt", "w") as log:
            words = [sys.executable, *command]
            running.append(subprocess.Popen(words, env=environ, cwd=ROOT, stdout=log, stderr=log))
    return running


def ended(running: list[subprocess.Popen], logs: Path) -> tuple[list[int], list[str]]:
    """Return the exit statuses and the outputs of the processes."""
    try:
        codes = [process.wait(PATIENCE_S) for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    return codes, [(logs / f"rank{n}.txt").read_text() for n in range(len(running))]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes did (`two_ranks.py`), and an unbroken run of one process."""
    folder = tmp_path_factory.mktemp("two")
    alone = two_ranks.trainer(folder / "alone", Ranks(clips=two_ranks.BATCH))
    alone.fit(progress=False)
    with pytest.raises(KeyboardInterrupt):
        two_ranks.trainer(folder / "begun_alone", Ranks(clips=two_ranks.BATCH), two_ranks.Interrupted).fit(
            progress=False
        )
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    codes, said = ended(start(["-m", "tests.helpers.two_ranks", str(folder)], 2, folder, store), folder)
    assert codes == [0, 0] and not any("Warning" in text for text in said), "\n".join(said)
    told = [json.loads((folder / f"told{rank}.json").read_text()) for rank in range(2)]
    return folder, alone, told


def table(run: Path) -> list[dict]:
    """Return the rows of ``metrics.csv``."""
    with open(run / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def figures(row: dict) -> dict:
    return {k: v for k, v in row.items() if k.startswith(("train_", "val_")) and "seconds" not in k}


def close(history: list[dict], expected: list[dict], tolerance: float = 1e-5) -> None:
    assert len(history) == len(expected)
    for row, other in zip(history, expected, strict=True):
        assert figures(row) == pytest.approx(figures(other), abs=tolerance)


def test_two_processes_have_the_losses_of_one(two):
    """With dropout, hidden streams, masked frames and audio, missing labels and an incomplete last batch."""
    _, alone, told = two
    close(told[0]["history"], alone.history)
    assert figures(told[1]["history"][-1]) == figures(told[0]["history"][-1])


def test_two_processes_end_with_the_weights_of_one(two):
    folder, _, told = two
    assert told[0]["weights"] == told[1]["weights"]
    for name in ("last", "best", "state"):
        a, b = (checkpoint.load(folder / run / f"{name}.safetensors")[0] for run in ("whole", "alone"))
        assert a.keys() == b.keys()
        for key in a:
            if not key.startswith("optimizer"):
                # AdamW takes a whole step for a gradient that is nothing but rounding, hence means too.
                away = (a[key].float() - b[key].float()).abs()
                assert away.max() < 1e-3 and away.mean() < 1e-5, (key, away.max(), away.mean())


def test_two_processes_with_batches_in_parts_have_the_losses_of_one_with_whole_batches(two, tmp_path):
    """Each process computes its half of a batch in two parts, and exchanges gradients after the second.

    Encoders with batch normalisation are computed for both halves at once.
    """
    alone = two_ranks.trainer(tmp_path, Ranks(clips=two_ranks.BATCH), network=two_ranks.WITHOUT_DROPOUT)
    alone.fit(progress=False)
    told = two[2]
    close(told[0]["parts"], alone.history)
    assert figures(told[1]["parts"][-1]) == figures(told[0]["parts"][-1])
    assert told[0]["exchanges"] == told[0]["steps"] == alone.step


def test_every_clip_is_used_once_an_epoch_by_one_of_them(two):
    _, alone, told = two
    steps = len(alone.train)
    for epoch in range(alone.settings.epochs):
        part = slice(epoch * steps, (epoch + 1) * steps)
        both = [Counter(sum(t["seen"][part], [])) for t in told]
        assert both[0] + both[1] == Counter(range(44))
    for ours, *theirs in zip(alone.train.seen, *(t["seen"] for t in told), strict=True):
        assert sorted(ours) == sorted(sum(theirs, [])), "not the global batch of one process"


def test_rank_zero_alone_writes(two):
    folder, _, told = two
    names = {p.name for p in (folder / "whole").iterdir()}
    assert names == {p.name for p in (folder / "alone").iterdir()}
    assert len(list((folder / "whole/events").iterdir())) == 1
    assert [float(r["val_loss"]) for r in table(folder / "whole")] == [
        r["val_loss"] for r in told[0]["history"]
    ]


def test_what_one_process_began_two_finish_on_the_same_curve(two):
    _, alone, told = two
    close(told[0]["resumed"], alone.history)
    close(told[1]["resumed"], alone.history)


def test_what_two_began_one_finishes_on_the_same_curve(two):
    """The last rank alone had been asked to stop: both stopped after the same step, the first saved it."""
    folder, alone, told = two
    assert [t["halted"] for t in told] == ["stopped", "stopped"]
    steps = checkpoint.load(folder / "halted/state.safetensors")[1]["step"]
    assert len(alone.train) < steps < 2 * len(alone.train)
    again = two_ranks.trainer(folder / "halted", Ranks(clips=two_ranks.BATCH))
    again.fit(resume=True, progress=False)
    close(again.history, alone.history)


def test_statistics_that_rank_zero_alone_reads_are_those_of_both(two):
    """Rank 0 alone reads ``train.start`` and ImageNet weights; batch statistics are no parameters."""
    folder, _, told = two
    alone = two_ranks.trainer(
        folder / "alone_started", Ranks(clips=two_ranks.BATCH), statistics=2.0, epochs=1
    )
    alone.fit(progress=False)
    assert told[0]["statistics"] == told[1]["statistics"]
    close(told[0]["started"], alone.history)
    close(told[1]["started"], alone.history)


def test_nan_on_one_rank_stops_both_and_names_the_whole_batch(two):
    folder, _, told = two
    assert told[0]["diverged"] == told[1]["diverged"]
    poisoned = two_ranks.trainer(folder / "again", Ranks(clips=two_ranks.BATCH), two_ranks.Poisoned, epochs=1)
    rows = list(poisoned.train.epoch(0))[3]
    assert all(two_ranks.IDS[i] in told[0]["diverged"] for i in rows.index.tolist())
    assert "at step 3" in told[0]["diverged"]


def test_other_data_on_another_machine_are_refused(two):
    assert all("rank 1 on" in t["differs"] and "other data than rank 0" in t["differs"] for t in two[2])


def words(seen_run: Path, run: Path, *more: str) -> list[str]:
    return ["train", str(seen_run / "run/config.yaml"), f"train.run={run}", "--quiet", *more]


@pytest.mark.slow  # half a minute of processor time; the test of the losses trains with two processes, too
def test_torchrun_trains_as_make_train_does(seen_run, tmp_path):
    """The command of the documentation, on the caches and settings of a run that one process made."""
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *command, "-m", "deiii", *words(seen_run, tmp_path / "run")],
        cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("best epoch") == 1 and "2 processes" not in done.stdout
    rows = [table(folder)[0] for folder in (tmp_path / "run", seen_run / "run")]
    ours, theirs = (figures({k: float(v) for k, v in row.items() if v}) for row in rows)
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert json.loads((tmp_path / "run/run.json").read_text())["processes"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_where_one_is_killed_the_other_ends_and_says_so(seen_run, tmp_path, rank):
    running = start(
        ["-m", "deiii", *words(seen_run, tmp_path / "run", "train.epochs=5000", "train.patience=5000")],
        2, tmp_path / "logs",
    )  # fmt: skip
    deadline = time.monotonic() + PATIENCE_S
    while not (tmp_path / "run/state.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    running[rank].kill()
    begun = time.monotonic()
    codes, said = ended(running, tmp_path / "logs")
    assert codes[rank] == -signal.SIGKILL and codes[1 - rank] == 1 and time.monotonic() - begun < 30
    assert f"error: rank {1 - rank} of 2 lost the connection" in said[1 - rank]
    assert "Traceback" not in said[1 - rank]
    assert checkpoint.load(tmp_path / "run/state.safetensors")[1]["step"] > 0


@pytest.mark.slow
def test_ctrl_c_under_torchrun_saves_and_ends_all(seen_run, tmp_path):
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    more = ("train.epochs=5000", "train.patience=5000")
    with open(tmp_path / "said.txt", "w") as log:
        process = subprocess.Popen(
            [sys.executable, *command, "-m", "deiii", *words(seen_run, tmp_path / "run", *more)],
            cwd=ROOT, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    deadline = time.monotonic() + PATIENCE_S
    while not (tmp_path / "run/state.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) != 0
    said = (tmp_path / "said.txt").read_text()
    assert said.count("stopped; finished work is kept") == 1, said
    state = checkpoint.load(tmp_path / "run/state.safetensors")[1]
    assert state["step"] >= state["batches"] * len(state["history"])
