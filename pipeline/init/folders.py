"""Speaker and label in folders and file names: ``speaker/label/clip``, ``speaker_label_clip``.

A layout names the levels of a path below the corpus's folder. The last level is the file's name; there, words
between ``_`` stand for the parts of the name between ``_``, ``-``, ``.`` and blanks. Every other word than
``speaker`` and ``label`` stands for something that is not used.

>>> layout = read_layout("part/speaker/label/clip")
>>> layout.read("train/anna/happy/1.mp4")
('anna', 'happy')
>>> read_layout("speaker_take_label").read("anna_3_happy.wav")
('anna', 'happy')
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

from deiii.data.corpora.files import AUDIO, VIDEO
from deiii.data.tools.counts import counted, examples
from deiii.data.tools.text.part_names import part_of
from deiii.pipeline.init.found import Found, InitError, Row, with_counts
from deiii.pipeline.init.vocabulary import SPEAKER, is_emotion

SIGNS = re.compile(r"[_\-. ]+")
LONG_SPEAKER = re.compile(r"(?:speaker|spk|actor|actress|subj|subject|participant|person)[-_ ]?\d+", re.I)
NO_PERSON = re.compile(
    r"(?:level|intensity|sentence|sent|take|session|scene|trial|rep|repetition|day|video|audio|part|fold)"
    r"[-_ ]?\d*",
    re.IGNORECASE,
)
NUMBERED = re.compile(r"([^\W\d_]+)[-_ ]?\d+")
KINDS = frozenset({"class", "klasse", "label", "emotion", "emo", "category", "cluster", "group"})  # of labels
MOST_UNFIT = 0.2  # share of recordings that may lie elsewhere than in the layout
REMEDY = (
    "name the layout with --layout, e.g. --layout speaker/label/clip, --layout label/speaker/clip or "
    "--layout speaker_label_clip for names such as anna_happy_01.mp4"
)


@dataclass(frozen=True)
class Place:
    """The place of a word in a path.

    Attributes:
        level: level of a folder, counted from the top; ``None`` for a part of the file name.
        part: part of the file name; negative numbers count from the end.
    """

    level: int | None = None
    part: int | None = None

    def read(self, path: str) -> str | None:
        """Return the word at this place of a path; ``None`` if the path has no such level or part."""
        pure = PurePosixPath(path)
        words = pure.parts[:-1] if self.part is None else SIGNS.split(pure.stem)
        at = self.level if self.part is None else self.part
        return words[at] if at is not None and -len(words) <= at < len(words) else None


@dataclass(frozen=True)
class Layout:
    """Places of label and speaker, and the number of folders above a recording (``None``: any)."""

    label: Place
    speaker: Place | None
    depth: int | None
    words: str

    def read(self, path: str) -> tuple[str, str] | None:
        """Return speaker (empty if the layout has none) and label of a path; ``None`` if it does not fit."""
        if self.depth is not None and len(PurePosixPath(path).parts) - 1 != self.depth:
            return None
        label = self.label.read(path)
        speaker = self.speaker.read(path) if self.speaker else ""
        return (speaker, label) if label and speaker is not None else None


def read_layout(text: str) -> Layout:
    """Return the layout that ``--layout`` describes.

    Raises:
        InitError: it names no label, or one of the two words twice.
    """
    *folders, name = [level.strip() for level in text.strip().strip("/").split("/")]
    places: dict[str, list[Place]] = defaultdict(list)
    for level, word in enumerate(folders):
        places[word.lower()].append(Place(level=level))
    for part, word in enumerate(SIGNS.split(name)):
        places[word.lower()].append(Place(part=part))
    for word in ("speaker", "label"):
        if len(places[word]) > 1:
            raise InitError(f"--layout {text} has the word {word} twice")
    if not places["label"]:
        raise InitError(f"--layout {text} has no word label; {REMEDY}")
    speaker = places["speaker"][0] if places["speaker"] else None
    return Layout(places["label"][0], speaker, len(folders), text)


def from_layout(paths: Sequence[str], layout: Layout, notes: Sequence[str] = ()) -> Found:
    """Return the recordings that fit a layout; those that do not are named in a note.

    Raises:
        InitError: more than `MOST_UNFIT` of the recordings do not fit.
    """
    rows: list[Row] = []
    unfit: list[str] = []
    for path in paths:
        words = layout.read(path)
        if words is None:
            unfit.append(path)
        else:
            rows.append(Row(path, *words))
    if not rows or len(unfit) > MOST_UNFIT * len(paths):
        raise InitError(
            f"{len(unfit)} of {counted(len(paths), 'recording')} do not fit the layout {layout.words}, for "
            f"example {examples(unfit)}; {REMEDY}"
        )
    said = list(notes)
    if unfit:
        it, row = ("it", "its row") if len(unfit) == 1 else ("them", "their rows")
        said.append(
            f"{counted(len(unfit), 'recording')} left out, not in layout {layout.words}: {examples(unfit)}; "
            f"move {it} into the layout and run the command again with --force, or add {row} to clips.csv"
        )
    return Found(f"layout {layout.words}", tuple(rows), notes=tuple(said))


def guess(paths: Sequence[str]) -> Found:
    """Find the layout that most recordings have; return the recordings that fit it.

    Folders that all recordings share and those named train, val and test are passed over. The label is the
    level whose folders are named after emotions, else the part of the names that is; else the only level of
    folders. The speaker is the other level of folders, or a part of the names such as ``s01``.

    Raises:
        InitError: there are several possibilities, which the message names, or too many recordings do not
            fit.
    """
    depths = Counter(len(PurePosixPath(path).parts) - 1 for path in paths)
    depth = max(depths, key=lambda d: (depths[d], -d))
    usual = [path for path in paths if len(PurePosixPath(path).parts) - 1 == depth]
    folders = {level: [PurePosixPath(path).parts[level] for path in usual] for level in range(depth)}
    notes = []
    parts = [level for level, words in folders.items() if all(map(part_of, words))]
    if parts:
        shown = ", ".join(sorted(set(folders[parts[0]])))
        notes.append(
            f"the folders {shown} are not used: deiii divides the corpus itself, by speaker; "
            "`deiii splits import` reads a split that others published"
        )
    varied = [level for level, words in folders.items() if len(set(words)) > 1 and level not in parts]
    names = _parts_of_names(usual)
    label, doubt = _label(folders, varied, names, usual, parts)
    if doubt:
        notes.append(doubt)
    speaker, said = _speaker(
        folders, [level for level in varied if level != label.level], names, label, usual
    )
    if said:
        notes.append(said)
    layout = Layout(label, speaker, depth, _words(depth, label, speaker, parts))
    return from_layout(paths, layout, notes)


def one_file_each(paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return one file of those that differ in the suffix alone, the first by format; and a note."""
    order = {suffix: number for number, suffix in enumerate((*VIDEO, *AUDIO))}
    best: dict[str, str] = {}
    for path in paths:
        stem = PurePosixPath(path).with_suffix("").as_posix()
        other = best.setdefault(stem, path)
        if order[PurePosixPath(path).suffix.lower()] < order[PurePosixPath(other).suffix.lower()]:
            best[stem] = path
    left = sorted(set(paths) - set(best.values()))
    note = f"{counted(len(left), 'file')} left out, beside a video or an audio file of the same name: "
    return sorted(best.values()), [note + examples(left)] if left else []


def _parts_of_names(paths: Sequence[str]) -> dict[int, list[str]]:
    """Return the words at each place that all names have, counted from the start, else from the end."""
    split = [SIGNS.split(PurePosixPath(path).stem) for path in paths]
    least, most = min(map(len, split)), max(map(len, split))
    places = list(range(least)) + ([] if least == most else [-1 - n for n in range(least)])
    return {place: [words[place] for words in split] for place in places}


def _label(
    folders: dict[int, list[str]],
    varied: list[int],
    names: dict[int, list[str]],
    paths: Sequence[str],
    parts: list[int],
) -> tuple[Place, str]:
    """Return the place of the label, and a note where it is a guess."""
    named = [level for level in varied if _share(folders[level], is_emotion) >= 0.5]
    if len(named) == 1:
        return Place(level=named[0]), ""
    for short in (False, True):
        found = [
            place
            for place, words in names.items()
            if len(set(words)) > 1 and _share(words, partial(is_emotion, short=short)) >= 0.95
        ]
        if not named and found:
            return Place(part=found[0]), ""
    if not named and len(varied) == 1 and not _numbers_persons(folders[varied[0]]):
        return Place(level=varied[0]), _few_are_emotions(folders, varied[0], parts)
    if not named and len(varied) == 2:
        persons = [level for level in varied if _share(folders[level], SPEAKER.fullmatch) >= 0.9]
        if len(persons) == 1:
            other = next(level for level in varied if level not in persons)
            return Place(level=other), _few_are_emotions(folders, other, parts)
    shown = examples(paths, 2)
    raise InitError(f"it is not clear which part of the paths is the label, as in {shown}; {REMEDY}")


def _numbers_persons(words: list[str]) -> bool:
    """Return whether names of folders number persons: ``s01``, or one word of any language with numbers."""
    if _share(words, SPEAKER.fullmatch) >= 0.9:
        return True
    found = [NUMBERED.fullmatch(word) for word in words]
    before = {match[1].casefold() for match in found if match}
    return all(found) and len(before) == 1 and not before & KINDS


def _few_are_emotions(folders: dict[int, list[str]], chosen: int, parts: list[int]) -> str:
    """Return the note on labels that are no emotions; it names the option for another layout."""
    note = f"labels are the names of the folders ({with_counts(folders[chosen], 3)}); few are emotions: "
    for level, words in folders.items():
        if level not in parts and len(set(words)) == 1 and is_emotion(words[0]):
            layout = _words(len(folders), Place(level=level), Place(level=chosen), parts)
            return f"{note}if they are speakers and {words[0]} is the label, give --layout {layout}"
    return f"{note}if they are no labels, give --layout"


def _speaker(
    folders: dict[int, list[str]],
    levels: list[int],
    names: dict[int, list[str]],
    label: Place,
    paths: Sequence[str],
) -> tuple[Place | None, str]:
    """Return the place of the speaker, or ``None``, and a note."""
    levels = [level for level in levels if _share(folders[level], NO_PERSON.fullmatch) < 0.9]
    sure = [level for level in levels if _share(folders[level], SPEAKER.fullmatch) >= 0.9]
    if len(sure) == 1 or len(levels) == 1:
        return Place(level=(sure if len(sure) == 1 else levels)[0]), ""
    if levels:
        shown = "; ".join(f"level {level + 1}: {with_counts(folders[level], 3)}" for level in levels)
        raise InitError(f"several levels of folders could be the speaker ({shown}); {REMEDY}")
    labels = [label.read(path) or "" for path in paths]
    possible: list[int] = []
    for place, words in names.items():
        if place == label.part or not 1 < len(set(words)) < len(words):
            continue
        if place < 0 and possible:
            break  # the same parts again, counted from the end
        if all(word.isdecimal() for word in words) or not _with_several(words, labels):
            continue
        possible.append(place)
    long = [place for place in possible if _share(names[place], LONG_SPEAKER.fullmatch) >= 0.95]
    numbered = [place for place in possible if _share(names[place], SPEAKER.fullmatch) >= 0.95]
    words_only = [place for place in possible if all(word.isalpha() for word in names[place])]
    if len(long) == 1:
        return Place(part=long[0]), ""
    candidates = sorted({*numbered, *words_only})
    flat = label.part is not None
    if len(candidates) == 1 and (flat or candidates == numbered):
        return Place(part=candidates[0]), (
            f"the speaker is read from the names ({with_counts(names[candidates[0]], 3)}); if these are no "
            "persons, give --layout or --speaker"
        )
    if candidates:
        shown = ", ".join(sorted(set(names[candidates[0]]))[:3])
        return None, f"if {shown} in the names are speakers, name their place with --layout or --speaker"
    return None, ""


def _with_several(words: Sequence[str], labels: Sequence[str]) -> bool:
    """Return whether most words occur with two labels or more, as speakers do."""
    seen: dict[str, set[str]] = defaultdict(set)
    for word, label in zip(words, labels, strict=True):
        seen[word].add(label)
    return sum(len(found) > 1 for found in seen.values()) >= 0.5 * len(seen)


def _share(words: Sequence[str], test: Callable[[str], object]) -> float:
    """Return the share of the different words that pass a test."""
    different = set(words)
    return sum(bool(test(word)) for word in different) / len(different)


def _words(depth: int, label: Place, speaker: Place | None, parts: list[int]) -> str:
    levels = ["part" if level in parts else "folder" for level in range(depth)]
    name: dict[int, str] = {}
    for word, place in (("label", label), ("speaker", speaker)):
        if place is None:
            continue
        if place.level is not None:
            levels[place.level] = word
        elif place.part is not None:
            name[place.part] = word
    if not name:
        return "/".join([*levels, "clip"])
    if min(name) < 0:
        ends = [name.get(place, "x") for place in range(min(name), 0)]
        return "/".join([*levels, "_".join(["...", *ends])])
    ends = [name.get(place, "x") for place in range(max(name) + 1)]
    return "/".join([*levels, "_".join([*ends, "..."])])
