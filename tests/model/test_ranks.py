"""Several processes train as one: equal losses, no clip twice, one writer, and any number after a stop."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
import two_ranks
from model_helpers import random_batch
from test_train import features_of
from torch import nn

from data.config import ConfigError
from data.schema import Config
from model import checkpoint
from model.__main__ import main
from model.encoders import only_valid, times_taken
from model.masking import random_hide
from model.ranks import VARIABLES, RankError, Ranks, clips_per_rank, device_of, read_environment
from model.synced import Dropout, connect
from model.train import make_loader
from model.whole import whole_batch

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = dict(zip(VARIABLES, ("1", "2", "1", "2", "127.0.0.1", "29500"), strict=True))
PATIENCE = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(command: list[str], world: int, logs: Path) -> list[subprocess.Popen]:
    """One process for each rank, as torchrun starts them; each writes what it says to ``rank<n>.txt``."""
    logs.mkdir(exist_ok=True)
    common = {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1"}
    common |= {"MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    common["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests/model"), str(ROOT)])
    running = []
    for rank in range(world):
        environ = {**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        with open(logs / f"rank{rank}.txt", "w") as log:
            words = [sys.executable, *command]
            running.append(subprocess.Popen(words, env=environ, cwd=ROOT, stdout=log, stderr=log))
    return running


def ended(running: list[subprocess.Popen], logs: Path) -> tuple[list[int], list[str]]:
    """Exit statuses and everything that was said."""
    try:
        codes = [process.wait(PATIENCE) for process in running]
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
    codes, said = ended(start([str(ROOT / "tests/model/two_ranks.py"), str(folder)], 2, folder), folder)
    assert codes == [0, 0], "\n".join(said)
    told = [json.loads((folder / f"told{rank}.json").read_text()) for rank in range(2)]
    return folder, alone, told


def table(run: Path) -> list[dict]:
    """What ``metrics.csv`` holds."""
    with open(run / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def figures(row: dict) -> dict:
    return {k: v for k, v in row.items() if k.startswith(("train_", "val_")) and "seconds" not in k}


def close(history: list[dict], expected: list[dict], tolerance: float = 1e-5) -> None:
    assert len(history) == len(expected)
    for row, other in zip(history, expected, strict=True):
        assert figures(row) == pytest.approx(figures(other), abs=tolerance)


def test_two_processes_have_the_losses_of_one(two):
    """With dropout, hidden modalities, masked frames and sound, missing labels and a last batch not full."""
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


def test_torchrun_trains_as_make_train_does(seen_run, tmp_path):
    """The command of the documentation, on the caches and settings of a run that one process made."""
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *command, "-m", "model", *words(seen_run, tmp_path / "run")],
        cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE,
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
        ["-m", "model", *words(seen_run, tmp_path / "run", "train.epochs=5000", "train.patience=5000")],
        2, tmp_path / "logs",
    )  # fmt: skip
    deadline = time.monotonic() + PATIENCE
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
            [sys.executable, *command, "-m", "model", *words(seen_run, tmp_path / "run", *more)],
            cwd=ROOT, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    deadline = time.monotonic() + PATIENCE
    while not (tmp_path / "run/state.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) != 0
    said = (tmp_path / "said.txt").read_text()
    assert said.count("stopped; what is finished is kept") == 1, said
    state = checkpoint.load(tmp_path / "run/state.safetensors")[1]
    assert state["step"] >= state["batches"] * len(state["history"])


def test_the_door_tells_what_is_wrong_with_the_environment(tmp_path, monkeypatch, capsys):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK", "0")
    assert main(["train", f"train.run={tmp_path / 'run'}"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: RANK=0 is set") and "torchrun" in told
    assert not (tmp_path / "run").exists()


def test_without_torchrun_there_is_one_process():
    assert read_environment({}) == read_environment({"RANK": "0", "WORLD_SIZE": "1"}) == Ranks()


@pytest.mark.parametrize("name", VARIABLES)
def test_a_missing_variable_is_named(name):
    with pytest.raises(RankError, match=f"{name} is not|{name}.* is not"):
        read_environment({k: v for k, v in TORCHRUN.items() if k != name})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"RANK": "two"}, "RANK='two' is not a number"),
        ({"RANK": "2"}, "RANK=2, WORLD_SIZE=2.* cannot be"),
        ({"LOCAL_RANK": "-1"}, "cannot be"),
        ({"LOCAL_WORLD_SIZE": "3"}, "cannot be"),
        ({"MASTER_PORT": "0"}, "MASTER_PORT=0 cannot be"),
    ],
)
def test_an_environment_that_cannot_be_is_refused(changes, says):
    with pytest.raises(RankError, match=says):
        read_environment({**TORCHRUN, **changes})


def test_the_environment_says_who_is_who():
    ranks = read_environment(TORCHRUN)
    assert (ranks.rank, ranks.world, ranks.local, ranks.local_world, ranks.first) == (1, 2, 1, 2, False)


def test_a_batch_that_cannot_be_divided_is_refused():
    assert clips_per_rank(32, 4) == 8
    with pytest.raises(ConfigError, match="loader.batch=32 .* 3 processes; loader.batch=33 can"):
        clips_per_rank(32, 3)


def test_more_processes_than_gpus_are_refused(monkeypatch):
    ranks = Ranks(rank=1, world=4, local=1, local_world=4)
    assert device_of(ranks, "cpu") == torch.device("cpu")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(ConfigError, match="4 processes on .*, which has 2 GPUs; use --nproc-per-node 2"):
        device_of(ranks, "cuda")
    with pytest.raises(ConfigError, match="train.device=cuda:1: several processes take a GPU each"):
        device_of(ranks, "cuda:1")


def test_only_training_is_for_several_processes(monkeypatch, capsys):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert main(["evaluate", "runs/none"]) == 1
    assert "`evaluate` is for one process" in capsys.readouterr().err


@pytest.mark.parametrize("seed", range(6))
def test_an_image_weighs_as_often_as_one_process_copies_it(seed):
    g = torch.Generator().manual_seed(seed)
    mask = torch.rand(17, generator=g) < seed / 5
    mark = torch.arange(1.0, 18.0)[:, None, None, None]
    copied = Counter(only_valid(mark, mask).flatten().tolist())
    weights = times_taken(mask)
    if mask.any():
        assert {n + 1.0: w for n, w in enumerate(weights.tolist()) if w} == copied
    else:
        assert weights.tolist() == [1.0] * 17


def test_ranks_draw_what_one_process_draws():
    batch = random_batch(8)
    config = Config().model
    parts = []
    for rank in range(2):
        ranks, layer = Ranks(rank=rank, world=2, clips=4), Dropout(0.5)
        connect(nn.ModuleList([layer]), ranks)
        torch.manual_seed(5)
        hidden = random_hide(two_ranks.take(batch, range(rank, 8, 2)), 0.6, config, ranks)
        parts.append((hidden, layer(torch.ones(4 * 3, 7))))
    torch.manual_seed(5)
    hidden, dropped = random_hide(batch, 0.6, config), Dropout(0.5)(torch.ones(8 * 3, 7))
    for rank, (part, own) in enumerate(parts):
        assert torch.equal(part.audio_mask, hidden.audio_mask[rank::2])
        assert torch.equal(own.view(4, 3, 7), dropped.view(8, 3, 7)[rank::2])
    assert not hidden.audio_mask.all() and dropped.eq(0).any()


def test_one_process_exchanges_nothing():
    batch, ranks = random_batch(4), Ranks(clips=4)
    outputs = object()
    assert whole_batch(ranks, outputs, batch) == (outputs, batch)
    x = torch.arange(4)
    assert ranks.whole(x) is x and ranks.own(x) is x and ranks.any_wants_to_stop(True)
    assert ranks.of_first([1.0]) == [1.0] and ranks.state_of_first(None) is None
    ranks.check_same({"data": 1})


@pytest.mark.parametrize(("count", "world"), [(11, 2), (8, 4), (3, 4), (23, 3)])
def test_loaders_of_ranks_divide_the_global_batches(count, world):
    config = Config()
    config.model.video = config.model.flow = False
    config.loader.batch = 12
    features = features_of({"logmel": [0] * count})
    device = torch.device("cpu")
    alone = make_loader(features, range(count), config, device, True)
    parts = [
        make_loader(features, range(count), config, device, True, Ranks(rank=r, world=world))
        for r in range(world)
    ]
    for epoch in range(2):
        whole, shares = alone.batches(epoch), [p.batches(epoch) for p in parts]
        assert all(len(s) == len(alone) for s in shares)
        for step, rows in enumerate(whole):
            put_back = torch.tensor([s[step].tolist() for s in shares]).T.flatten().tolist()
            assert put_back == rows.tolist()
