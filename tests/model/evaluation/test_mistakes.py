"""The clips with the largest errors, and what is shown of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deiii.data.pages.strips import strip
from deiii.model.evaluation.report import write_report
from deiii.model.evaluation.sections.mistakes import worst_mistakes
from tests.model.evaluation.test_report import TASK, features, predictions, write


def test_the_worst_mistakes_come_first():
    found = predictions()
    p = {h: v.copy() for h, v in found.probabilities.items()}
    p["fused"][2] = (0.02, 0.98)  # clip 2 of speaker s0 is calm
    found = replace(found, probabilities=p)
    known = features()
    known.arrays = lambda row: {}
    mistakes = worst_mistakes(found, known, TASK)
    assert [m.clip for m in mistakes] == ["s0/2", "s0/0", "s0/1", "s0/3"]  # only s0 is wrong
    assert (
        "true: calm (0.02)" in mistakes[0].what
        and "(0.98)" in mistakes[0].what
        and mistakes[0].picture is None
    )


def test_mistakes_in_attributes_alone():
    task = replace(TASK, classes=())
    found = predictions()
    found.attributes["fused"][7] += 0.9
    known = features()
    known.arrays = lambda row: {}
    assert worst_mistakes(found, known, task, most=2)[0].clip == "s1/7"


def test_a_strip_shows_what_is_stored():
    audio = {"logmel": {"logmel": np.zeros((50, 80), np.float16), "time": np.arange(50) / 100}}
    assert strip({}) is None and strip(audio)[:2] == b"\xff\xd8"


def test_an_attribute_that_nobody_rated_is_unknown():
    task = replace(TASK, classes=(), attributes=("valence", "arousal"), ranges=((0, 1), (0, 1)))
    found = predictions()
    found = replace(
        found,
        target=np.full((len(found.index), 2), (0.25, np.nan), np.float32),
        attributes={"fused": np.full((len(found.index), 2), 0.5, np.float32)},
    )
    known = features()
    known.arrays = lambda row: {}
    (mistake,) = worst_mistakes(found, known, task, most=1)
    assert mistake.what == "valence: true 0.25, predicted 0.50; arousal: true unknown, predicted 0.50"


@pytest.mark.parametrize(
    ("stages", "shown", "faces"),
    [
        (("faces", "flow", "logmel"), ": crops, flow and log-mel.", True),
        (("faces",), ": crops.", True),
        (("logmel", "speech"), ": log-mel.", False),
        (("speech",), ".", False),  # rows of an encoder have no picture
    ],
)
def test_the_report_names_what_the_pictures_show(stages, shown, faces, tmp_path):
    run, metrics, _ = write(tmp_path)
    info = {**run.read_info(), "keys": dict.fromkeys(stages, "abc123")}
    known = features()
    known.arrays = lambda row: {}
    mistakes = worst_mistakes(predictions(), known, TASK)
    page = write_report(run, metrics, info, known, mistakes).read_text(encoding="utf-8")
    assert f"Test clips with the largest errors{shown}\n" in page
    assert ("and wrong faces first" in page) == faces
