"""The course of a prediction as subtitles (WebVTT) and as a table of annotations that ELAN imports.

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

from deiii.model.prediction.result import Prediction

EMOTION = "emotion"  # the tier of the classes
COLUMNS = ("tier", "begin_s", "end_s", "annotation", "value")


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


def spans(prediction: Prediction) -> list[Span]:
    """Return the course of a prediction: equal classes joined, and each window's value of each attribute.

    Windows without any usable input belong to no span.

    Args:
        prediction: prediction with its timeline.
    """
    timeline = prediction.timeline
    if timeline is None or not len(timeline.time):
        return []
    number = None if prediction.person is None else prediction.person.number
    hop = 2 * float(timeline.time[0])
    edges = np.stack(
        [timeline.time - hop / 2, np.minimum(timeline.time + hop / 2, prediction.seconds)], axis=1
    )
    found = []
    if prediction.probabilities:
        names = list(prediction.probabilities)
        top = np.where(timeline.present, timeline.probabilities.argmax(axis=1), -1)
        for first, stop in _runs(top):
            mean = float(timeline.probabilities[first:stop, top[first]].mean())
            label = names[top[first]]
            found.append(
                Span(EMOTION, float(edges[first, 0]), float(edges[stop - 1, 1]), label, mean, number)
            )
    for k, name in enumerate(prediction.attributes):
        for i in np.flatnonzero(timeline.present):
            value = float(timeline.attributes[i, k])
            found.append(Span(name, float(edges[i, 0]), float(edges[i, 1]), f"{value:+.2f}", value, number))
    return found


def _runs(values: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the stretches of equal values that are not negative: first row, and the row after the last."""
    edges = np.flatnonzero(np.diff(values)) + 1
    for first, stop in zip([0, *edges], [*edges, len(values)], strict=True):
        if values[first] >= 0:
            yield int(first), int(stop)


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
        blocks.append(f"{_clock(begin)} --> {_clock(end)}\n{' '.join(text.split())}\n")
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
