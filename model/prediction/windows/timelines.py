"""The course of a prediction as subtitles (WebVTT) and as a table of annotations that ELAN imports.

Each sliding window is a row of the course. Without segments, its row is the hop around its centre. With
segments (of speech, or of the time for which a person is visible) the rows of a segment cover it from its
begin to its end and nothing else: the first row begins with the segment, the last one ends with it. Times are
rounded to 1 ms, and a row begins where the row before it ends.

Source of the formats: W3C, "WebVTT: The Web Video Text Tracks Format"; the ELAN manual, "Import a
tab-delimited text file".

>>> print(webvtt([Span("emotion", 0.0, 1.5, "happy", 0.82)]))
WEBVTT
<BLANKLINE>
00:00:00.000 --> 00:00:01.500
happy 0.82
<BLANKLINE>
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from deiii.data.tools.text.printable import printable_name
from deiii.model.prediction.result import Prediction, Timeline

EMOTION = "emotion"  # the tier of the classes
COLUMNS = ("tier", "begin_s", "end_s", "annotation", "value")


@dataclass(frozen=True)
class Row:
    """The outputs for a part of a recording.

    Attributes:
        begin_s, end_s: begin and end in s, rounded to 1 ms.
        probabilities: probabilities of the classes, float [C].
        attributes: attributes, float [A].
    """

    begin_s: float
    end_s: float
    probabilities: np.ndarray
    attributes: np.ndarray


@dataclass(frozen=True)
class Span:
    """A stretch of a recording with one annotation.

    Attributes:
        tier: ``emotion``, or the name of an attribute.
        begin_s, end_s: begin and end in s.
        label: the most probable class; for an attribute, its value as text.
        value: mean probability of the class, or value of the attribute.
        person: number of the person, if there is a prediction for each person.
    """

    tier: str
    begin_s: float
    end_s: float
    label: str
    value: float
    person: int | None = None

    @property
    def who(self) -> str:
        """The text ``person 1 `` and so on; empty without a person."""
        return "" if self.person is None else f"person {self.person} "


def rows_of(prediction: Prediction) -> list[Row]:
    """Return the course of a prediction, one row for each window with usable input, in order of time.

    Rows do not overlap. With segments, a row belongs to the segment that contains the centre of its window;
    a segment that contains no centre, because it is shorter than the hop, has one row with the prediction for
    the segment, or none if its times are equal when they are rounded.

    Args:
        prediction: prediction with its timeline.
    """
    timeline = prediction.timeline
    if timeline is None or not len(timeline.time):
        return []
    count = len(timeline.time)
    hop = 2 * float(timeline.time[0])
    cells = np.minimum(hop * np.arange(count + 1), prediction.seconds)
    if not prediction.segments:
        return list(_rows_between(timeline, cells, 0))
    found: list[Row] = []
    for segment in prediction.segments:
        first, stop = np.searchsorted(timeline.time, [segment.begin_s, segment.end_s]).tolist()
        edges = np.array([segment.begin_s, *cells[first + 1 : stop], segment.end_s])
        if stop > first:
            found += _rows_between(timeline, edges, first)
        elif segment.probabilities or segment.attributes:
            outputs = np.array([*segment.probabilities.values()]), np.array([*segment.attributes.values()])
            begin_s, end_s = _rounded(edges).tolist()
            if begin_s < end_s:  # a segment may be shorter than 1 ms: the time that speech and a face share
                found.append(Row(begin_s, end_s, *outputs))
    return found


def _rows_between(timeline: Timeline, edges: np.ndarray, first: int) -> Iterator[Row]:
    """Yield the rows of consecutive windows, from number ``first`` on, whose parts have the given edges."""
    times = _rounded(edges).tolist()
    for i, (begin_s, end_s) in enumerate(zip(times[:-1], times[1:], strict=True), first):
        if timeline.present[i] and begin_s < end_s:
            yield Row(begin_s, end_s, timeline.probabilities[i], timeline.attributes[i])


def _rounded(seconds: np.ndarray) -> np.ndarray:
    """Round times in s to 1 ms. Times 1 ms apart stay different; with `round` they could become equal."""
    return np.floor(1000 * seconds + 0.5) / 1000


def spans(prediction: Prediction) -> list[Span]:
    """Return the course of a prediction: equal classes joined, and each row's value of each attribute.

    Windows without any usable input belong to no span.

    Args:
        prediction: prediction with its timeline.
    """
    rows = rows_of(prediction)
    number = None if prediction.person is None else prediction.person.number
    found = []
    if prediction.probabilities:
        names = list(prediction.probabilities)
        for top, run in _runs(rows):
            mean = float(np.mean([row.probabilities[top] for row in run]))
            found.append(Span(EMOTION, run[0].begin_s, run[-1].end_s, names[top], mean, number))
    for k, name in enumerate(prediction.attributes):
        for row in rows:
            value = float(row.attributes[k])
            found.append(Span(name, row.begin_s, row.end_s, f"{value:+.2f}", value, number))
    return found


def _runs(rows: Sequence[Row]) -> Iterator[tuple[int, list[Row]]]:
    """Yield the number of each most probable class with its rows, which have no gap between them."""
    run: list[Row] = []
    top = -1
    for row in rows:
        best = int(row.probabilities.argmax())
        if run and (best != top or run[-1].end_s < row.begin_s):
            yield top, run
            run = []
        top = best
        run.append(row)
    if run:
        yield top, run


def webvtt(found: Sequence[Span]) -> str:
    """Return spans as subtitles: the class with its mean probability; without classes, the attributes.

    The subtitles of several people begin with their numbers and are in order of time.
    """
    blocks = ["WEBVTT\n"]
    classes = [span for span in found if span.tier == EMOTION]
    cues = [(s.begin_s, s.end_s, f"{_number(s)}{s.label} {s.value:.2f}") for s in classes]
    cues = cues or list(_attribute_cues(found))
    for begin, end, words in sorted(cues, key=lambda cue: cue[0]):
        text = words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        blocks.append(f"{_clock(begin)} --> {_clock(end)}\n{printable_name(' '.join(text.split()))}\n")
    return "\n".join(blocks)


def _attribute_cues(found: Sequence[Span]) -> Iterator[tuple[float, float, str]]:
    together: dict[tuple[float, float, str], list[str]] = {}
    for span in found:
        key = span.begin_s, span.end_s, _number(span)
        together.setdefault(key, []).append(f"{span.tier} {span.label}")
    for (begin, end, number), words in together.items():
        yield begin, end, number + ", ".join(words)


def _number(span: Span) -> str:
    return "" if span.person is None else f"{span.person}: "


def _clock(seconds: float) -> str:
    """Return a time in s as ``hh:mm:ss.mmm``."""
    ms = round(1000 * seconds)
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"


def elan_table(found: Sequence[Span]) -> str:
    """Return spans as a table with tabs: tier, begin and end in s, annotation, value.

    The tiers of several people begin with ``person 1`` and so on.
    """
    text = io.StringIO()
    table = csv.writer(text, delimiter="\t", lineterminator="\n")
    table.writerow(COLUMNS)
    for s in found:
        row = [s.who + s.tier, f"{s.begin_s:.3f}", f"{s.end_s:.3f}", s.label, f"{s.value:.4f}"]
        table.writerow([" ".join(cell.split()) for cell in row])
    return text.getvalue()
