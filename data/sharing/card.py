"""The card of a cache or of features: recipe, digests, licence, outcomes, and how to load them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from deiii.data.cache.index import StageIndex
from deiii.data.corpora.clips import Corpus
from deiii.data.corpora.differences import clip_digest, label_digest
from deiii.data.pages.rendering import render
from deiii.data.sharing.licences import licence_of
from deiii.data.tools.machine import package_versions

CARD = "README.md"
FLOW = "Flow in px is `flow_flow.astype('float32') * flow_scale[:, None, None, None]` where it is int8."


def corpus_facts(corpus: Corpus, indices: Sequence[StageIndex]) -> dict[str, Any]:
    """Return the facts on a corpus and its stages for a card, as JSON values.

    Args:
        corpus: the clip table.
        indices: indices of the stages.
    """
    statuses = sorted({str(row.outcome.status) for index in indices for row in index.clips.values()})
    # Two indices may be of one stage, with different settings.
    counts = [Counter(str(row.outcome.status) for row in index.clips.values()) for index in indices]
    labels = Counter(clip.label for clip in corpus.clips if clip.label is not None)
    words, hub = licence_of(corpus.name)
    return {
        "corpus": corpus.name,
        "licence": words,
        "hub_licence": hub,
        "clips": len(corpus.clips),
        "speakers": len(corpus.speakers),
        "labels": {name: labels[name] for name in corpus.classes},
        "ranges": {name: list(bounds) for name, bounds in corpus.ranges.items()},
        "clip_digest": clip_digest(corpus),
        "label_digest": label_digest(corpus),
        "statuses": statuses,
        "stages": [
            {
                "name": index.stage,
                "key": index.key,
                "settings": dict(index.provenance.get("params", {})),
                "provenance": {k: v for k, v in index.provenance.items() if k != "params"},
                "shards": len(index.shards),
                "outcomes": {status: count[status] for status in statuses},
            }
            for index, count in zip(indices, counts, strict=True)
        ],
        "deiii": package_versions("deiii")["deiii"],
    }


def card_text(
    facts: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    title: str,
    about: str,
    with_deiii: str,
    without_deiii: str,
    front: Mapping[str, Any] | None = None,
    arrays: Mapping[str, tuple[str, tuple[int, ...]]] | None = None,
) -> str:
    """Return the card as Markdown.

    Args:
        facts: facts of each corpus (`corpus_facts`).
        names: names of the corpora by which people know them.
        title: its heading.
        about: a sentence on what the folder holds.
        with_deiii, without_deiii: how to load it, as code.
        front: metadata for the Hugging Face Hub, at the head of the file; ``None`` for none.
        arrays: type and shape of each array, where the folder holds arrays under these names.
    """
    return render(
        "dataset_card.md.j2",
        corpora=list(zip(names, facts, strict=True)),
        title=title,
        about=about,
        with_deiii=with_deiii.strip(),
        without_deiii=without_deiii.strip(),
        front=front,
        arrays=arrays or {},
        flow=FLOW if arrays and "flow_flow" in arrays else "",
    )
