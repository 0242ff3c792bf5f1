"""The synthetic corpus: generated faces and voices whose correct labels are known.

Labels combine independent cues, so that the best accuracy that any network can reach from each input is
known in advance (docs/science-tasks.md). `plan` decides the content of each clip, `face` and `voice` render
it, `write` encodes the mp4 file, and `make` generates the whole corpus:

    deiii synthesize corpus.root=raw/synthetic corpus.synthetic.speakers=24
"""

from __future__ import annotations

import csv
import shlex
from pathlib import Path

from deiii.data.config.schema import CorpusConfig
from deiii.data.corpora.clips import Clip, Corpus, CorpusError
from deiii.data.corpora.synthetic.make import (
    CSV_FIELDS,
    DONE,
    TABLE,
    describe,
    differences,
    make,
    read_description,
)
from deiii.data.corpora.synthetic.plan import ClipPlan, classes, plan_clip

__all__ = ["ClipPlan", "classes", "make", "plan_clip", "scan"]


def scan(config: CorpusConfig) -> Corpus:
    """Return the synthetic corpus in ``config.root``.

    Raises:
        CorpusError: if none is complete there, or it was generated with other settings than
            ``config.synthetic``.

    >>> scan(CorpusConfig(root="raw/synthetic")).name  # doctest: +SKIP
    'synthetic-cues'
    """
    root = Path(config.root)
    task = config.synthetic.task
    if not (root / DONE).is_file() or not (root / TABLE).is_file():
        raise CorpusError(
            f"no synthetic corpus in {root}; generate it with "
            f"`deiii synthesize {shlex.quote(f'corpus.root={root}')}`, or name "
            "the config of your own corpus, which `deiii init FOLDER` writes"
        )
    other = differences(read_description(root / DONE), describe(config.synthetic))
    if other:
        raise CorpusError(
            f"{root} holds a synthetic corpus with other settings ({other}); "
            "set corpus.synthetic.* to them, or choose another corpus.root"
        )
    with open(root / TABLE, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or tuple(rows[0]) != CSV_FIELDS:
        raise CorpusError(
            f"{root / TABLE} must have the columns {', '.join(CSV_FIELDS)}; "
            f"remove {root} and run `deiii synthesize {shlex.quote(f'corpus.root={root}')}`"
        )
    clips = [
        Clip(
            id=row["id"],
            path=row["path"],
            speaker=row["speaker"],
            label=row["label"],
            attributes={"valence": float(row["valence"]), "arousal": float(row["arousal"])},
        )
        for row in rows
    ]
    return Corpus(
        name=f"synthetic-{task}",
        root=str(root),
        classes=classes(task),
        clips=tuple(sorted(clips, key=lambda clip: clip.id)),
        ranges={"valence": (-1.0, 1.0), "arousal": (-1.0, 1.0)},
    )
