"""Subtitles and annotation tables tell what the timeline holds."""

from __future__ import annotations

import csv
import io
import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deiii.model.prediction.result import Prediction, Timeline
from deiii.model.prediction.windows.timelines import Span, elan_table, spans, webvtt

CUE = re.compile(r"(\d\d):(\d\d):(\d\d)\.(\d{3}) --> (\d\d):(\d\d):(\d\d)\.(\d{3})\n(.*)\n")


def prediction(top, present, hop=0.5, attributes=("valence",)):
    rows = len(top)
    p = np.full((rows, 3), 0.1, np.float32)
    p[np.arange(rows), top] = 0.8
    values = np.linspace(-1, 1, rows, dtype=np.float32)[:, None].repeat(len(attributes), 1)
    time = hop / 2 + hop * np.arange(rows)
    timeline = Timeline(time, p, values, np.array(present, bool), 1.0)
    names = dict.fromkeys(("sad", "a<b & c", "happy"), 0.3)
    return Prediction("a.mp4", rows * hop - 0.1, {}, names, dict.fromkeys(attributes, 0.0), timeline=timeline)


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=30))
def test_subtitles_say_for_each_window_its_class(rows):
    top, present = zip(*rows, strict=True)
    p = prediction(list(top), present)
    said = {}
    cues = CUE.findall(webvtt(spans(p)))
    ends = []
    for *clock, words in cues:
        h, m, s, ms, h2, m2, s2, ms2 = map(int, clock)
        begin, end = 3600 * h + 60 * m + s + ms / 1000, 3600 * h2 + 60 * m2 + s2 + ms2 / 1000
        assert begin < end and (not ends or begin >= ends[-1])
        ends.append(end)
        for i, time in enumerate(p.timeline.time.clip(0, p.seconds - 1e-3)):
            if begin <= time < end:
                said[i] = words
    names = ["sad", "a&lt;b &amp; c", "happy"]
    assert said == {i: f"{names[t]} 0.80" for i, (t, on) in enumerate(rows) if on}
    runs = sum(on and (i == 0 or rows[i - 1] != (t, on)) for i, (t, on) in enumerate(rows))
    assert len(cues) == runs


def test_table_has_one_tier_for_classes_and_one_for_each_attribute():
    p = prediction([0, 0, 2], [True, True, True], attributes=("valence", "arousal"))
    rows = list(csv.DictReader(io.StringIO(elan_table(spans(p))), delimiter="\t"))
    assert [(r["tier"], r["begin_s"], r["end_s"], r["annotation"]) for r in rows[:2]] == [
        ("emotion", "0.000", "1.000", "sad"),
        ("emotion", "1.000", "1.400", "happy"),
    ]
    assert [r["tier"] for r in rows[2:]] == ["valence"] * 3 + ["arousal"] * 3
    assert [float(r["value"]) for r in rows[2:5]] == [-1, 0, 1]


def test_hours_and_odd_names():
    text = webvtt([Span("emotion", 3599.9996, 7322.5, "so\nso", 0.5)])
    assert text == "WEBVTT\n\n01:00:00.000 --> 02:02:02.500\nso so 0.50\n"
    assert elan_table([Span("emotion", 0, 1, "tab\there", 0.5)]).splitlines()[1].split("\t")[3] == "tab here"


def test_without_classes_subtitles_show_the_attributes():
    found = [Span("valence", 0, 1, "+0.20", 0.2), Span("arousal", 0, 1, "-0.10", -0.1)]
    assert "valence +0.20, arousal -0.10" in webvtt(found)


def test_nothing_usable_gives_empty_files():
    assert spans(Prediction("a.mp4", 0.0, {})) == []
    assert webvtt([]) == "WEBVTT\n" and elan_table([]).count("\n") == 1
