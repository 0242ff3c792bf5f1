"""A final network: trained on all speakers, exported and used, and refused by each command that scores."""

from __future__ import annotations

import json
import shutil

import pytest

from deiii.__main__ import main
from deiii.data.config.words import read_settings
from deiii.data.loader.feature_split import open_split
from deiii.model.evaluation.predictions import read_predictions
from deiii.model.training.run_folder import RunError, RunFolder
from tests.helpers.shared_worker import preprocess
from tests.helpers.tables import tone_rows, words_for, write_rows

FINAL = ("split.protocol=all-speakers", "split.val_share=0", "train.monitor=last")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Four speakers, preprocessed, and a network that was trained on all of them."""
    base = tmp_path_factory.mktemp("all")
    write_rows(base / "raw", tone_rows(base / "raw", speakers=4))
    words = (*words_for(base / "raw", base / "cache", base / "run"), *FINAL)
    assert preprocess(*words) == 0
    assert main(["train", *words, "--quiet"]) == 0
    return base, words


def test_every_clip_of_every_speaker_is_trained_on(made):
    base, words = made
    split = RunFolder(base / "run").read_split()
    assert split.speakers("train") == ("s0", "s1", "s2", "s3") and not split.val and not split.test
    counts = json.loads((base / "run/run.json").read_text())["clips"]
    assert counts == {"train": len(split.speaker_of), "val": 0, "test": 0}
    assert open_split(*words) == split


def test_speakers_can_be_kept_for_validation(made):
    _, words = made
    split = open_split(*words, "split.val_share=0.3", "train.monitor=loss")
    assert len(split.speakers("val")) == 1 and len(split.speakers("train")) == 3 and not split.test


def test_training_ends_with_what_to_do_next(made, tmp_path, capsys):
    _, words = made
    assert main(["train", *words, f"train.run={tmp_path / 'again'}"]) == 0
    out = capsys.readouterr().out
    assert "training: " in out and "test: no clips" in out
    assert f"next: deiii predict {tmp_path / 'again'} FILE" in out and "deiii evaluate" not in out


@pytest.mark.parametrize("more", [[], ["--keep"], ["--again"], ["--corrupt", "noise=10"]])
def test_it_is_not_scored(made, capsys, more):
    base, _ = made
    assert main(["evaluate", str(base / "run"), *more]) == 1
    assert "has no test speakers (split.protocol=all-speakers)" in capsys.readouterr().err
    assert not (base / "run/metrics.json").exists() and not (base / "run/robustness").exists()


def test_two_of_them_are_no_scored_ensemble_either(made, tmp_path, capsys):
    base, words = made
    other = tmp_path / "seed1"
    assert main(["train", *words, "train.seed=1", f"train.run={other}", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(base / "run"), str(other), "--out", str(tmp_path / "both")]) == 1
    assert "has no test speakers" in capsys.readouterr().err
    assert not (tmp_path / "both").exists()
    clip = base / "raw/s0/c0.flac"
    assert main(["predict", str(base / "run"), str(other), str(clip), "--out", str(tmp_path)]) == 0


def test_a_cross_validation_is_refused_before_a_training(made, tmp_path, capsys):
    _, words = made
    assert main(["crossval", *words, f"train.run={tmp_path / 'cv'}"]) == 1
    assert "split.protocol=all-speakers has no test part" in capsys.readouterr().err
    assert not (tmp_path / "cv").exists()


def test_a_sweep_needs_validation_speakers_alone(made, tmp_path, capsys):
    """It was refused, because there was nothing to cross-validate."""
    _, words = made
    own = [*words, f"train.run={tmp_path / 'sweep'}", "split.val_share=0.3", "train.monitor=loss"]
    assert main(["sweep", *own, "train.lr=[0.001,0.01]", "--quiet"]) == 0
    table = (tmp_path / "sweep/sweep.md").read_text()
    assert "| 0.001 |" in table and "no test speakers" in table and "deiii evaluate" not in table
    capsys.readouterr()
    assert main(["sweep", *words, f"train.run={tmp_path / 'other'}", "train.lr=[0.001,0.01]"]) == 1
    assert "split.val_share=0 keeps no speaker for validation" in capsys.readouterr().err


def test_no_message_sends_to_an_evaluation(made, tmp_path, capsys):
    """It would be refused."""
    base, _ = made
    run = str(base / "run")
    shutil.copytree(run, tmp_path / "copy")
    assert main(["compare", run, str(tmp_path / "copy")]) == 1
    assert main(["predict", run, str(base / "raw/s0/c0.flac"), "--calibrated", f"--out={tmp_path}"]) == 1
    with pytest.raises(RunError, match="has no test speakers"):
        read_predictions(base / "run/predictions.csv")
    errors = capsys.readouterr().err
    assert "because its split has no test speakers" in errors
    assert "has no temperature" in errors and "deiii evaluate" not in errors


def test_the_card_of_an_export_says_so(made, tmp_path):
    base, _ = made
    assert main(["export", str(base / "run"), str(tmp_path / "final")]) == 0
    card = " ".join((tmp_path / "final/README.md").read_text().split())
    assert "0 test clips, without test speakers" in card and "split by speaker" not in card
    assert "trained on all speakers and has no test speakers" in card and "has not been evaluated" not in card


def test_an_audit_says_that_nothing_is_scored(made, capsys):
    _, words = made
    settings = [word for word in words if not word.startswith("split.")]
    assert main(["audit", "all-speakers", *settings]) == 0
    out = capsys.readouterr().out
    assert "no leak found" in out and "no test part: nothing is scored" in out


def test_one_speaker_is_enough(tmp_path, capsys):
    write_rows(tmp_path / "raw", tone_rows(tmp_path / "raw", speakers=1))
    words = (*words_for(tmp_path / "raw", tmp_path / "cache", tmp_path / "run"), *FINAL)
    assert preprocess(*words) == 0
    assert read_settings(words).split.protocol == "all-speakers"
    assert open_split(*words).speakers("train") == ("s0",)
    few = [word for word in words if not word.startswith(("split.val_share", "train.monitor"))]
    assert main(["train", *few]) == 1
    assert "validation part of fold 0 of all-speakers is empty" in (told := capsys.readouterr().err)
    assert "two or more are needed" in told


def test_the_card_names_speakers_that_were_kept_for_validation(made, tmp_path):
    _, words = made
    kept = [word for word in words if not word.startswith(("split.val_share", "train.monitor", "train.run"))]
    kept += ["split.val_share=0.3", f"train.run={tmp_path / 'run'}"]
    assert main(["train", *kept, "--quiet"]) == 0
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "final"), "--no-program"]) == 0
    card = " ".join((tmp_path / "final/README.md").read_text().split())
    assert "on all speakers but those that were kept for validation and has no test speakers" in card
