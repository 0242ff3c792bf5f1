"""The course of predictions as text: tables that spreadsheets open (CSV), annotations and subtitles.

Tables have one row for each part of a recording: begin and end in s, the most probable class (``label``), and
a column for each output, as in ``predictions.csv``. Their numbers are those of the JSON file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import numpy as np

from deiii.data.tools.text.csv_text import csv_text
from deiii.model.prediction.result import Prediction
from deiii.model.prediction.windows.timelines import elan_table, rows_of, spans, webvtt

TIMELINE, SEGMENTS, PICTURE = "-timeline.csv", "-segments.csv", "-timeline.png"
OF_PERSON = "-person<number>.vtt"
MOST_LINES = 20  # more segments than this are not printed one by one
# Functions that return the course of predictions as text, keyed by the suffix of the file.
TEXTS = {"vtt": webvtt, "tsv": elan_table}


def endings(texts: Collection[str], speech: bool, people: bool = False) -> list[str]:
    """Return the endings of the names of the files with the course of a prediction.

    Args:
        texts: which of `TEXTS` to write; with ``tsv`` the timeline is also written as a CSV table.
        speech: whether to write the table of the segments of speech.
        people: whether to write subtitles of each person, too.

    >>> endings(["vtt", "tsv"], speech=True)
    ['.vtt', '.tsv', '-timeline.csv', '-segments.csv']
    """
    found = [f".{kind}" for kind in texts]
    if people and "vtt" in texts:
        found.insert(found.index(".vtt") + 1, OF_PERSON)
    return found + [TIMELINE] * ("tsv" in texts) + [SEGMENTS] * speech


def course_texts(
    own: Sequence[Prediction],
    classes: Sequence[str],
    attributes: Sequence[str],
    texts: Collection[str],
    speech: bool = False,
    people: bool = False,
) -> dict[str, str]:
    """Return the contents of the files that show the course of a prediction, keyed by `endings`.

    Args:
        own: the prediction for a file, or the predictions for all people in it.
        classes, attributes: the outputs of the network, each a column of a table.
        texts, speech: arguments of `endings`.
        people: whether tables have the column ``person``, and subtitles of each person are added; their keys
            have the person's number.
    """
    found = {}
    for ending in endings(texts, speech):
        if ending == TIMELINE:
            found[ending] = timeline_table(own, classes, attributes, people)
        elif ending == SEGMENTS:
            found[ending] = segment_table(own, classes, attributes, people)
        else:
            found[ending] = TEXTS[ending[1:]]([span for p in own for span in spans(p)])
    for p in own if people and "vtt" in texts else ():
        if p.person is not None:
            ending = OF_PERSON.replace("<number>", str(p.person.number))
            found[ending] = webvtt([replace(span, person=None) for span in spans(p)])
    return found


def timeline_table(
    own: Sequence[Prediction], classes: Sequence[str], attributes: Sequence[str], people: bool = False
) -> str:
    """Return the rows of `rows_of` as CSV; see `course_texts` for the arguments."""
    lines = []
    for p in own:
        for row in rows_of(p):
            values = [*row.probabilities.tolist(), *row.attributes.tolist()]
            label = classes[int(np.argmax(row.probabilities))] if classes else None
            lines.append(_line(p, [f"{row.begin_s:.3f}", f"{row.end_s:.3f}"], label, values, people, classes))
    return _table(lines, classes, attributes, people)


def segment_table(
    own: Sequence[Prediction], classes: Sequence[str], attributes: Sequence[str], people: bool = False
) -> str:
    """Return the segments as CSV; see `course_texts` for the arguments.

    The cells of a segment without usable input are empty.
    """
    lines = []
    for p in own:
        for s in p.segments:
            values = [s.probabilities.get(name) for name in classes]
            values += [s.attributes.get(name) for name in attributes]
            lines.append(_line(p, [f"{s.begin_s:.6f}", f"{s.end_s:.6f}"], s.label, values, people, classes))
    return _table(lines, classes, attributes, people)


def _line(
    p: Prediction,
    times: list[str],
    label: str | None,
    values: Sequence[float | None],
    people: bool,
    classes: Sequence[str],
) -> list[str]:
    person = "" if p.person is None else str(p.person.number)
    cells = ["" if value is None else f"{value:.6f}" for value in values]
    return [person] * people + times + [label or ""] * bool(classes) + cells


def _table(
    lines: Iterable[list[str]], classes: Sequence[str], attributes: Sequence[str], people: bool
) -> str:
    header = ["person"] * people + ["begin_s", "end_s"] + ["label"] * bool(classes)
    return csv_text([[*header, *(f"p_{name}" for name in classes), *attributes], *lines])


def segment_lines(prediction: Prediction, table: str | None = None) -> list[str]:
    """Return the segments as lines for the terminal; of many, their number and their length.

    Args:
        prediction: the prediction.
        table: file that lists all segments.
    """
    segments = prediction.segments
    if len(segments) > MOST_LINES:
        seconds = sum(s.end_s - s.begin_s for s in segments)
        where = "" if table is None else f"; {table} lists them"
        return [f"  {len(segments)} segments, {seconds:.1f} s in all{where}"]
    lines = []
    for s in segments:
        words = [] if s.label is None else [f"{s.label} {s.probabilities[s.label]:.2f}"]
        words += [f"{name} {value:+.2f}" for name, value in s.attributes.items()]
        lines.append(f"  {s.begin_s:7.2f} to {s.end_s:7.2f} s  {', '.join(words) or 'no usable input'}")
    return lines
