"""Tiles and histograms of the page about a corpus."""

from __future__ import annotations

import pytest

from deiii.pipeline.overview.page import _histograms, _tiles


@pytest.mark.parametrize(
    ("name", "value", "ends"),
    [
        ("length", 0.3, ("0.00", "1.30")),  # no clip is shorter than 0 s
        ("height", 360.0, ("359", "361")),
        ("loudness", -20.0, ("-21.0", "-19.0")),
        ("difference", 0.0, ("0.00", "1.00")),
        ("valid", 100.0, ("99", "100")),
        ("valid", 0.0, ("0", "1")),
    ],
)
def test_the_axis_of_equal_values_is_around_them(name, value, ends):
    (found,) = _histograms({f"c{i}": {name: value} for i in range(7)})
    assert (found["low"], found["high"]) == ends
    assert sum(found["bars"]) == 100 and found["least"] == found["most"]


def test_the_axis_of_few_clips_begins_and_ends_with_a_clip_and_that_of_many_is_cut_off():
    few = {f"c{i}": {"fps": 30.0 if i else 25.0} for i in range(41)}
    (found,) = _histograms(few)
    assert (found["low"], found["high"]) == ("25.0", "30.0") == (found["least"], found["most"])
    many = {f"c{i}": {"fps": 30.0 - (i == 0) * 5 + i / 1000} for i in range(1000)}
    (found,) = _histograms(many)
    assert found["least"] == "25.0" and found["low"] == "30.0"


def test_all_numbers_of_clips_have_the_same_form():
    (usable, partly, lost) = _tiles({f"c{i}": "ok" if i else "no_face" for i in range(10_000)}, {})
    assert (usable["value"], usable["note"], lost["value"]) == ("9,999", "of 10,000 clips", "1")
    assert _tiles({"c": "ok"}, {})[0]["note"] == "of 1 clip" and partly["value"] == "0"
