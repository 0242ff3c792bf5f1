"""The outcomes of all clips after a run: a table for the terminal, and ``failures.csv`` beside the caches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deiii.data.cache.index import StageIndex, corpus_folder
from deiii.data.corpora.clips import Corpus
from deiii.data.tools.atomic_files import write_text
from deiii.data.tools.text.csv_text import csv_text

FAILURES = "failures.csv"
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet runs a cell that begins with one of these
FIRST = {"ok": 0, "ok_partial": 1}  # the columns of the table that come first
# By outcome: the input that a clip lacks, and the settings of a network that does without it.
MISSING_INPUTS = (
    ("no_audio", "audio", "model.audio=false"),
    ("no_video", "video", "model.video=false model.flow=false"),
)


@dataclass(frozen=True)
class Summary:
    """The outcomes of a run.

    Attributes:
        counts: number of clips by stage and status.
        clips: clips of the corpus.
        failed: clips that at least one stage failed on.
        failures: path of ``failures.csv``.
        seconds: duration of the run.
        computed, reused: shards of all stages that were computed, and that were finished before.
        written: whether the cache was written; false where it cannot be, and was complete.
    """

    counts: Mapping[str, Counter[str]]
    clips: int
    failed: int
    failures: Path
    seconds: float
    computed: int
    reused: int
    written: bool = True

    @property
    def failed_share(self) -> float:
        """Share of clips that failed, 0 to 1."""
        return self.failed / self.clips if self.clips else 0.0

    @property
    def remedy(self) -> str:
        """What to set where no clip has the audio, or the video, that some stages need; empty otherwise.

        >>> counts = {"faces": Counter(ok=2), "flow": Counter(ok=2), "logmel": Counter(no_audio=2)}
        >>> Summary(counts, 2, 2, Path("failures.csv"), 1.0, 3, 0).remedy
        'no clip has audio: without it, set stages=[faces,flow], and for the network model.audio=false'
        """
        for status, name, network in MISSING_INPUTS:
            without = [stage for stage, count in self.counts.items() if set(count) == {status}]
            others = [stage for stage in self.counts if stage not in without]
            if without and others:
                stages = ",".join(others)
                return f"no clip has {name}: without it, set stages=[{stages}], and for the network {network}"
        return ""

    def table(self) -> str:
        """Return counts by stage and outcome as text, one line per stage."""
        statuses = sorted({s for c in self.counts.values() for s in c}, key=lambda s: (FIRST.get(s, 2), s))
        width = max([6, *map(len, self.counts)])
        head = " ".join(f"{s:>{max(8, len(s))}}" for s in statuses)
        lines = [f"{'stage':<{width}} {head}"]
        for stage, count in self.counts.items():
            cells = " ".join(f"{count.get(s, 0):>{max(8, len(s))}}" for s in statuses)
            lines.append(f"{stage:<{width}} {cells}")
        return "\n".join(lines)


def summarise(
    cache: str | Path,
    corpus: Corpus,
    indices: Mapping[str, StageIndex],
    seconds: float,
    computed: int,
    reused: int,
    writes: bool = True,
) -> Summary:
    """Count the outcomes and write ``failures.csv``: every clip that is not fully valid or has a note.

    Args:
        cache: the cache folder.
        corpus: the corpus.
        indices: the index of each stage.
        seconds, computed, reused: values for the attributes of `Summary`.
        writes: whether the cache can be written; if not, ``failures.csv`` is left as it is.
    """
    counts = {stage: Counter(row.status for row in index.clips.values()) for stage, index in indices.items()}
    paths = {clip.id: clip.path for clip in corpus.clips}
    rows: list[list[str]] = []
    failed: set[str] = set()
    for stage, index in indices.items():
        for clip_id, row in index.clips.items():
            if row.status == "ok" and not row.reason:
                continue
            if not row.outcome.usable:
                failed.add(clip_id)
            rows.append(
                [clip_id, paths.get(clip_id, ""), stage, row.status, f"{row.fraction:.3f}", row.reason]
            )
    header = ["clip", "path", "stage", "status", "valid_share", "reason"]
    text = csv_text([header, *([_escaped(cell) for cell in row] for row in sorted(rows))])
    path = corpus_folder(cache, corpus.name) / FAILURES
    if writes:
        write_text(path, text)
    return Summary(counts, len(corpus.clips), len(failed), path, seconds, computed, reused, writes)


def _escaped(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULA) else cell
