"""The clips and labels that a run was made from, kept in its folder and compared before they are used again.

``clips.json`` in a run folder is the clip table of its training, in the form of the cache's. With it, a
message can say what changed, not only that something did.

>>> check_origin(RunFolder("runs/latest"), features.corpus, "train a new run")      # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping

from deiii.data.cache.index import TABLE, load_corpus, save_corpus
from deiii.data.cache.stages import stages
from deiii.data.config.load import changed_settings, load_stored
from deiii.data.config.schema import Config
from deiii.data.corpora.clips import Corpus
from deiii.data.corpora.differences import clip_digest, differences, label_digest
from deiii.model.training.run_folder import RunError, RunFolder

DIGESTS = {"clip_digest": clip_digest, "label_digest": label_digest}  # in run.json and in the clip table


def digests(corpus: Corpus) -> dict[str, str]:
    """What ``run.json`` records of a clip table."""
    return {name: digest(corpus) for name, digest in DIGESTS.items()}


def save_origin(run: RunFolder, corpus: Corpus) -> None:
    """Keep the clip table in the run folder."""
    save_corpus(run.path / TABLE, corpus)


def check_origin(run: RunFolder, corpus: Corpus, cure: str) -> None:
    """Refuse clips or labels that are not those of a run's training.

    A run of a version that kept no clip table is not checked.

    Args:
        run: the run.
        corpus: the clip table that is to be used.
        cure: how to go on.

    Raises:
        RunError: names the clips, labels or classes that changed.
    """
    recorded = run.read_info() if run.info.exists() else {}
    if all(recorded.get(name, value) == value for name, value in digests(corpus).items()):
        return
    path = run.path / TABLE
    changed = differences(load_corpus(path), corpus) if path.is_file() else []
    what = "; ".join(changed) or "its digests differ"
    raise RunError(f"{run.path} was trained on another clip table of {corpus.name}: {what}. {cure}")


def check_settings(run: RunFolder, config: Config, keys: Mapping[str, str], cure: str) -> None:
    """Refuse settings that would give another result than those of a run; others may differ.

    Args:
        run: a finished run.
        config: the settings that are to be used.
        keys: their stage keys. A stage's settings count if the run used it and its key differs.
        cure: how to go on.

    Raises:
        RunError: names the settings.
    """
    recorded = run.read_info()["keys"]
    same = [s for s in stages() if s not in recorded or keys.get(s, recorded[s]) == recorded[s]]
    changed = changed_settings(load_stored(run.config), config, but=same)
    changed += [f"key of {s}: {k} -> {keys[s]}" for s, k in recorded.items() if s not in same]
    if changed:
        raise RunError(f"{run.path} was trained with other settings ({'; '.join(changed[:3])}); {cure}")
