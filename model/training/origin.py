"""Record the clips, labels and media of a run's training, and compare them before the run is used again.

``clips.json`` in a run folder is the clip table of its training, in the form of the cache's; ``media.json``
has the SHA-256 of each media file, by its path, which in a mixture has the corpus's name in front, as the
clip's id has. With them, a message can name the clips, labels or files that changed.

>>> check_origin(RunFolder("runs/latest"), features.corpus, "train a new run")      # doctest: +SKIP
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from deiii.data.cache.index import INDEX, TABLE, CacheError, load_corpus, save_corpus, stage_folder
from deiii.data.cache.recipes import stage_keys
from deiii.data.cache.stages import stages
from deiii.data.config.load import changed_settings
from deiii.data.config.schema import Config
from deiii.data.corpora.clips import Corpus
from deiii.data.corpora.differences import clip_digest, differences, label_digest
from deiii.data.corpora.splits import Split
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.feature_split import media_digests
from deiii.data.tools.atomic_files import write_json
from deiii.data.tools.counts import examples
from deiii.model.training.run_folder import RunError, RunFolder

MEDIA = "media.json"
OTHER_FEATURES = (
    "note: the caches of {} were computed anew since the training of {}: their content, or its division into "
    "shards, has changed; {}"
)
CONTINUED = (
    "the rest of the training uses the new features, so the result differs from that of an uninterrupted "
    "training. run.json records this under `features`"
)
DIGESTS = {"clip_digest": clip_digest, "label_digest": label_digest}  # in run.json and in the clip table


def digests(corpus: Corpus) -> dict[str, str]:
    """Return the digests of a clip table that ``run.json`` records."""
    return {name: digest(corpus) for name, digest in DIGESTS.items()}


def save_origin(run: RunFolder, corpus: Corpus, cache: str | Path) -> None:
    """Keep the clip table in the run folder, and the SHA-256 of the media files as the cache records them."""
    save_corpus(run.path / TABLE, corpus)
    write_json(run.path / MEDIA, media_digests(cache, corpus), indent=None)


def check_origin(run: RunFolder, corpus: Corpus, remedy: str, cache: str | Path | None = None) -> None:
    """Refuse clips, labels or media that are not those of a run's training.

    Records that a run of an earlier version does not have are not checked.

    Args:
        run: the run.
        corpus: the clip table that is to be used.
        remedy: how to go on.
        cache: the cache folder; ``None`` to leave the media out.

    Raises:
        RunError: names the clips, labels, classes or media files that changed, or a damaged file.
    """
    recorded = run.read_info() if run.info.exists() else {}
    if any(recorded.get(name, value) != value for name, value in digests(corpus).items()):
        before = stored_table(run)
        changed = differences(before, corpus) if before is not None else []
        what = "; ".join(changed) or "its digests differ"
        raise RunError(f"{run.path} was trained on another clip table of {corpus.title}: {what}. {remedy}")
    recordings = stored_media(run) if cache is not None else {}
    now = media_digests(cache, corpus) if recordings and cache is not None else {}
    other = [path for path, digest in recordings.items() if now.get(path, digest) != digest]
    if other:
        raise RunError(
            f"{run.path} was trained on other recordings of {corpus.title}: {len(other)} media "
            f"file{'s were' if len(other) > 1 else ' was'} replaced since ({examples(other)}). {remedy}"
        )


def other_features(run: RunFolder, features: FeatureSet) -> list[str]:
    """Return the stages whose features are not those with which a run was last trained, byte for byte.

    Caches that are computed again under their old keys may have other features: computed on another machine,
    or of clips that could not be used before. A run of an earlier version recorded nothing to compare.

    Args:
        run: the run.
        features: the features that are to be used.
    """
    trained = run.read_info().get("features", []) if run.info.exists() else []
    before = trained[-1] if trained else {}
    return [stage for stage, digest in features.digests.items() if before.get(stage, digest) != digest]


def record_features(run: RunFolder, features: FeatureSet) -> str:
    """Record in ``run.json`` the digests of the features that a training uses from now on.

    Returns:
        a note for the user if the run was trained on other features before; else an empty string.
    """
    changed = other_features(run, features)
    recorded = run.read_info().get("features", [])
    if changed or not recorded:
        run.add(features=[*recorded, dict(features.digests)])
    return OTHER_FEATURES.format(", ".join(changed), run.path, CONTINUED) if changed else ""


def keys_of_training(run: RunFolder, config: Config) -> dict[str, str] | None:
    """Return the keys of the features that a run was trained on, where a newer deiii would compute others.

    A newer version may have other stage keys for the same settings. A run is continued and scored with the
    features that it was trained on, which remain valid.

    Args:
        run: a run folder; it may be empty.
        config: the settings of the run, with the cache to use.

    Returns:
        the keys of all stages; ``None`` where those of the settings are the run's, where the folder holds no
        run, and for a mixture of corpora.

    Raises:
        RunError: the run's features are not in the cache.
    """
    if config.is_mixture or not run.info.exists():
        return None
    info, asked = run.read_info(whole=True), stage_keys(config)
    recorded = info["keys"]
    other = [stage for stage, key in recorded.items() if asked.get(stage) != key]
    if not other:
        return None
    folders = {s: stage_folder(config.cache, info["corpus"], s, recorded[s]) for s in other}
    lost = [stage for stage, folder in folders.items() if not (folder / INDEX).is_file()]
    if lost:
        names = ", ".join(f"{stage}-{recorded[stage]}, now {stage}-{asked.get(stage)}" for stage in lost)
        raise RunError(
            f"{run.path} was trained on features that this version of deiii, or other weights, would not "
            f"compute ({names}), and {config.cache} does not hold them: name the folder that does with "
            "cache=..., or preprocess and train a new run"
        )
    return {**asked, **recorded}


def other_recordings(first: RunFolder, second: RunFolder) -> list[str]:
    """Return the paths that name different recordings in two runs' corpora, as far as they were recorded."""
    one, two = (stored_media(run) for run in (first, second))
    return [path for path, digest in one.items() if two.get(path, digest) != digest]


def stored_media(run: RunFolder) -> dict[str, str]:
    """Return the SHA-256 of each media file of a run by path; empty for runs of earlier versions.

    Raises:
        RunError: ``media.json`` is damaged.
    """
    path = run.path / MEDIA
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(tree, dict):
            raise ValueError("no JSON object")
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise RunError(
            f"{path} is damaged ({error}); put back a copy of it, or delete it: then it is not checked "
            "whether recordings were replaced since the training"
        ) from None
    return tree


def stored_table(run: RunFolder) -> Corpus | None:
    """Return the clip table of a run's training; ``None`` for a run of an earlier version, which has none.

    Raises:
        RunError: ``clips.json`` is damaged.
    """
    path = run.path / TABLE
    if not path.is_file():
        return None
    try:
        return load_corpus(path)
    except CacheError as error:
        words = str(error).partition("; run `deiii preprocess`")[0]
        raise RunError(
            f"{words}; put back a copy of it, or delete it: then clips are compared by their digests alone"
        ) from None


def check_settings(run: RunFolder, config: Config, keys: Mapping[str, str], remedy: str) -> None:
    """Refuse settings that would give another result than those of a run; others may differ.

    Args:
        run: a finished run.
        config: the settings that are to be used.
        keys: their stage keys. A stage's settings count if the run used it and its key differs.
        remedy: how to go on.

    Raises:
        RunError: names the settings.
    """
    recorded = run.read_info(whole=True)["keys"]
    same = [s for s in stages() if s not in recorded or keys.get(s, recorded[s]) == recorded[s]]
    changed = changed_settings(run.read_config(), config, but=same)
    changed += [f"key of {s}: {k} -> {keys[s]}" for s, k in recorded.items() if s not in same]
    if changed:
        raise RunError(f"{run.path} was trained with other settings ({'; '.join(changed[:3])}); {remedy}")


def require_test(run: RunFolder) -> Split:
    """Return the split of a run that can be scored.

    Raises:
        RunError: the split has no test part, because the network was trained on all speakers; the
            message names the figure that describes it.
    """
    split = run.read_split()
    if split.test:
        return split
    raise RunError(
        f"{run.path} has no test speakers (split.protocol={split.protocol}), so it cannot be scored. The "
        "figure that describes it is that of a cross-validation with the same settings: `deiii crossval` "
        "with another split.protocol. `--on CONFIG` scores it on another corpus"
    )
