"""Training learns, is reproducible, resumes exactly, and stops when it should."""

import csv
import os
import shutil
import signal

import pytest
import torch

from deiii.data.config.schema import Config, TrainConfig
from deiii.model.distributed.devices import seed_all
from deiii.model.network.deiii import DEIII
from deiii.model.provenance import provenance
from deiii.model.training import checkpoint
from deiii.model.training.monitor import describe, monitored
from deiii.model.training.run_folder import RunFolder
from deiii.model.training.step.step import read_together
from deiii.model.training.trainer import Diverged, Trainer, TrainingSetup
from tests.helpers.model_helpers import CLASSES, MELS, MemoryLoader, random_batch, small_config

CPU = torch.device("cpu")
TIMES = ("seconds", "train_seconds")


def clips(n: int, seed: int):
    """Return clips whose class changes the brightness of the frames and one mel band."""
    batch = random_batch(n, steps=3, hops=12, size=16, seed=seed)
    batch.frames += batch.label[:, None, None, None, None] - 2.0
    batch.logmel[torch.arange(n), :, batch.label] += 3.0
    return batch


def trainer(path, loader=MemoryLoader, **changes):
    settings = {"epochs": 4, "lr": 3e-3, "patience": 99, "ema": 0.9, "seed": 3, **changes}
    config = Config(model=small_config(dropout=0.1), train=TrainConfig(**settings))
    run = RunFolder(path)
    info = {"keys": {}, "split": "x", "classes": ["a"], **provenance()}
    run.create(config, info, resume=True)
    seed_all(config.train.seed)
    model = DEIII(config.model, CLASSES, 0, MELS)
    train, val = loader(clips(40, 1), 8, True, seed=3), MemoryLoader(clips(20, 2), 8, False)
    ids = [f"clip{i}" for i in range(40)]
    return Trainer(model, TrainingSetup(train, val, config, run, CPU, ids, {"corpus": "x"}))


def history(path):
    with open(path / "metrics.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run."""
    path = tmp_path_factory.mktemp("whole")
    return path, trainer(path).fit(progress=False)


@pytest.fixture(autouse=True)
def heeded_ctrl_c():
    """Let the process react to Ctrl-C, even if the tests run as a background job, where shells ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_training_learns_and_writes_its_folder(whole):
    path, best = whole
    rows = history(path)
    assert len(rows) == 4 and float(rows[-1]["train_loss"]) < 0.9 * float(rows[0]["train_loss"])
    assert best["val_uar"] == max(float(r["val_uar"]) for r in rows)
    for name in ("last", "best", "state"):
        assert (path / f"{name}.safetensors").is_file()
    assert any((path / "events").iterdir())
    assert checkpoint.load(path / "best.safetensors")[1]["validation"]["val_uar"] == best["val_uar"]
    assert not list(path.glob(".*"))


def test_two_runs_with_one_seed_are_identical(whole, tmp_path):
    trainer(tmp_path).fit(progress=False)
    assert history(tmp_path) == history(whole[0])
    a, b = (checkpoint.load(p / "last.safetensors")[0] for p in (tmp_path, whole[0]))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_another_seed_differs(whole, tmp_path):
    trainer(tmp_path, seed=4, epochs=1).fit(progress=False)
    assert history(tmp_path)[0]["train_loss"] != history(whole[0])[0]["train_loss"]


class Interrupting(MemoryLoader):
    """Asks this process to stop while a batch of epoch 1 is being used."""

    how = signal.SIGINT
    at = (1, 2)

    def epoch(self, number, start=0):
        for i, batch in enumerate(super().epoch(number, start), start):
            if (number, i) == self.at and start == 0:
                os.kill(os.getpid(), self.how)
            yield batch


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_in_the_last_validation_ends_the_command_and_the_run_is_complete(whole, tmp_path, how):
    """`crossval` would start its next run if the training returned."""

    class InTheLastValidation(MemoryLoader):
        calls = 0

        def epoch(self, number, start=0):
            InTheLastValidation.calls += 1
            if InTheLastValidation.calls == len(history(whole[0])):
                os.kill(os.getpid(), how)
            yield from super().epoch(number, start)

    stopped = trainer(tmp_path)
    stopped.val.__class__ = InTheLastValidation
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(progress=False)
    assert history(tmp_path) == history(whole[0])
    assert trainer(tmp_path).fit(resume=True, progress=False)["val_uar"] == whole[1]["val_uar"]


class StoppedAtOnce(MemoryLoader):
    """Asks this process to stop while the first batch is being used."""

    def epoch(self, number, start=0):
        for i, batch in enumerate(super().epoch(number, start)):
            if i == 0:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_resumes_on_the_same_curve(whole, tmp_path, how, monkeypatch):
    monkeypatch.setattr(Interrupting, "how", how)
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, Interrupting).fit(progress=False)
    assert (
        checkpoint.load(tmp_path / "state.safetensors")[1]["step"] == 8
    )  # 5 steps an epoch; the third of epoch 1 is done
    torch.manual_seed(99)  # random numbers used in between have no effect
    trainer(tmp_path).fit(resume=True, progress=False)
    assert history(tmp_path) == history(whole[0])
    a, b = (checkpoint.load(p / "last.safetensors")[0] for p in (tmp_path, whole[0]))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_stopped_after_the_last_step_of_an_epoch_resumes_on_the_same_curve(
    whole, tmp_path, monkeypatch
):
    monkeypatch.setattr(Interrupting, "at", (1, 4))
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, Interrupting).fit(progress=False)
    assert checkpoint.load(tmp_path / "state.safetensors")[1]["step"] == 10
    trainer(tmp_path).fit(resume=True, progress=False)
    assert history(tmp_path) == history(whole[0])  # with the learning rate of the last step


def test_a_lost_best_checkpoint_of_the_last_epoch_is_restored_from_the_state(tmp_path):
    trainer(tmp_path, epochs=2, monitor="last").fit(progress=False)
    best = tmp_path / "best.safetensors"
    weights, info = checkpoint.load(best)
    best.unlink()  # not written anew in place: ``weights`` is a map of the file
    best.write_bytes(b"damaged")
    (tmp_path / "last.safetensors").unlink()
    trainer(tmp_path, epochs=2, monitor="last").fit(resume=True, progress=False)
    for name in ("best", "last"):
        found, again = checkpoint.load(tmp_path / f"{name}.safetensors")
        assert again == info and all(torch.equal(found[key], weights[key]) for key in weights)


def test_a_lost_best_checkpoint_is_restored_from_the_last_one_or_named(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, Interrupting, epochs=2).fit(progress=False)
    best = tmp_path / "best.safetensors"
    weights, info = checkpoint.load(tmp_path / "last.safetensors")
    best.write_bytes(b"damaged")
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, StoppedAtOnce, epochs=2).fit(resume=True, progress=False)
    assert checkpoint.load(best)[1]["epoch"] == 0
    checkpoint.save(tmp_path / "last.safetensors", weights, {**info, "epoch": 9})
    best.unlink()
    with pytest.raises(checkpoint.CheckpointError, match="missing or damaged.*train the run again"):
        trainer(tmp_path, epochs=2).fit(resume=True, progress=False)


class Killed(BaseException):
    """Ends a training as a kill does."""


@pytest.mark.parametrize("written", range(1, 7))
def test_a_run_killed_between_two_files_of_an_epoch_keeps_state_and_weights_together(
    tmp_path, monkeypatch, written
):
    """If the resumed run stopped early in the same epoch, it would keep the weights of another one."""
    save, done = checkpoint.save, []

    def save_or_die(path, tensors, info):
        if len(done) == written:
            raise Killed
        save(path, tensors, info)
        done.append(path.name)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(checkpoint, "save", save_or_die)
        trainer(tmp_path, monitor="last").fit(progress=False)
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, StoppedAtOnce, monitor="last").fit(resume=True, progress=False)
    state = checkpoint.load(tmp_path / "state.safetensors")[1]
    for name in ("best", "last"):
        info = checkpoint.load(tmp_path / f"{name}.safetensors")[1]
        assert info["epoch"] == state["best_epoch"] == len(state["history"]) - 1
        assert info["validation"]["val_loss"] == state["history"][-1]["val_loss"]
    assert len(history(tmp_path)) == len(state["history"])


def test_resuming_a_finished_run_trains_no_more(whole):
    path, best = whole
    before = (path / "last.safetensors").stat().st_mtime_ns
    assert trainer(path).fit(resume=True, progress=False) == best
    assert (path / "last.safetensors").stat().st_mtime_ns == before


class Poisoned(MemoryLoader):
    def epoch(self, number, start=0):
        for i, batch in enumerate(super().epoch(number, start), start):
            if (number, i) == (1, 3):
                batch.frames[0, 0] = float("inf")
                self.bad = batch.index.tolist()
            yield batch


def test_nan_stops_and_names_the_clips_and_keeps_the_last_good_weights(tmp_path):
    t = trainer(tmp_path, Poisoned)
    with pytest.raises(Diverged, match="step 8; clips of that batch:") as caught:
        t.fit(progress=False)
    assert all(f"clip{i}" in str(caught.value) for i in t.train.bad)
    weights, info = checkpoint.load(tmp_path / "last.safetensors")
    assert info["epoch"] == 0 and all(w.isfinite().all() for w in weights.values())
    assert checkpoint.load(tmp_path / "state.safetensors")[1]["step"] == 5


def test_early_stopping_waits_for_train_patience(tmp_path):
    t = trainer(tmp_path, epochs=12, patience=2, lr=1e-9, ema=0.0)
    t.fit(progress=False)
    assert len(t.history) < 12 and len(t.history) == t.best_epoch + 3


def test_the_monitored_figure():
    row = {"val_loss": 2.0, "val_uar": 0.4, "val_ccc_a": 0.2, "val_ccc_b": 0.6}
    assert monitored(row, "auto") == monitored(row, "uar") == 0.4
    assert monitored(row, "ccc") == pytest.approx(0.4) and monitored(row, "loss") == -2.0
    assert monitored({"val_loss": 2.0}, "auto") == -2.0
    assert monitored({"val_loss": 9.0, "val_uar": 0.1, "epoch": 7}, "last") == 7
    assert monitored({"val_loss": 2.0, "val_ccc_a": 0.1}, "auto") == 0.1
    with pytest.raises(ValueError, match="no such labels"):
        monitored({"val_loss": 2.0}, "uar")
    line = describe({"epoch": 3, "train_loss": 1.0, "seconds": 2.0, **row}, best=True)
    assert "val UAR 0.400  val CCC a 0.200  val CCC b 0.600" in line and line.endswith("best")


@pytest.mark.parametrize("monitor", ["auto", "last"])
def test_no_epoch_is_called_best_where_the_last_one_is_kept(monitor, tmp_path, capfd):
    trainer(tmp_path, epochs=2, monitor=monitor).fit(progress=True)
    lines = [line for line in capfd.readouterr().out.splitlines() if line.startswith("epoch   ")]
    assert len(lines) == 2 and lines[0].endswith("best") == (monitor == "auto")
    assert monitor == "auto" or not lines[1].endswith("best")


def test_statuses_are_read_together_whatever_their_sizes():
    pending = [(3, torch.tensor([1, 7, -1])), (4, torch.tensor([0, 2])), (5, torch.tensor([1]))]
    assert read_together(pending) == [(3, [1, 7, -1]), (4, [0, 2]), (5, [1])]
    assert read_together([]) == []


def test_weights_in_the_place_of_the_state_are_an_error(whole, tmp_path):
    """Both are checkpoints of this network, but weights do not say at which step to go on."""
    shutil.copytree(whole[0], tmp_path / "run")
    shutil.copy(tmp_path / "run/best.safetensors", tmp_path / "run/state.safetensors")
    with pytest.raises(checkpoint.CheckpointError, match=r"state\.safetensors is .*it lacks step, history"):
        trainer(tmp_path / "run").fit(resume=True, progress=False)
    shutil.copy(whole[0] / "state.safetensors", tmp_path / "run/best.safetensors")
    with pytest.raises(checkpoint.CheckpointError, match=r"best\.safetensors is .*it lacks epoch"):
        checkpoint.load(tmp_path / "run/best.safetensors", ["epoch"])
