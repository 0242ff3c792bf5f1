"""``predictions.csv`` of ``deiii predict``: one row per file or person, also those of earlier commands."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deiii.data.tools.atomic_files import write_json, write_text
from deiii.data.tools.counts import counted
from deiii.data.tools.progress import always_shown
from deiii.data.tools.text.csv_text import csv_text
from deiii.data.tools.writer_lock import writer_lock
from deiii.model.members import weights_digest
from deiii.model.prediction.result import Prediction

if TYPE_CHECKING:
    from deiii.model.prediction.predictor import Predictor

TABLE = "predictions.csv"
ORIGIN = ".predictions"  # JSON: what the rows were made with; names of results of media have suffixes
PERSON_COLUMNS = ["person", "first_s", "last_s", "visible_s", "follows_sound"]
# The last columns, keyed by the attribute of `FaceTrack` that they hold.
FACE_COLUMNS = {
    "sharpness": "face_sharpness", "brightness": "face_brightness",
    "yaw": "head_yaw", "pitch": "head_pitch", "roll": "head_roll",
}  # fmt: skip


def origin(network: Predictor, **options: Any) -> dict[str, Any]:
    """Return what the rows of a table were made with; rows that were made with something else are not mixed.

    Args:
        network: made the predictions. A run and its export are the same network.
        options: options on which the probabilities depend.
    """
    folders = network.members or (network.source,)
    weights = [weights_digest(folder) or str(folder) for folder in folders]
    return {"weights": weights, "notes": list(network.notes), **options}


def update_table(
    out: Path,
    found: Sequence[Prediction],
    network: Predictor,
    made_with: Mapping[str, Any],
    people: bool,
    report: Callable[[str], None],
) -> None:
    """Write ``predictions.csv``; rows of an earlier command about other files stay before the new ones.

    They stay where the columns are the same and they were made with the same network and options; otherwise
    the earlier table is replaced, and a line reports it. Processes that write into one folder wait for each
    other, so that none of their rows is lost.

    Args:
        out: folder of the table.
        found, network, people: as for `table_rows`.
        made_with: what `origin` returned.
        report: receives the line on earlier rows.
    """
    header, *rows = table_rows(found, network, people)
    path = out / TABLE
    with writer_lock(out, waiting=always_shown(report)):
        kept = []
        if path.is_file():
            earlier, reason = _earlier_rows(path, header, made_with)
            if reason:
                always_shown(report)(f"{path}: the earlier table is replaced, because {reason}")
            new = {_as_written(row[0]) for row in rows}
            kept = [row for row in earlier if row[0] not in new]
            if kept:
                report(f"{path}: {counted(len(kept), 'row')} of earlier predictions kept")
        # The table first: rows without a record of what they were made with are not kept.
        write_text(path, csv_text([header, *kept, *rows]))
        write_json(out / ORIGIN, made_with)


def _earlier_rows(
    path: Path, header: Sequence[str], made_with: Mapping[str, Any]
) -> tuple[list[list[str]], str]:
    """Return the rows of an earlier table, and why they cannot be kept; empty where they can."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            columns, *rows = csv.reader(file)
    except (ValueError, csv.Error):
        return [], "it is not a table of predictions"
    if columns != list(map(_as_written, header)):
        return [], "its columns are others"
    if any(len(row) != len(columns) for row in rows):
        return [], "it is not a table of predictions"
    try:
        earlier = json.loads((path.parent / ORIGIN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return [], "it is not known which network made it"
    if earlier != json.loads(json.dumps(made_with)):
        return [], "it was made with another network or with other options"
    return rows, ""


def _as_written(text: str) -> str:
    """Return a text as the file of the table holds it (`write_text`)."""
    return text.encode("utf-8", errors="backslashreplace").decode("utf-8")


def table_rows(found: Sequence[Prediction], network: Predictor, people: bool = False) -> list[list[str]]:
    """Return ``predictions.csv`` of `deiii predict`: the header, and one row per file or person.

    Cells are empty where no input is usable. It is another table than that of an evaluated run
    (`deiii.model.evaluation.predictions`).

    Args:
        found: the predictions.
        network: made the predictions.
        people: whether the table has the columns of people, also where nobody is visible.
    """
    outputs = [*(f"p_{c}" for c in network.classes), *network.attributes]
    header = ["file", "seconds", "label", *outputs, "face_share", "face_quality", "notes"]
    rows = [header + PERSON_COLUMNS * people + [*FACE_COLUMNS.values()]]
    for p in found:
        values = [p.probabilities.get(c) for c in network.classes]
        values += [p.attributes.get(a) for a in network.attributes]
        cells = ["" if v is None else f"{v:.4f}" for v in values]
        face = [f"{p.face.share:.3f}", p.face.quality] if p.face else ["", ""]
        row = [p.path, f"{p.seconds:.2f}", p.label or "", *cells, *face, "; ".join(p.notes)]
        figures = p.face.figures if p.face else {}
        last = [f"{figures[name]:.1f}" if name in figures else "" for name in FACE_COLUMNS]
        rows.append(row + _person_cells(p) * people + last)
    return rows


def _person_cells(p: Prediction) -> list[str]:
    if p.person is None:
        return [""] * len(PERSON_COLUMNS)
    follows = p.person.follows_sound
    ends = [f"{p.person.stretches[0][0]:.2f}", f"{p.person.stretches[-1][1]:.2f}", f"{p.person.seconds:.2f}"]
    return [str(p.person.number), *ends, "" if follows is None else f"{follows:.3f}"]
