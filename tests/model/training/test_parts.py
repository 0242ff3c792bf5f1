"""What the parts of a split lack is told before training, through the real commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deiii.__main__ import main
from deiii.model.training.run_folder import RunFolder
from tests.helpers.shared_worker import preprocess
from tests.helpers.tables import tone_rows, words_for, write_rows

HEADER = ("path", "speaker", "label", "fold", "valence")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Five speakers in five folds, preprocessed; fold n tests speaker n. The last one's files are broken."""
    base = tmp_path_factory.mktemp("parts")
    rows = [[*row, f"f{row[1][1:]}", "0.5"] for row in tone_rows(base / "raw", speakers=6)]
    for path in (base / "raw/s5").iterdir():
        path.write_bytes(b"no media")
    write_rows(base / "raw", rows, HEADER)
    assert preprocess(*words_for(base / "raw", base / "cache"), "max_failed=1") == 0
    return base, rows


@pytest.fixture
def train(made, tmp_path, capsys):
    """Writes another table for the same files and trains; returns status and messages."""
    base, rows = made

    def run(change, *more: str, command: str = "train", broken: bool = False) -> tuple[int, str]:
        whole = [list(row) for row in rows if broken or row[1] != "s5"]
        write_rows(base / "raw", [row for row in map(change, whole) if row], HEADER)
        words = words_for(base / "raw", base / "cache", tmp_path / "run")
        assert preprocess(*words, "max_failed=1") == 0
        assert "nothing to do" in capsys.readouterr().out
        status = main([command, *words, "--quiet", *more])
        return status, capsys.readouterr().err

    return run


def labelled(speakers: str, label: str):
    """A change of the rows of some speakers."""
    return lambda row: [*row[:2], label, *row[3:]] if row[1] in speakers.split() else row


def without(*speakers: str):
    return lambda row: row if row[1] not in speakers else []


def test_a_class_in_the_test_part_only(train, tmp_path):
    status, told = train(labelled("s0", "rare"))
    assert status == 0 and "fold 0: the class 'rare' is in the test part only" in told
    assert "one speaker" not in told
    assert "choose another split.fold" in told


def test_one_class(train, tmp_path):
    status, told = train(labelled("s0 s1 s2 s3 s4", "same"))
    assert status == 1 and "has one class only, 'same'" in told and "model.classes=false" in told
    assert not (tmp_path / "run/config.yaml").exists()


def test_one_class_in_the_training_part(train):
    status, told = train(lambda row: [*row[:2], "high" if row[1] != "s0" else row[2], *row[3:]])
    assert status == 1 and "the training part of fold 0 has the class 'high' only" in told


def test_attributes_may_be_predicted_where_there_is_one_class(train):
    change = labelled("s0 s1 s2 s3 s4", "same")
    status, told = train(lambda row: change(rated(lambda _, label: VARIED[label])(row)), VALENCE)
    assert status == 0 and "warning: raw has one class only" in told


def rated(change):
    """A change of the ratings: a function of the speaker and the label."""
    return lambda row: [*row[:4], change(row[1], row[2])]


VALENCE = "model.attributes=[valence]"
VARIED = {"low": "0.2", "high": "0.8"}
PART_OF = {"s0": "test", "s1": "training", "s2": "training", "s3": "validation", "s4": "training"}


@pytest.mark.parametrize("classes", [True, False])
@pytest.mark.parametrize("part", ["training", "validation", "test"])
def test_a_part_without_ratings(train, part, classes):
    change = rated(lambda speaker, label: "" if PART_OF[speaker] == part else VARIED[label])
    status, told = train(change, VALENCE, f"model.classes={str(classes).lower()}")
    assert f"the {part} part of fold 0 has no clip with a rating of valence" in told
    assert (status, told.split(":")[0]) == ((0, "warning") if classes else (1, "error"))
    assert "model.attributes" in told  # the remedy


def test_a_corpus_with_ratings_only_names_them(train):
    status, told = train(lambda row: [*row[:2], "", *row[3:]])
    assert status == 1 and "has no labels" in told and "model.attributes=[valence]" in told


def test_equal_ratings(train):
    status, told = train(rated(lambda *_: "0.5"), VALENCE, "model.classes=false")
    assert status == 1 and "the training part of fold 0 has the same rating of valence, 0.5" in told
    change = rated(lambda speaker, label: "0.5" if speaker == "s0" else VARIED[label])
    status, told = train(change, VALENCE, "model.classes=false")
    assert status == 0 and "warning: the test part of fold 0 has the same rating of valence, 0.5" in told


def test_one_rating(train, tmp_path):
    change = rated(lambda speaker, label: "" if speaker == "s0" and label == "low" else VARIED[label])
    status, told = train(change, VALENCE, "model.classes=false")
    assert status == 0 and "the test part of fold 0 has only one clip with a rating of valence" in told
    assert main(["evaluate", str(tmp_path / "run")]) == 0


def test_one_class_and_no_ratings_leave_nothing_to_learn(train):
    change = lambda row: [*row[:2], "same", row[3], "" if row[1] != "s0" else "0.5"]  # noqa: E731
    status, told = train(change, VALENCE)
    assert status == 1 and "one class only" in told


def test_an_empty_validation_part(train, tmp_path):
    status, told = train(without("s2", "s3", "s4"))
    assert status == 1 and "the validation part of fold 0" in told and "it has no clips" in told
    assert "three or more" in told and not Path(tmp_path / "run/config.yaml").exists()


def test_an_empty_test_part(train, tmp_path):
    status, told = train(lambda row: row, "split.fold=5", broken=True)
    assert status == 1 and "the test part of fold 5" in told
    assert "none of its 2 clips is usable" in told and "failures.csv" in told
    assert not (tmp_path / "run/config.yaml").exists()


def test_a_part_without_labels(train):
    status, told = train(labelled("s0", ""))
    assert status == 1 and "the test part of fold 0 has no clip with a label" in told


def test_a_cross_validation_is_refused_before_its_first_run(train, tmp_path):
    status, told = train(lambda row: row, "--folds", "1,5", command="crossval", broken=True)
    assert status == 1 and "the test part of fold 5" in told
    assert not list((tmp_path / "run").glob("fold*"))


def test_without_validation_speakers_all_others_are_trained_on(train, tmp_path):
    run = tmp_path / "run"
    status, told = train(lambda row: row, "split.val_share=0")
    assert status == 1 and told.count("\n") == 1 and not (run / "config.yaml").exists()
    assert "split.val_share=0" in told and "train.monitor=auto" in told and "set train.monitor=last" in told
    status, told = train(
        lambda row: row, "split.val_share=0", "train.monitor=last", "train.epochs=2", "train.patience=1"
    )
    assert status == 0
    folder = RunFolder(run)
    assert folder.read_info()["clips"] == {"train": 8, "val": 0, "test": 2}
    assert [row["epoch"] for row in folder.read_history()] == [0, 1]
    assert not any(name.startswith("val_") for name in folder.read_history()[0] if name != "val_monitor")
    assert main(["evaluate", str(run)]) == 0
    metrics = folder.read_metrics()
    assert metrics["epoch"] == 1 and metrics["val"] == {} and metrics["clips"]["val"]["in_split"] == 0
    assert metrics["calibration"]["temperature"] is None
    page = folder.report.read_text(encoding="utf-8")
    assert "no speakers were kept for validation" in page and "no temperature was fitted" in page
    assert main(["predict", str(run), str(tmp_path), "--calibrated"]) == 1  # none is made up


def test_two_speakers_are_enough_without_validation(train, capsys):
    words = ("split.val_share=0", "train.monitor=last")
    status, told = train(without("s2", "s3", "s4"), *words)
    assert status == 0, told
    assert "note: only one speaker is trained on, 's1': add speakers" in told


def test_a_cross_validation_without_validation_speakers_is_reported(train, tmp_path):
    words = ("split.val_share=0", "train.monitor=last", "--folds", "0,1")
    status, told = train(lambda row: row, *words, command="crossval")
    assert status == 0, told
    report = json.loads((tmp_path / "run/crossval.json").read_text(encoding="utf-8"))
    assert report["validation"]["uar"]["mean"] is None and report["splits"]["0"]["val"] == []
    assert "no epoch was chosen" in (tmp_path / "run/crossval.md").read_text(encoding="utf-8")
