"""The commands that follow ``deiii download`` and ``deiii preprocess``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from deiii.data.cache.stages import network_stages
from deiii.data.config.schema import Config
from deiii.data.config.streams import unread_inputs
from deiii.data.config.words import is_config, requested_keys
from deiii.data.corpora.clips import Corpus
from deiii.data.tools.counts import counted

PREPROCESSING_ONLY = (
    "workers", "gpus", "dashboard", "scheduler", "cluster",
    "max_failed", "clip_timeout", "clip_memory_gb", "retry",
)  # fmt: skip
# Configs and settings that read a part of a corpus, where the corpus's own config reads another part.
OF_PART = {
    ("ravdess", "video-song"): ("ravdess", "corpus.channel=song"),
    ("ravdess", "audio-speech"): ("ravdess_audio",),
    ("ravdess", "audio-song"): ("ravdess_audio", "corpus.channel=song"),
    ("crema_d", "audio"): ("crema_d", "stages=[logmel]", "model.video=false", "model.flow=false"),
}
RUN_INFO = "run.json"  # a file of each run folder, beside its config.yaml
FEWEST_LABELS = 2
FEWEST_SPEAKERS = 3  # one each for training, validation and test


def preprocessing_command(corpus: str, part: str | None, root: str) -> str:
    """Return the command to type after ``deiii download``, which preprocesses the part that was downloaded.

    Args:
        corpus: name of the corpus.
        part: the part, as ``--part`` names it; ``None`` for the usual one.
        root: folder of the corpus.

    >>> preprocessing_command("ravdess", "audio-speech", "/my clips")
    "deiii preprocess ravdess_audio 'corpus.root=/my clips'"
    """
    words = OF_PART.get((corpus, part or ""), (corpus,))
    return shlex.join(["deiii", "preprocess", *words, f"corpus.root={root}"])


def next_line(config: Config, words: Sequence[str], corpus: Corpus, overview: bool = True) -> str:
    """Return what ``deiii preprocess`` prints at its end: the next command, or why no network can be trained.

    It is the `evaluation_command`, or else the `training_command`.

    Args:
        config, words, corpus: arguments of `training_command`.
        overview: whether there is a page about the corpus; a cache that was unpacked and cannot be written
            has none.
    """
    first = "next, after a look at the overview" if overview else "next"
    if command := evaluation_command(words):
        return f"{first}: {command}"
    if obstacle := training_obstacle(config, corpus):
        return f"no network can be trained with these settings: {obstacle}"
    return f"{first}: {training_command(config, words, corpus)}"


def evaluation_command(words: Sequence[str]) -> str:
    """Return the command to type after ``deiii preprocess RUN/config.yaml`` with another corpus.

    A corpus with the preprocessing of a run is one on which the run is to be scored. The command is empty if
    no word is the configuration of a run, or if the words name no other corpus.

    Args:
        words: ``CONFIG`` and ``KEY=VALUE`` words of the command.

    >>> evaluation_command(["table", "corpus.root=/clips"])
    ''
    """
    configs = [Path(word) for word in words if is_config(word)]
    run = next((path.parent for path in configs if (path.parent / RUN_INFO).is_file()), None)
    of_corpus = [word for word in words if word.startswith("corpus.")]
    if run is None or not of_corpus:
        return ""
    cache = [word for word in words if word.startswith("cache=")]
    return shlex.join(["deiii", "evaluate", str(run), "--on", str(configs[-1]), *of_corpus, *cache])


def training_command(config: Config, words: Sequence[str], corpus: Corpus) -> str:
    """Return the command to type after ``deiii preprocess``, with the settings that it was given.

    Args:
        config: the settings that the words describe.
        words: ``CONFIG`` and ``KEY=VALUE`` words of the command.
        corpus: the scanned corpus.

    Returns:
        the command; empty where `training_obstacle` names a reason for which it would end with an error. It
        has a setting for encoders that were computed and are no input of the network, unless the words choose
        the inputs of their modality.

    >>> training_command(config, ["table", "corpus.root=/clips"], corpus)  # doctest: +SKIP
    'deiii train table corpus.root=/clips train.run=runs/table'
    """
    if training_obstacle(config, corpus):
        return ""
    kept = [word for word in words if is_config(word) or not _is_unused(word)]
    run: list[str] = []
    if "train.run" not in requested_keys(config, words):
        name = Path(next(filter(is_config, words), corpus.name)).stem
        run = [f"train.run=runs/{name}"]
    chosen = [word.partition("=")[0] for word in words if "=[" in word]
    inputs = [
        setting
        for _, setting in unread_inputs(config)
        if setting.partition("=")[0] not in chosen and "model.extra" not in chosen
    ]
    return shlex.join(["deiii", "train", *kept, *inputs, *run])


def training_obstacle(config: Config, corpus: Corpus) -> str:
    """Return why no network can be trained on a corpus with these settings, and what to do; empty if one can.

    Args:
        config: the settings.
        corpus: the scanned corpus.

    >>> training_obstacle(Config(stages=["logmel"]), Corpus("mine", "/clips", (), ()))
    'the network also reads faces, flow: add them to stages, or turn these inputs of the network off'
    """
    lacking = [name for name in network_stages(config.model) if name not in config.stages]
    if lacking:
        return (
            f"the network also reads {', '.join(lacking)}: add them to stages, or turn these inputs of the "
            "network off"
        )
    labels = {clip.label for clip in corpus.clips} - {None}
    if config.model.classes and len(labels) < FEWEST_LABELS:
        found = "all labels are equal" if labels else "no clip has a label"
        return (
            f"{found}: label clips with two classes or more, or predict attributes alone "
            "(model.classes=false)"
        )
    alone = config.split.val_share == 0 and config.train.monitor == "last"
    fewest = FEWEST_SPEAKERS - alone
    if config.split.protocol != "all-speakers" and len(corpus.speakers) < fewest:
        parts = "training and test" if alone else "training, validation and test"
        less = "" if alone else "; split.val_share=0 train.monitor=last needs two"
        people = counted(len(corpus.speakers), "speaker")
        return f"{people} cannot be divided into {parts}: add clips of other people{less}"
    return ""


def _is_unused(word: str) -> bool:
    """Return whether a ``KEY=VALUE`` word sets something that ``deiii train`` does not use."""
    return word.partition("=")[0].partition(".")[0] in PREPROCESSING_ONLY
