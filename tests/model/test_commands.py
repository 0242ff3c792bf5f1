"""Preprocess, train, resume and evaluate a small corpus through the real commands."""

from __future__ import annotations

import csv
import json
import signal

import pytest
import torch

from deiii.__main__ import main
from deiii.data.config.load import load_config
from deiii.data.corpora.splits import Split
from deiii.data.tools.processes.signals import INTERRUPTED
from tests.helpers.clips import audio_corpus
from tests.helpers.shared_worker import preprocess


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A corpus of tones through every command, with audio alone."""
    folder = tmp_path_factory.mktemp("commands")
    corpus = audio_corpus(folder / "raw", speakers=6)
    with open(folder / "raw/clips.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "speaker", "label"])
        writer.writerows([c.path, c.speaker, c.label] for c in corpus.clips)
    words = ["configs/tiny.yaml", "corpus.name=table", f"corpus.root={folder / 'raw'}", "stages=[logmel]"]
    words += [f"cache={folder / 'cache'}", "model.video=false", "model.flow=false"]
    words += [f"train.run={folder / 'run'}", "train.epochs=2", "loader.batch=4", "train.device=cpu"]
    assert preprocess(*words) == 0
    assert main(["train", *words, "--quiet"]) == 0
    return folder, words


def test_the_run_folder_holds_all_files(trained):
    run = trained[0] / "run"
    names = {p.name for p in run.iterdir()}
    assert {
        "config.yaml",
        "run.json",
        "split.json",
        "metrics.csv",
        "best.safetensors",
        "last.safetensors",
    } <= names
    with open(run / "metrics.csv", newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1"]
    assert any((run / "events").iterdir())  # TensorBoard


def test_speakers_do_not_cross_the_splits_of_a_run(trained):
    split = Split.load(trained[0] / "run/split.json")
    speakers = [set(split.speakers(part)) for part in ("train", "val", "test")]
    assert all(speakers) and sum(map(len, speakers)) == len(set.union(*speakers)) == 6


def test_resuming_a_finished_run_changes_nothing(trained):
    folder, words = trained
    before = (folder / "run/last.safetensors").read_bytes()
    assert main(["train", *words, "--quiet", "--resume"]) == 0
    assert (folder / "run/last.safetensors").read_bytes() == before


def test_an_existing_run_is_refused_with_the_way_to_continue(trained, capsys):
    assert main(["train", *trained[1], "--quiet"]) == 1
    told = capsys.readouterr().err
    assert "--resume" in told and "ARGS=--resume" in told


def test_stopped_training_says_how_to_continue(trained, capsys, monkeypatch):
    def stopped(*args, **more):
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr("deiii.model.training.train.train", stopped)
    try:
        assert main(["train", *trained[1]]) == INTERRUPTED
    finally:
        signal.signal(signal.SIGINT, before)
    assert "--resume" in capsys.readouterr().err


def test_evaluation_scores_the_test_speakers(trained):
    run = trained[0] / "run"
    assert main(["evaluate", str(run)]) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    with open(run / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    tested = set(Split.load(run / "split.json").test)
    assert {r["clip"] for r in rows} == tested
    right = sum(r["truth"] == r["predicted"] for r in rows)
    assert metrics["test"]["war"] == pytest.approx(right / len(rows))
    assert "<script" not in (run / "report.html").read_text()


def test_training_without_caches_says_what_to_run(trained, capsys, tmp_path):
    assert main(["train", *trained[1], f"cache={tmp_path}", f"train.run={tmp_path / 'run'}"]) == 1
    assert "deiii preprocess" in capsys.readouterr().err


def test_an_unknown_setting_is_one_line_of_error(capsys):
    assert main(["train", "train.epoch=3"]) == 1
    assert "did you mean 'train.epochs'" in capsys.readouterr().err


def test_a_network_without_a_preset_for_small_crops_is_told_which_preset_fits():
    from deiii.data.config.strict_yaml import ConfigError
    from deiii.model.training.start.checks import check_sizes

    with pytest.raises(ConfigError, match="name a preset of the network that fits, tiny, or use a smaller"):
        check_sizes(load_config("synthetic"))
    check_sizes(load_config(["synthetic", "tiny"]))


@pytest.mark.parametrize("crop", [16, 28, 31, 32, 33, 40, 48, 63])
@pytest.mark.parametrize("words", [["model.flow=false"], ["model.video=false"], ["model.imagenet=true"]])
def test_a_crop_too_small_for_the_grid_is_refused_before_training(crop, words):
    """The check agrees with the encoders themselves."""
    from deiii.data.config.strict_yaml import ConfigError
    from deiii.model.network.inputs.build import flow_encoder, frame_encoder
    from deiii.model.training.start.checks import check_sizes

    config = load_config(["synthetic", "tiny"], [*words, f"loader.crop={crop}", "model.grid=3"])
    fits = True
    for encoder, channels in ((frame_encoder(config.model, None), 3), (flow_encoder(config.model), 2)):
        try:
            if encoder is not None:
                encoder.eval()(torch.zeros(1, channels, crop, crop))
        except ValueError:
            fits = False
    if fits:
        check_sizes(config)
    else:
        with pytest.raises(ConfigError, match=f"loader.crop={crop} gives . rows? of features"):
            check_sizes(config)
