"""Subtitles and annotation tables tell what the timeline holds."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deiii.model.prediction.result import Person, Prediction, Segment, Timeline
from deiii.model.prediction.windows.tables import segment_lines, segment_table, timeline_table
from deiii.model.prediction.windows.timelines import Span, elan_table, rows_of, spans, webvtt

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


def clipped(segments, rows=8, hop=0.5, present=None, seconds=None):
    """A prediction with segments; class 0 in the first half of the windows, class 2 in the second."""
    top = [0] * (rows // 2) + [2] * (rows - rows // 2)
    p = prediction(top, [True] * rows if present is None else present, hop)
    own = {"sad": 0.2, "a<b & c": 0.7, "happy": 0.1}
    parts = tuple(Segment(begin, end, own, {"valence": 0.25}) for begin, end in segments)
    return replace(p, segments=parts, seconds=rows * hop if seconds is None else seconds)


def times_of(p):
    return [(row.begin_s, row.end_s) for row in rows_of(p)]


def test_rows_cover_the_segments_and_nothing_else():
    # Centres at 0.25, 0.75, 1.25, ...: two in the first segment, two in the second one.
    segments = [(0.2, 1.1), (1.2, 2.1), (2.5, 3.9)]
    present = [True, True, True, True, False, True, True, True]
    p = clipped(segments, present=present)
    assert times_of(p) == [(0.2, 0.5), (0.5, 1.1), (1.2, 1.5), (1.5, 2.1), (2.5, 3.0), (3.0, 3.5), (3.5, 3.9)]
    numbers = [row.attributes[0] for row in rows_of(p)]
    assert numbers == [p.timeline.attributes[i, 0] for i in (0, 1, 2, 3, 5, 6, 7)]
    emotions = [(s.begin_s, s.end_s, s.label) for s in spans(p) if s.tier == "emotion"]
    assert emotions == [(0.2, 1.1, "sad"), (1.2, 2.1, "sad"), (2.5, 3.9, "happy")]  # silence divides them


def test_a_segment_without_the_centre_of_a_window_has_one_row_with_its_own_prediction():
    p = clipped([(0.3, 0.7), (2.8, 3.2)])
    assert times_of(p) == [(0.3, 0.7), (2.8, 3.2)]
    assert [row.probabilities.tolist() for row in rows_of(p)] == [[0.2, 0.7, 0.1]] * 2
    assert [(s.label, s.value) for s in spans(p)][:2] == [("a<b & c", 0.7)] * 2
    unusable = replace(p, segments=(Segment(0.3, 0.7, {}, {}),))
    assert rows_of(unusable) == []


def test_a_segment_without_length_has_no_row():
    """Speech that begins when a face leaves; a subtitle must end after it begins."""
    p = clipped([(0.3, 0.7), (1.0001, 1.0002), (2.8, 3.2)])
    assert times_of(p) == [(0.3, 0.7), (2.8, 3.2)]
    assert len(p.segments) == 3 and webvtt(spans(p)).count("-->") == 2


@given(st.floats(0.002, 3), st.floats(0.5, 1), st.integers(1, 60))  # a recording ends after the last centre
def test_a_row_begins_where_the_row_before_it_ends(hop, share, rows):
    """Rows overlapped by 1 ms: one ended at 108.002 s, the next began at 108.001 s."""
    p = prediction([0] * rows, [True] * rows, hop)
    times = times_of(replace(p, seconds=hop * (rows - 1 + share)))
    assert times[0][0] == 0 and all(begin < end for begin, end in times)
    assert [end for _, end in times[:-1]] == [begin for begin, _ in times[1:]]
    written = list(csv.DictReader(io.StringIO(elan_table(spans(p))), delimiter="\t"))
    values = [row for row in written if row["tier"] == "valence"]
    assert [row["end_s"] for row in values[:-1]] == [row["begin_s"] for row in values[1:]]


def test_the_tables_hold_the_numbers_of_the_json_file():
    p = clipped([(0.2, 1.1), (1.25, 1.3), (2.5, 3.9)])
    odd = np.random.default_rng(0).random((8, 3), np.float32)
    p = replace(p, timeline=replace(p.timeline, probabilities=odd), person=Person(2, ((0.0, 4.0),)))
    names = list(p.probabilities)
    tree = p.tree()
    text = timeline_table([p], names, ["valence"], people=True)
    rows = list(csv.DictReader(io.StringIO(text)))
    outputs = ["p_sad", "p_a<b & c", "p_happy", "valence"]
    assert list(rows[0]) == ["person", "begin_s", "end_s", "label", *outputs]
    assert {row["person"] for row in rows} == {"2"}
    assert [(row["begin_s"], row["end_s"]) for row in rows[:3]] == [
        ("0.200", "0.500"), ("0.500", "1.100"), ("1.250", "1.300"),
    ]  # fmt: skip
    steps = [tree["timeline"]["steps"][i] for i in (0, 1, 2, 5, 6, 7)]
    for row, step in zip(rows, steps, strict=True):
        values = [float(row[name]) for name in outputs]
        assert values == [*step["probabilities"].values(), *step["attributes"].values()]
        assert row["label"] == max(step["probabilities"], key=step["probabilities"].get)
    rows = list(csv.DictReader(io.StringIO(segment_table([p], names, ["valence"], people=True))))
    assert [(float(row["begin_s"]), float(row["end_s"]), row["label"]) for row in rows] == [
        (0.2, 1.1, "a<b & c"), (1.25, 1.3, "a<b & c"), (2.5, 3.9, "a<b & c"),
    ]  # fmt: skip
    for row, part in zip(rows, tree["segments"], strict=True):
        assert [float(row[name]) for name in outputs[:3]] == list(part["probabilities"].values())
        assert float(row["valence"]) == part["attributes"]["valence"]


def test_tables_of_files_without_usable_input_have_a_header_alone():
    nothing = Prediction("a.mp4", 2.0, {})
    assert timeline_table([nothing], ["sad"], ["valence"]) == "begin_s,end_s,label,p_sad,valence\n"
    assert segment_table([nothing], [], ["valence"]) == "begin_s,end_s,valence\n"
    lost = replace(nothing, segments=(Segment(0.5, 1.0, {}, {}),))
    assert segment_table([lost], ["sad"], []).splitlines()[1] == "0.500000,1.000000,,"


def test_many_segments_are_counted_on_the_terminal():
    p = clipped([(0.1 * k, 0.1 * k + 0.05) for k in range(20)])
    assert len(segment_lines(p, "a-segments.csv")) == 20
    more = clipped([(0.1 * k, 0.1 * k + 0.05) for k in range(21)])
    assert segment_lines(more, "a-segments.csv") == ["  21 segments, 1.1 s in all; a-segments.csv lists them"]


def test_the_documented_program_computes_the_mean_of_each_minute(tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[3] / "docs/predict.md").read_text(encoding="utf-8")
    (code,) = [block for block in re.findall(r"```py\n(.*?)```", page, re.S) if "-timeline.csv" in block]
    p = replace(clipped([(10.0, 12.5), (50.0, 59.9), (70.0, 71.5)], rows=40, hop=2.0), attributes={})
    top = np.full((40, 3), 0.25, np.float32)
    top[25:30, 2] = 0.75  # from 50 s to 60 s
    p = replace(p, timeline=replace(p.timeline, probabilities=top))
    (tmp_path / "predict").mkdir()
    table = timeline_table([p], list(p.probabilities), [])
    (tmp_path / "predict/interview-timeline.csv").write_text(table, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/predict.md", "exec"), {})  # noqa: S102
    # 2.5 s with 0.25 and 9.9 s with 0.75 in the first minute: (2.5 * 0.25 + 9.9 * 0.75) / 12.4.
    assert capsys.readouterr().out == "minute 0: 0.649 in 12.4 s\nminute 1: 0.250 in 1.5 s\n"
