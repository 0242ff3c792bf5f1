"""The name by which people know the corpus of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deiii.data.config.schema import Config
from deiii.data.corpora.clips import readable_name
from deiii.data.corpora.scan import title_of
from deiii.data.tools.counts import counted
from deiii.model.training.start.history import MIXED


def corpus_title(config: Config, info: Mapping[str, Any]) -> str:
    """Return the name of a run's corpus for reports and cards; ``+`` joins those of a mixture.

    Corrupted copies of the corpora are counted.

    Args:
        config: settings of the run.
        info: what ``run.json`` holds; ``corpus`` is the name in the cache.

    >>> corpus_title(Config(mix=["b.yaml"]), {"corpus": "table-a+b", "mixed": [
    ...     {"corpus": "table-a", "name": "table", "root": "/data/theatre"},
    ...     {"corpus": "b", "name": "b", "root": "/data/b"}]})
    'a in theatre+b'
    """
    if parts := info.get(MIXED):
        named, copies = parts[: 1 + len(config.mix)], parts[1 + len(config.mix) :]
        title = "+".join(readable_name(part["corpus"], part["root"]) for part in named)
        kinds = counted(len(copies), "corrupted copy", "corrupted copies")
        return f"{title} and {kinds}" if copies else title
    return str(info["corpus"]) if config.is_mixture else title_of(config.corpus, info["corpus"])
