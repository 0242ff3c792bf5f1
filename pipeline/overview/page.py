"""Write ``overview.html``: a page about a preprocessed corpus, in a single file.

This module collects what the page shows; the template ``data/pages/templates/overview.html.j2`` lays it out.
The page has one script of its own, which filters clips; a content security policy with its digest keeps
browsers from running any other.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from base64 import b64encode
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from deiii.data.cache.index import ShardRecord, StageIndex, corpus_folder, stage_folder
from deiii.data.cache.shards import ClipRow
from deiii.data.config.schema import Config
from deiii.data.corpora.clips import Clip, Corpus
from deiii.data.corpora.scan import title_of
from deiii.data.pages.rendering import FOLDER, render
from deiii.data.pages.strips import StripStyle, strip, strip_parts
from deiii.data.tools.atomic_files import writable_file, write_text
from deiii.data.tools.counts import listed
from deiii.data.tools.text.printable import printable
from deiii.pipeline.extract import read_indices
from deiii.pipeline.faces.quality import shows_pose
from deiii.pipeline.overview.choice import by_chance, unusual, worst
from deiii.pipeline.overview.figures import FIGURES, measure

PAGE = "overview.html"
MOST_CLIPS = 10_000  # largest number of clips that are measured and listed; outcomes count all
MOST_SHOWN = 18  # pictures of each kind
NUMBER = re.compile(r"\d+(?:\.\d+)?")
MOST_REASONS = 40
MOST_DUPLICATES = 50
MOST_LABELS = 60  # columns of the table of speakers and labels
MOST_SPEAKERS = 300  # rows of the table of speakers and labels
BINS = 24
FEW = 200  # clips below which the axis of a histogram is not cut off
STYLE = StripStyle(columns=6, tile=56, mel_height=36, suffix=".webp", quality=60)
UNLABELLED = "no label"

Values = dict[str, Any]
Rows = Mapping[str, Mapping[str, ClipRow]]  # keys: stage, then clip id


def write_overview(config: Config, corpus: Corpus, path: Path | None = None) -> Path:
    """Write the page about a corpus.

    Args:
        config: settings of the preprocessing.
        corpus: the clips, as `deiii.pipeline.preprocess.claim.own_folder` returns them.
        path: path of the page; by default ``overview.html`` in the corpus's folder of the cache.

    Returns:
        the path.

    Raises:
        CacheError: the corpus is not preprocessed with these settings, or a shard is damaged.
        OSError: the page cannot be written; found before the clips are read.
    """
    indices = read_indices(config, corpus)
    path = writable_file(path or corpus_folder(config.cache, corpus.name) / PAGE)
    folders = {s: stage_folder(config.cache, corpus.name, s, index.key) for s, index in indices.items()}
    clips = {clip.id: clip for clip in corpus.clips}
    ids = sorted(by_chance(clips, MOST_CLIPS))
    figures = measure(corpus, indices, folders, ids, posed=shows_pose(config.faces))
    rows = {  # not of clips that were removed from the corpus after preprocessing
        stage: {i: row for i, row in index.clips.items() if i in clips} for stage, index in indices.items()
    }
    outcomes = {i: _outcome(i, rows) for i in clips}
    named = _label_names(corpus)
    script = (FOLDER / "overview.js").read_text(encoding="utf-8")
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    values = {
        "corpus": heading(config, corpus),
        "name": corpus.name,
        "root": os.path.abspath(corpus.root),
        "n_clips": len(clips),
        "n_listed": len(ids),
        "n_speakers": len(corpus.speakers),
        "classes": corpus.classes,
        "tiles": _tiles(outcomes, figures),
        "outcomes": _outcomes(rows),
        "reasons": _reasons(rows),
        "histograms": _histograms(figures),
        "labels": _labels(corpus, named),
        "duplicates": _duplicates(corpus, rows, named),
        "shown": listed(strip_parts(indices)),
        "groups": _pictures(clips, named, figures, outcomes, indices, folders),
        "provenance": {stage: index.key for stage, index in indices.items()},
        "columns": [FIGURES[name] for name in FIGURES],
        "data": Markup(_data(ids, clips, named, figures, outcomes)),
        "script": Markup(script),
        "script_digest": digest,
    }
    write_text(path, render("overview.html.j2", **values))
    return path


def heading(config: Config, corpus: Corpus) -> str:
    """Return the name of a corpus by which people know it, with the name of its folder."""
    title = title_of(config.corpus, corpus.name, corpus.root)
    return title if config.corpus.name == "table" else f"{title} in {Path(os.path.abspath(corpus.root)).name}"


def _outcome(clip_id: str, rows: Rows) -> str:
    """Return the worst outcome of a clip over the stages: one that is not usable, else partial, else ok."""
    found = [by_id[clip_id] for by_id in rows.values() if clip_id in by_id]
    lost = [row.status for row in found if not row.outcome.usable]
    return lost[0] if lost else ("ok_partial" if any(r.status != "ok" for r in found) else "ok")


def _tiles(outcomes: Mapping[str, str], figures: Mapping[str, Mapping[str, float]]) -> list[Values]:
    count = Counter(outcomes.values())
    usable = count["ok"] + count["ok_partial"]
    lengths = [values["length"] for values in figures.values() if "length" in values]
    tiles = [
        {
            "label": "usable in every stage",
            "value": f"{usable:,}",
            "note": f"of {len(outcomes):,} clip{'' if len(outcomes) == 1 else 's'}",
        },
        {
            "label": "partly valid",
            "value": f"{count['ok_partial']:,}",
            "note": f"of these{', with reasons below' if count['ok_partial'] else ''}",
        },
        {
            "label": "not usable",
            "value": f"{len(outcomes) - usable:,}",
            "note": f"of the clips{', with reasons below' if usable < len(outcomes) else ''}",
        },
    ]
    if lengths:
        hours = sum(lengths) / 3600
        shown = f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.1f} min"
        note = f"median clip {np.median(lengths):.1f} s"
        tiles.append({"label": "recorded time", "value": shown, "note": note})
    return tiles


def _outcomes(rows: Rows) -> Values:
    statuses = list(dict.fromkeys(row.status for by_id in rows.values() for row in by_id.values()))
    statuses.sort(key=lambda s: (s != "ok", s != "ok_partial", s))
    table = []
    for stage, by_id in rows.items():
        count = Counter(row.status for row in by_id.values())
        table.append((stage, *(f"{count[status]:,}" for status in statuses)))
    return {"header": ("stage", *statuses), "rows": table}


def _reasons(rows: Rows) -> list[tuple[str, str, str, str, str]]:
    """Return stage, outcome, count, reason and an example of each kind of reason, the frequent ones first.

    Reasons that differ in numbers only are one kind.
    """
    kinds: dict[tuple[str, str, str, tuple[str, ...]], list[str]] = defaultdict(list)
    for stage, by_id in rows.items():
        for clip_id, row in by_id.items():
            if row.reason:
                words = tuple(NUMBER.split(row.reason))  # apart, because a reason may hold the letter n
                kinds[stage, row.status, NUMBER.sub("n", row.reason), words].append(clip_id)
    order = sorted(kinds.items(), key=lambda item: (-len(item[1]), item[0]))[:MOST_REASONS]
    found = []
    for (stage, status, *_), ids in order:
        reason = _with_ranges([rows[stage][clip_id].reason for clip_id in ids])
        found.append((stage, status, f"{len(ids):,}", reason, min(ids)))
    return found


def _with_ranges(reasons: Sequence[str]) -> str:
    """Return reasons that differ in numbers only as one text, in which a range stands for each number.

    >>> _with_ranges(["no face in 4 of 84 frames", "no face in 12 of 84 frames"])
    'no face in 4 to 12 of 84 frames'
    """
    columns = iter(zip(*(NUMBER.findall(reason) for reason in reasons), strict=True))

    def range_of(_: re.Match[str]) -> str:
        numbers = sorted(set(next(columns)), key=lambda number: (float(number), number))
        return numbers[0] if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"

    return NUMBER.sub(range_of, reasons[0])


def _histograms(figures: Mapping[str, Mapping[str, float]]) -> list[Values]:
    """Return bars and captions of each figure that is known; values beyond the axis are in its last bars.

    Of fewer than `FEW` clips the axis shows all, because a percentile would lie between two values.
    """
    found = []
    for name, about in FIGURES.items():
        values = np.array([row[name] for row in figures.values() if name in row])
        if not len(values):
            continue
        low, high = np.percentile(values, [0.5, 99.5] if len(values) >= FEW else [0, 100])
        if high - low < 1e-9:  # the ends differ from the value even where no decimals are shown
            low = low - 1 if low < 0 else max(0.0, low - 1)
            high = min(100.0, high + 1) if about.unit == "%" else high + 1
        counts, _ = np.histogram(values.clip(low, high), BINS, (low, high))
        d = about.decimals
        found.append({
            "name": about.name, "unit": about.unit, "n": f"{len(values):,}",
            "bars": [round(100 * n / max(1, counts.max()), 1) for n in counts.tolist()],
            "low": _text(low, d), "high": _text(high, d), "least": _text(values.min(), d),
            "median": _text(np.median(values), d), "most": _text(values.max(), d),
        })  # fmt: skip
    return found


def _text(value: float, decimals: int) -> str:
    """Return a number with some decimals, and zero without a sign."""
    return f"{round(float(value), decimals) + 0:.{decimals}f}"


def _label_names(corpus: Corpus) -> dict[str, str]:
    """Return each clip's label as the page shows it, by clip id; no class is named as a missing label."""
    missing = UNLABELLED
    while missing in corpus.classes:
        missing = f"({missing})"
    return {clip.id: clip.label or missing for clip in corpus.clips}


def _labels(corpus: Corpus, named: Mapping[str, str]) -> Values:
    """Return clips by speaker and label, with the speakers that lack a label first.

    Columns are the most frequent labels; a table of thousands would be larger than the rest of the page.
    """
    count: dict[str, Counter[str]] = defaultdict(Counter)
    for clip in corpus.clips:
        count[clip.speaker][named[clip.id]] += 1
    total = Counter(named.values())
    every = [*corpus.classes, *sorted(set(total) - set(corpus.classes))] if corpus.classes else []
    frequent = set(sorted(every, key=lambda name: -total[name])[:MOST_LABELS])
    names = [name for name in every if name in frequent]
    lacking = {s: sum(not c[name] for name in corpus.classes) for s, c in count.items()}
    speakers = sorted(count, key=lambda s: (-lacking[s], s))
    rows = [
        (speaker, [count[speaker][name] for name in names], sum(count[speaker].values()))
        for speaker in speakers[:MOST_SPEAKERS]
    ]
    return {
        "names": names, "rows": rows, "totals": [total[name] for name in names],
        "gaps": sum(n > 0 for n in lacking.values()),
        "more": len(speakers) - len(rows), "more_names": len(every) - len(names),
    }  # fmt: skip


def _duplicates(corpus: Corpus, rows: Rows, named: Mapping[str, str]) -> Values:
    """Return the groups of clips whose media files are equal byte for byte."""
    groups: dict[str, list[Clip]] = defaultdict(list)
    for clip in corpus.clips:
        sources = (by_id[clip.id].source for by_id in rows.values() if clip.id in by_id)
        if source := next((s for s in sources if s), ""):
            groups[source].append(clip)
    same = sorted((g for g in groups.values() if len(g) > 1), key=lambda g: g[0].id)
    listed = [[{"path": c.path, "speaker": c.speaker, "label": named[c.id]} for c in g] for g in same]
    return {"count": len(same), "groups": listed[:MOST_DUPLICATES]}


def _pictures(
    clips: Mapping[str, Clip],
    named: Mapping[str, str],
    figures: Mapping[str, Mapping[str, float]],
    outcomes: Mapping[str, str],
    indices: Mapping[str, StageIndex],
    folders: Mapping[str, Path],
) -> list[Values]:
    """Return the groups of pictures: random clips, the worst tracked ones, those with unusual figures."""
    usable = [i for i, values in figures.items() if values]
    valid = {i: figures[i]["valid"] for i in usable if "valid" in figures[i]}
    odd = unusual(figures, FIGURES, MOST_SHOWN)
    kinds = {
        "Random clips": ("", dict.fromkeys(by_chance(usable, MOST_SHOWN), "")),
        "Fewest valid frames": (
            "Look for faces that are lost, small or covered.",
            {i: f"{valid[i]:.0f} % of the frames are valid" for i in worst(valid, MOST_SHOWN)},
        ),
        "Unusual clips": (
            "One figure is far from that of the other clips.",
            {i: _figure_words(name, figures[i][name]) for i, name in odd.items()},
        ),
    }
    wanted = {i for _, chosen in kinds.values() for i in chosen}
    images = _draw(wanted, indices, folders)
    groups = []
    for title, (about, chosen) in kinds.items():
        shown = [
            {
                "id": i, "speaker": clips[i].speaker, "label": named[i],
                "outcome": outcomes[i], "note": note, "image": images[i],
            }
            for i, note in chosen.items() if images.get(i)
        ]  # fmt: skip
        if shown:
            groups.append({"title": title, "about": about, "clips": shown})
    return groups


def _figure_words(name: str, value: float) -> str:
    """Return a figure with its usual name and its unit."""
    about = FIGURES[name]
    return f"{about.name}: {_text(value, about.decimals)} {about.unit}"


def _draw(
    ids: Collection[str], indices: Mapping[str, StageIndex], folders: Mapping[str, Path]
) -> dict[str, str]:
    """Return the strip of each clip that has arrays, as base64; the shards of one clip are open at a time."""
    places: dict[str, dict[str, ShardRecord]] = {i: {} for i in ids}
    for stage, index in indices.items():
        for record in index.shards:
            for row in record.clips:
                if row.id in places and row.outcome.usable:
                    places[row.id][stage] = record
    pictures = {}
    for i, records in places.items():
        found = {stage: record.open(folders[stage]).clip(i) for stage, record in records.items()}
        pictures[i] = strip(found, STYLE)
    return {i: b64encode(picture).decode() for i, picture in pictures.items() if picture}


def _data(
    ids: Sequence[str],
    clips: Mapping[str, Clip],
    named: Mapping[str, str],
    figures: Mapping[str, Mapping[str, float]],
    outcomes: Mapping[str, str],
) -> str:
    """Return the listed clips as JSON that may stand in a page: [id, speaker, label, outcome, figures...]."""
    listed = []
    for i in ids:
        values: list[float | None] = []
        for name, about in FIGURES.items():
            value = figures[i].get(name)
            values.append(None if value is None else round(value, about.decimals))
        names = [printable(text) for text in (i, clips[i].speaker, named[i])]  # as in the rest of the page
        listed.append([*names, outcomes[i], *values])
    text = json.dumps(listed, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
