"""predictions.csv: what is written, what is read, and what is refused."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from deiii.model.evaluation.predictions import PredictionTable, read_predictions, write_predictions
from deiii.model.training.run_folder import RunError

TABLE = PredictionTable(
    clips=("s0/a", "s0,b"),
    speakers=("s0", "s1"),
    classes=("calm", "sad"),
    truth=("sad", ""),
    predicted=("calm", "sad"),
    probabilities=np.array([[0.75, 0.25], [0.125, 0.875]]),
    attributes=("valence",),
    attribute_truth=np.array([[-0.5], [np.nan]]),
    attribute_predicted=np.array([[0.25], [1.0]]),
)
TEXT = """\
clip,speaker,truth,predicted,p_calm,p_sad,valence_truth,valence_predicted
s0/a,s0,sad,calm,0.7500,0.2500,-0.5000,0.2500
"s0,b",s1,,sad,0.1250,0.8750,,1.0000
"""


def test_the_file_is_as_documented(tmp_path):
    write_predictions(tmp_path / "predictions.csv", TABLE)
    assert (tmp_path / "predictions.csv").read_bytes() == TEXT.encode()


def test_what_was_written_is_read(tmp_path):
    (tmp_path / "predictions.csv").write_text(TEXT)
    found = read_predictions(tmp_path / "predictions.csv")
    for name, value in vars(TABLE).items():
        np.testing.assert_array_equal(getattr(found, name), value, err_msg=name)


def test_a_run_of_attributes_alone_has_no_class_columns(tmp_path):
    table = replace(TABLE, classes=(), truth=(), predicted=(), probabilities=np.zeros((2, 0)))
    write_predictions(tmp_path / "predictions.csv", table)
    assert (tmp_path / "predictions.csv").read_text().splitlines()[0] == (
        "clip,speaker,valence_truth,valence_predicted"
    )
    assert read_predictions(tmp_path / "predictions.csv").classes == ()


def test_a_table_is_printed_in_a_line_whatever_its_length():
    assert repr(TABLE) == "PredictionTable(2 clips of 2 speakers: calm, sad, valence)"
    assert repr(TABLE.select([0] * 500)) == "PredictionTable(500 clips of 1 speaker: calm, sad, valence)"


def test_selected_rows_and_class_numbers():
    picked = TABLE.select([1, 0, 1])
    assert picked.clips == ("s0,b", "s0/a", "s0,b") and picked.probabilities[:, 1].tolist() == [
        0.875,
        0.25,
        0.875,
    ]
    truth, predicted = TABLE.class_numbers(("sad", "calm"))
    assert truth.tolist() == [0, -1] and predicted.tolist() == [1, 0]


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"probabilities has the shape \[2, 1\], not \[2, 2\]"):
        replace(TABLE, probabilities=np.zeros((2, 1)))
    with pytest.raises(ValueError, match="2 clips, 1 speaker"):
        replace(TABLE, speakers=("s0",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TEXT.replace("speaker", "who"), "lacks the columns speaker; run `deiii evaluate {run} --again`"),
        (TEXT.replace("0.7500", "much"), r"is damaged \(.*much.*\); run `deiii evaluate {run} --again`"),
        (TEXT[:-25], "is damaged"),
        ("", "lacks the columns clip, speaker"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, text, message):
    run = tmp_path / "a run"  # its path is quoted for the shell
    run.mkdir()
    (run / "predictions.csv").write_text(text)
    with pytest.raises(RunError, match=message.replace("{run}", re.escape(f"'{run}'"))):
        read_predictions(run / "predictions.csv")


def test_a_run_without_the_file_was_not_evaluated(tmp_path):
    with pytest.raises(RunError, match="has not been evaluated; run `deiii evaluate "):
        read_predictions(tmp_path / "predictions.csv")


@pytest.mark.parametrize("classes", [("truth", "lie"), ("half_truth", "truth"), ("predicted", "p_truth")])
def test_classes_may_be_called_like_columns(tmp_path, classes):
    table = replace(TABLE, classes=classes, truth=(classes[1], ""), predicted=classes)
    write_predictions(tmp_path / "predictions.csv", table)
    found = read_predictions(tmp_path / "predictions.csv")
    assert (found.classes, found.attributes, found.truth) == (classes, ("valence",), table.truth)
