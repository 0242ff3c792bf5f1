"""Corpora whose file names contain speaker and label, described by a regular expression.

``corpus.pattern`` is searched for in each recording's path below ``corpus.root``, with forward slashes and
without its suffix; capital and small letters are the same. It has the groups ``speaker`` and ``label``. A
group ``sex`` is optional (f, female, w, woman, m, male, man); it may lie within another group.
``corpus.codes`` names the class of each label, e.g. ``{an: angry, ha: happy}``; a code with ``null`` leaves
its recordings out. Without codes, the labels are the classes.

>>> from deiii.data.corpora.pattern import compile_pattern
>>> found = compile_pattern(r"s(?P<speaker>\\d+)_(?P<label>an|ha)_").search("subject 1/s1_an_2")
>>> found["speaker"], found["label"]
('1', 'an')
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from deiii.data.config.schema import CorpusConfig
from deiii.data.corpora.clips import KNOWN_SEXES, SEXES, Clip, Corpus, CorpusError
from deiii.data.corpora.files import AUDIO, VIDEO, corpus_files, nothing_there, root_folder
from deiii.data.corpora.spelling import clean, fold_labels, refuse_spellings
from deiii.data.tools.counts import counted, examples

ORDER = (*VIDEO, *AUDIO)
GROUPS = ("speaker", "label")
MOST_NAMED = 5  # words of the group sex that notes name
_log = logging.getLogger(__name__)


def scan(config: CorpusConfig) -> Corpus:
    """Return the recordings whose paths match ``config.pattern``.

    A clip's id is its path without suffix. Of several files with one id (a video and its audio) the first in
    the order of formats is taken, videos first.

    Raises:
        CorpusError: for a pattern that is not a regular expression or lacks a group, no match, or a label
            without a code; shows examples.
    """
    root = root_folder(config.root, "pattern", "a recording")
    pattern = compile_pattern(config.pattern)
    refuse_spellings("classes", filter(None, config.codes.values()), "write one of them in corpus.codes")
    codes = _codes(config.codes)
    paths = corpus_files(root, ORDER)
    clips: dict[str, Clip] = {}
    rank: dict[str, int] = {}
    others: list[str] = []
    left_out = 0
    for path in paths:
        clip_id = str(PurePosixPath(path).with_suffix(""))
        found = pattern.search(clip_id)
        if found is None or not found["speaker"] or not found["label"]:
            others.append(path)
            continue
        label: str | None = found["label"]
        code = clean(found["label"]).casefold()  # macOS returns decomposed letters
        if codes:
            if code not in codes:
                raise CorpusError(
                    f"pattern: {path} has the label {found['label']!r}, which corpus.codes does not name "
                    f"({', '.join(codes)}); add it, with null to leave such recordings out"
                )
            label = codes[code]
        place = ORDER.index(PurePosixPath(path).suffix.lower())
        left_out += label is None
        if label is None or rank.get(clip_id, len(ORDER)) < place:
            continue
        rank[clip_id] = place
        sex = clean(found["sex"] or "").casefold() if "sex" in pattern.groupindex else ""
        speaker = clean(found["speaker"]).casefold()
        clips[clip_id] = Clip(clip_id, path, speaker, label, sex=SEXES.get(sex, sex))
    if not clips and left_out:
        raise CorpusError(
            f"pattern: corpus.codes leaves out {counted(left_out, 'file')} under {config.root}, all "
            "that match; name classes instead of null"
        )
    if not clips:
        raise CorpusError(
            f"pattern: no path under {config.root} matches corpus.pattern={config.pattern}; "
            f"{nothing_there(Path(config.root), paths)}{_suffix_hint(pattern, paths)}"
        )
    remedy = "change corpus.pattern or the names of the files, so that one person has one name"
    refuse_spellings("speakers", sorted({clip.speaker for clip in clips.values()}), remedy)
    unknown = _unknown_sexes(clips.values())
    clips = {i: clip if clip.sex in KNOWN_SEXES else replace(clip, sex="") for i, clip in clips.items()}
    notes: list[str] = []
    if not codes:
        labels = ((clip.path, clip.label or "") for clip in clips.values())
        folded, notes = fold_labels(labels, "file")
        clips = {i: replace(clip, label=folded[clip.label or ""]) for i, clip in clips.items()}
    if others:
        not_matching = counted(len(others), "file that does", "files that do")
        _log.warning("pattern: left out %s not match: %s", not_matching, examples(others))
    classes = (
        dict.fromkeys(codes.values())
        if codes
        else dict.fromkeys(sorted(c.label or "" for c in clips.values()))
    )
    names = tuple(name for name in classes if name)
    said = (*(f"label {note}" for note in notes), *unknown)
    return Corpus("pattern", str(root), names, tuple(clips[i] for i in sorted(clips)), notes=said)


def _suffix_hint(pattern: re.Pattern[str], paths: Iterable[str]) -> str:
    """Return what to do about a pattern that fits paths with their suffix alone, else an empty text."""
    if not any(map(pattern.search, paths)):
        return ""
    return "; the pattern is searched for in the paths without their suffixes: remove the suffix from it"


def _unknown_sexes(clips: Iterable[Clip]) -> list[str]:
    """Refuse a speaker of two sexes; returns a note on each word that is not understood."""
    first: dict[str, Clip] = {}
    unknown: dict[str, str] = {}
    for clip in clips:
        if clip.sex in KNOWN_SEXES:
            other = first.setdefault(clip.speaker, clip)
            if other.sex != clip.sex:
                raise CorpusError(
                    f"pattern: speaker {clip.speaker} is {other.sex} in {other.path} and {clip.sex} in "
                    f"{clip.path}; change corpus.pattern or the names of the files"
                )
        elif clip.sex:
            unknown.setdefault(clip.sex, clip.path)
    return [
        f"sex {word!r} of {path} is not understood and left out; the group sex reads f, female, m or male"
        for word, path in list(unknown.items())[:MOST_NAMED]
    ]


def _codes(given: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return ``corpus.codes`` in small letters. Raises CorpusError for one code with two classes."""
    codes: dict[str, str | None] = {}
    for code, name in given.items():
        key = clean(code).casefold()
        if codes.setdefault(key, name) != name:
            raise CorpusError(
                f"corpus.codes gives {code!r} the classes {codes[key]} and {name}: capital and small letters "
                "are the same; rename the files, or read another part of their names with corpus.pattern"
            )
    return codes


def compile_pattern(text: str | None) -> re.Pattern[str]:
    """Return the regular expression of ``corpus.pattern``.

    Raises:
        CorpusError: it is empty, no regular expression, or lacks a group.
    """
    if not text:
        raise CorpusError(
            "corpus.name=pattern needs corpus.pattern, a regular expression with the groups speaker and "
            "label, "
            r"e.g. '(?P<speaker>s\d+)_(?P<label>[a-z]+)_'"
        )
    try:
        pattern = re.compile(text, re.IGNORECASE)
    except re.error as error:
        raise CorpusError(f"corpus.pattern={text} is not a regular expression: {error}") from None
    if lacking := [name for name in GROUPS if name not in pattern.groupindex]:
        raise CorpusError(f"corpus.pattern={text} has no group (?P<{lacking[0]}>...)")
    return pattern
