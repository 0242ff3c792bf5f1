"""What became of every clip: a table on the screen, ``failures.csv`` beside the caches."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deiii.data.cache.index import StageIndex, corpus_folder
from deiii.data.corpora.clips import Corpus
from deiii.data.tools.atomic_files import write_text

FAILURES = "failures.csv"
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run such a cell


@dataclass(frozen=True)
class Summary:
    """The outcomes of a run."""

    counts: Mapping[str, Counter]
    clips: int
    failed: int
    failures: Path
    seconds: float
    computed: int
    reused: int

    @property
    def failed_share(self) -> float:
        return self.failed / self.clips if self.clips else 0.0

    def table(self) -> str:
        """Counts by stage and outcome, as text."""
        statuses = sorted({s for c in self.counts.values() for s in c}, key=_order)
        width = max([6, *map(len, self.counts)])
        head = " ".join(f"{s:>{max(8, len(s))}}" for s in statuses)
        lines = [f"{'stage':<{width}} {head}"]
        for stage, count in self.counts.items():
            cells = " ".join(f"{count.get(s, 0):>{max(8, len(s))}}" for s in statuses)
            lines.append(f"{stage:<{width}} {cells}")
        return "\n".join(lines)


def _order(status: str) -> tuple[int, str]:
    return ({"ok": 0, "ok_partial": 1}.get(status, 2), status)


def summarise(
    cache: str | Path,
    corpus: Corpus,
    indices: Mapping[str, StageIndex],
    seconds: float,
    computed: int,
    reused: int,
) -> Summary:
    """Count the outcomes and write ``failures.csv`` with every clip that is not fully valid."""
    counts = {stage: Counter(row.status for row in index.clips.values()) for stage, index in indices.items()}
    rows, failed = [], set()
    paths = {c.id: c.path for c in corpus.clips}
    for stage, index in indices.items():
        for clip_id, row in index.clips.items():
            if row.status == "ok":
                continue
            if not row.outcome.usable:
                failed.add(clip_id)
            rows.append(
                [clip_id, paths.get(clip_id, ""), stage, row.status, f"{row.fraction:.3f}", row.reason]
            )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["clip", "path", "stage", "status", "valid_share", "reason"])
    writer.writerows([[_plain(cell) for cell in row] for row in sorted(rows)])
    path = corpus_folder(cache, corpus.name) / FAILURES
    write_text(path, text.getvalue())
    return Summary(counts, len(corpus.clips), len(failed), path, seconds, computed, reused)


def _plain(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULA) else cell
