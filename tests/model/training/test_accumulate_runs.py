"""Trainings with batches in parts: their records, resuming, divergence, launches and refusals."""

from __future__ import annotations

import csv
import signal

import pytest
import torch

from deiii.__main__ import main
from deiii.data.config.schema import Config, TrainConfig
from deiii.data.config.strict_yaml import ConfigError
from deiii.model.distributed.devices import seed_all
from deiii.model.network.deiii import DEIII
from deiii.model.provenance import provenance
from deiii.model.training import checkpoint
from deiii.model.training.run_folder import RunFolder
from deiii.model.training.trainer import Diverged, Trainer, TrainingSetup
from tests.helpers.clips import audio_corpus
from tests.helpers.model_helpers import CLASSES, MELS, MemoryLoader, small_config
from tests.helpers.shared_worker import preprocess
from tests.model.training.test_no_sync import NoSync
from tests.model.training.test_trainer import CPU, Interrupting, clips, history

RATED = {"attributes": ["valence"], "audio_channels": [8, 12], "flow": False}


def trainer(path, parts: int, loader=MemoryLoader, dropout: float = 0.0, **changes) -> Trainer:
    """Return a training of frames and audio with classes and an attribute, in batches of 8."""
    plain = {"epochs": 3, "lr": 3e-3, "patience": 99, "ema": 0.9, "seed": 3, "accumulate": parts}
    config = Config(model=small_config(dropout=dropout, **RATED), train=TrainConfig(**{**plain, **changes}))
    config.loader.batch = 8
    run = RunFolder(path)
    run.create(config, {"keys": {}, "split": "x", "classes": ["a"], **provenance()}, resume=True)
    seed_all(config.train.seed)
    model = DEIII(config.model, CLASSES, 1, MELS)
    val = MemoryLoader(one_rating(clips(20, 2)), 8, False)
    train = loader(one_rating(clips(40, 1)), 8, True, seed=3)
    ids = [f"clip{i}" for i in range(40)]
    return Trainer(model, TrainingSetup(train, val, config, run, CPU, ids, {"corpus": "x"}))


def one_rating(batch):
    """Return clips with one attribute."""
    batch.attributes = batch.attributes[:, :1]
    return batch


def numbers(rows: list[dict]) -> list[list[float]]:
    return [
        [float(value) for name, value in row.items() if name.startswith(("train_", "val_"))] for row in rows
    ]


def test_a_training_in_parts_has_the_curve_of_one_with_whole_batches(tmp_path):
    """With averaged weights, clipping and modality dropout; nothing but rounding differs."""
    for name, parts in (("whole", 1), ("parts", 4)):
        trainer(tmp_path / name, parts).fit(progress=False)
    whole, parts = (history(tmp_path / name) for name in ("whole", "parts"))
    assert whole[0].keys() == parts[0].keys() and "train_loss" in whole[0]
    for row, other in zip(numbers(parts), numbers(whole), strict=True):
        assert row == pytest.approx(other, abs=2e-3)
    assert numbers(parts)[0][:3] == pytest.approx(numbers(whole)[0][:3], abs=1e-5)


def test_a_stopped_training_in_parts_resumes_on_the_same_curve(tmp_path):
    """Bit by bit, with dropout, whose draws depend on the parts."""
    trainer(tmp_path / "whole", 4, dropout=0.2).fit(progress=False)
    # A shell may have started the tests without a reaction to Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            trainer(tmp_path / "run", 4, Interrupting, dropout=0.2).fit(progress=False)
    finally:
        signal.signal(signal.SIGINT, before)
    torch.manual_seed(99)
    trainer(tmp_path / "run", 4, dropout=0.2).fit(resume=True, progress=False)
    assert history(tmp_path / "run") == history(tmp_path / "whole")
    a, b = (checkpoint.load(tmp_path / n / "last.safetensors")[0] for n in ("run", "whole"))
    assert all(torch.equal(a[name], b[name]) for name in a)


class Poisoned(MemoryLoader):
    """The seventh clip of step 3 is infinite."""

    def epoch(self, number, start=0):
        for i, batch in enumerate(super().epoch(number, start), start):
            if (number, i) == (0, 3):
                batch.logmel[6] = float("inf")
            yield batch


def test_a_nan_in_one_part_names_the_step_and_the_whole_batch(tmp_path):
    with pytest.raises(Diverged, match="at step 3; clips of that batch") as caught:
        trainer(tmp_path, 4, Poisoned).fit(progress=False)
    assert str(caught.value).count("clip") == 1 + 8  # all clips of the batch


def test_a_step_in_parts_reads_nothing_back(tmp_path):
    run = trainer(tmp_path, 4, dropout=0.2, modality_dropout=0.5)
    batch = one_rating(clips(8, 5))
    run.training_step.prepare(0)
    run.training_step(batch)  # the optimiser makes its state in the first step
    with NoSync():
        run.training_step(batch)


@pytest.mark.slow  # compiles a network
def test_a_compiled_training_in_parts_has_the_same_losses(tmp_path):
    for name, launch in (("eager", "eager"), ("compiled", "compile")):
        trainer(tmp_path / name, 4, launch=launch, epochs=1).fit(progress=False)
    eager, compiled = (numbers(history(tmp_path / name))[0] for name in ("eager", "compiled"))
    assert compiled[:3] == pytest.approx(eager[:3], abs=1e-4)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The words of a command that trains on a tiny corpus of audio whose features are computed."""
    path = tmp_path_factory.mktemp("accumulate")
    audio_corpus(path / "raw", speakers=6)
    with open(path / "raw/clips.csv", "w", newline="") as file:
        rows = [(f"s{s}/c{n}.flac", f"s{s}", "low" if n % 2 else "high") for s in range(6) for n in range(4)]
        csv.writer(file).writerows([("path", "speaker", "label"), *rows])
    words = ["configs/ravdess_audio.yaml", "corpus.name=table", f"corpus.root={path / 'raw'}"]
    words += [f"cache={path / 'cache'}", "split.protocol=speakers", "loader.batch=6"]
    words += ["train.epochs=2", "train.device=cpu"]
    assert preprocess(*words) == 0
    return path, words


def test_the_command_trains_in_parts_and_records_it(corpus):
    path, words = corpus
    # Batch normalisation is in the encoder. AdamW would take whole steps for rounding.
    words = [*words, "model.dropout=0", "train.class_weights=true", "train.optimizer=sgd"]
    words += ["train.amp=off"]
    found = {}
    for parts in (1, 3):
        run = path / f"run{parts}"
        command = ["train", *words, f"train.run={run}", f"train.accumulate={parts}", "--quiet"]
        assert main(command) == 0
        found[parts] = history(run)
        assert f"accumulate: {parts}\n" in (run / "config.yaml").read_text()
        assert main([*command, "--resume"]) == 0  # finished: nothing is left to train
    assert [row["step"] for row in found[3]] == [row["step"] for row in found[1]]
    assert float(found[3][0]["train_loss"]) == pytest.approx(float(found[1][0]["train_loss"]), abs=1e-6)


def test_a_run_does_not_resume_with_another_number_of_parts(corpus, capsys):
    """Dropout draws other numbers in parts, so the result is another one."""
    path, words = corpus
    words = [*words, f"train.run={path / 'other'}", "--quiet"]
    assert main(["train", *words, "train.accumulate=2"]) == 0
    assert main(["train", *words, "train.accumulate=3", "--resume"]) == 1
    assert "train.accumulate" in capsys.readouterr().err


def test_the_command_refuses_before_it_writes(corpus, capsys):
    path, words = corpus
    run = path / "refused"
    assert main(["train", *words, "train.accumulate=4", f"train.run={run}"]) == 1
    assert "train.accumulate=4 cannot divide loader.batch=6 into equal parts" in capsys.readouterr().err
    assert not run.exists()


def test_a_layer_of_a_package_is_refused_before_the_run_folder_is_written(corpus, monkeypatch, capsys):
    path, words = corpus
    run = path / "package"

    def network(self, config, imagenet=None):
        model = DEIII(config.model, len(self.classes), 0, 80)
        model.add_module("theirs", torch.nn.BatchNorm1d(3))
        return model

    monkeypatch.setattr("deiii.model.network.task.Task.network", network)
    words = [*words, f"train.run={run}"]
    assert main(["train", *words, "train.accumulate=2"]) == 1
    assert "this network has the batch normalisation theirs;" in capsys.readouterr().err
    assert not (run / "config.yaml").exists() and not list(run.glob("*.json"))


def test_a_share_of_a_process_that_cannot_be_divided_is_refused():
    from deiii.model.distributed.ranks import Ranks
    from deiii.model.training.train import _train

    config = Config(model=small_config(**RATED), train=TrainConfig(accumulate=4, device="cpu"))
    config.loader.batch = 8
    with pytest.raises(ConfigError, match="the 2 clips of loader.batch=8 that each of 4 processes computes"):
        _train(config, Ranks(world=4, clips=2), None, None, False, False, None, Trainer)
