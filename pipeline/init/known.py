"""Recognise published corpora by their file names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from deiii.data.audit.names import PATTERNS
from deiii.data.config.load import find_config, shipped_configs
from deiii.data.config.strict_yaml import read_yaml
from deiii.data.corpora.pattern import compile_pattern
from deiii.data.corpora.published.ravdess import CHANNELS, MODALITIES, parse_name
from deiii.data.tools.counts import counted
from deiii.pipeline.init.found import Found

LEAST = 0.6  # share of the recordings whose names are as in the corpus
FEW = {"mead": 0.05}  # seven cameras, of which one is used; its paths are unlike any other's

# Tables that corpora are published with. The module of the corpus reads those that it needs.
PUBLISHED = {
    "crema_d": (
        "sentencefilenames.csv", "videodemographics.csv", "summarytable.csv", "tabulatedvotes.csv",
        "finishedresponses.csv", "finishedemoresponses.csv",
        "finishedresponseswithrepeatwithpractice.csv",
    ),
    "msp_improv": ("evalution.txt", "evaluation.txt"),
}  # fmt: skip
WITH_A_MODULE = ("ravdess", "ravdess_audio", "crema_d", "msp_improv", "iemocap")


def found_by_pattern(found: Found) -> bool:
    """Return whether a corpus was recognised by a pattern of its config alone, which other names may fit."""
    return bool(found.config) and found.config not in WITH_A_MODULE


def known_corpus(paths: Sequence[str]) -> Found | None:
    """Return the corpus of deiii whose file names most recordings have; ``None`` if there is none."""
    best, share = "", 0.0
    for name, matches in _tests().items():
        here = sum(map(matches, paths)) / len(paths)
        if here >= FEW.get(name, LEAST) and here > share:
            best, share = name, here
    if not best:
        return None
    how = f"the corpus {best}, by its file names"
    if best == "ravdess":
        modality, channel, _ = _kinds(paths)[0]
        config = "ravdess_audio" if modality == "audio-only" else "ravdess"
        corpus = {"modality": modality, "channel": channel}
        return Found(how, config=config, corpus=corpus, notes=_other_ravdess(paths))
    return Found(how, config=best)


def _tests() -> dict[str, Callable[[str], bool]]:
    """Return, for each config of a corpus, the test whether a path is one of its recordings."""

    def by_name(pattern: re.Pattern[str]) -> Callable[[str], bool]:
        return lambda path: pattern.search(PurePosixPath(path).stem) is not None

    def by_path(pattern: re.Pattern[str]) -> Callable[[str], bool]:
        return lambda path: pattern.search(PurePosixPath(path).with_suffix("").as_posix()) is not None

    tests: dict[str, Callable[[str], bool]] = {
        "ravdess": lambda path: parse_name(path) is not None,
        "crema_d": by_name(PATTERNS["crema_d"]),
        "msp_improv": by_name(PATTERNS["msp_improv"]),
        "iemocap": by_name(PATTERNS["iemocap"]),
    }
    for name in shipped_configs():
        corpus = read_yaml(find_config(name), ("corpus.pattern",)).get("corpus", {})
        if corpus.get("name") == "pattern":
            tests[name] = by_path(compile_pattern(corpus["pattern"]))
    return tests


def _kinds(paths: Sequence[str]) -> list[tuple[str, str, int]]:
    """Return modality, channel, number of RAVDESS files: videos with sound first, then the most frequent."""
    fields = [parsed[:2] for path in paths if (parsed := parse_name(path))]
    count = Counter(fields)
    order = sorted(count, key=lambda kind: (kind[0] != MODALITIES["audio-video"], -count[kind], kind))
    modality = {number: name for name, number in MODALITIES.items()}
    channel = {numbers[0]: name for name, numbers in CHANNELS.items() if len(numbers) == 1}
    return [(modality[m], channel[c], count[m, c]) for m, c in order]


def _other_ravdess(paths: Sequence[str]) -> tuple[str, ...]:
    others = _kinds(paths)[1:]
    if not others:
        return ()
    words = ", ".join(
        f"{counted(n, 'recording')} with corpus.modality={m} corpus.channel={c}" for m, c, n in others
    )
    return (
        f"there {'is' if len(others) == 1 else 'are'} also {counted(len(others), 'other kind')}: {words}",
    )
