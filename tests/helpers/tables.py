"""Small corpora of tones with a table ``clips.csv``, and the words of commands that use them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.helpers.clips import write_audio

Row = Sequence[str]  # path, speaker, label


def by_number(speaker: int, number: int) -> str:
    """Return the label of a clip in most of these corpora."""
    return ("high", "low")[number % 2]


def tone_rows(
    root: Path,
    speakers: int = 5,
    clips: int = 2,
    label: Callable[[int, int], str] = by_number,
    hertz: float = 200.0,
) -> list[list[str]]:
    """Write tones below a root; returns their rows ``path, speaker, label``."""
    rows = []
    for s in range(speakers):
        for n in range(clips):
            path = f"s{s}/c{n}.flac"
            write_audio(root / path, 0.4, hertz + 60 * s + 20 * n)
            rows.append([path, f"s{s}", label(s, n)])
    return rows


def write_rows(root: Path, rows: Sequence[Row], header: Row = ("path", "speaker", "label")) -> Path:
    """Write ``clips.csv`` into a root."""
    root.mkdir(parents=True, exist_ok=True)
    with open(root / "clips.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return root / "clips.csv"


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV by column."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def words_for(root: Path, cache: Path, run: Path | None = None) -> list[str]:
    """Return settings for log-mel alone and a network that trains in a second."""
    words = ["configs/tiny.yaml", "corpus.name=table", f"corpus.root={root}", f"cache={cache}"]
    words += ["stages=[logmel]", "corpus.clips_per_shard=2", "model.video=false", "model.flow=false"]
    words += ["model.width=16", "train.epochs=1", "loader.batch=2", "train.device=cpu"]
    return words + ([f"train.run={run}"] if run else [])
