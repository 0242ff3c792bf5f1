"""A clip, and a corpus of clips.

>>> a = Clip(id="s1/a", path="s1/a.mp4", speaker="s1", label="happy")
>>> Corpus("mine", "/clips", ("happy", "sad"), (a,)).speakers
('s1',)
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from deiii.data.tools.counts import counted

SEXES = {"f": "female", "female": "female", "w": "female", "woman": "female",
         "m": "male", "male": "male", "man": "male"}  # other words are unknown  # fmt: skip
KNOWN_SEXES = ("female", "male")
UNKNOWN = "unknown-"  # begin of the speaker's name that `deiii init` gives to a clip of an unknown speaker
_PLACEHOLDER = re.compile(rf"{UNKNOWN}[0-9a-f]{{12}}")


@dataclass(frozen=True)
class Clip:
    """One recording of one speaker.

    Attributes:
        id: unique within the corpus, the same in every scan.
        path: the media file, relative to the corpus root, with forward slashes.
        speaker: the person in the clip; a split keeps the clips of a speaker in one part, unless
            ``split.leaks`` allows otherwise.
        label: class name, or ``None`` if the clip has attributes only.
        soft: distribution over the corpus's classes (sums to 1) that raters perceived, if they disagree.
        attributes: continuous labels by name (``valence``, ``arousal``, ``dominance``), in the
            corpus's own range (`Corpus.ranges`); a missing one is absent.
        fold: the corpus's own fold or session name, if it has one.
        note: a known defect of this clip at its source; empty if there is none.
        votes: what raters chose, by what they saw or heard (``voice``, ``face``, ``multimodal``): the number
            of votes for each class, or 1 for each winner where only winners are published
            (`Corpus.votes`). They set the ceiling that is printed beside a result.
        sex: ``female`` or ``male`` where a table of the corpus states the speaker's sex; else empty.
    """

    id: str
    path: str
    speaker: str
    label: str | None = None
    soft: tuple[float, ...] | None = None
    attributes: Mapping[str, float] = field(default_factory=dict)
    fold: str | None = None
    note: str = ""
    votes: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    sex: str = ""


@dataclass(frozen=True)
class Corpus:
    """Clips below one root folder, and the meaning of their labels.

    Attributes:
        name: name of the corpus and of its folder in a cache.
        root: folder that clip paths are relative to.
        classes: class names; a label's index in this tuple is its class number.
        clips: clips in a fixed order, sorted by id.
        ranges: lowest and highest possible value of each attribute.
        protocol: name of the default split protocol in ``data/corpora/protocols/``.
        labels: kind of the labels, if the corpus has several (``acted``, ``voice``, ``face``,
            ``multimodal``); else empty.
        votes: whether `Clip.votes` are ``counts`` of raters or only the ``winners``; empty without any.
        base: the name without the digest that distinguishes corpora of one name; empty if it has none.
        notes: lines for people on how the table was read; not stored.
        divided: the corpus of a mixture that is divided into training, validation and test, if the others
            are only trained on; not stored.

    Raises:
        CorpusError: for two clips of one id, or a label that does not fit the classes.
    """

    name: str
    root: str
    classes: tuple[str, ...]
    clips: tuple[Clip, ...]
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    protocol: str = "speakers"
    labels: str = ""
    votes: str = ""
    base: str = ""
    notes: tuple[str, ...] = field(default=(), compare=False)
    divided: Corpus | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for clip in self.clips:
            if clip.id in seen:
                raise CorpusError(f"{self.name}: two clips share the id {clip.id!r}")
            seen.add(clip.id)
            if clip.label is not None and clip.label not in self.classes:
                raise CorpusError(
                    f"{self.name}: clip {clip.id!r} has the label {clip.label!r}, "
                    f"which is not one of {', '.join(self.classes)}"
                )
            if clip.soft is not None and not self._is_distribution(clip.soft):
                raise CorpusError(
                    f"{self.name}: clip {clip.id!r} has the soft label {clip.soft}, which is not "
                    f"a distribution over {len(self.classes)} classes"
                )

    def __repr__(self) -> str:
        """Return the corpus in one line, without its clips, of which there may be thousands."""
        size = f"{counted(len(self.clips), 'clip')} of {counted(len(self.speakers), 'speaker')}"
        return f"Corpus({self.name!r}: {size}, {counted(len(self.classes), 'class', 'classes')}, {self.root})"

    def _is_distribution(self, soft: tuple[float, ...]) -> bool:
        shares = len(soft) == len(self.classes) and all(0 <= share <= 1 for share in soft)
        return shares and math.isclose(sum(soft), 1.0, abs_tol=1e-6)

    @property
    def title(self) -> str:
        """The name of the corpus by which people know it; see `readable_name`."""
        return readable_name(self.base or self.name, self.root)

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the corpora of a mixture; empty for a single corpus."""
        return tuple(self.name.split("+")) if "+" in self.name else ()

    def fronts(self) -> dict[str, str]:
        """Return the prefix of each clip id of a mixture, by clip id: the name of a corpus and a colon.

        It is empty for clips that keep their names: those of a single corpus, and in a mixture those of the
        corpus that alone is divided into training, validation and test.
        """
        fronts = {f"{name}:" for name in self.parts}
        own = {clip.id for clip in self.divided.clips} if self.divided else set()
        heads = {clip.id: "" if clip.id in own else clip.id[: clip.id.find(":") + 1] for clip in self.clips}
        return {clip_id: head if head in fronts else "" for clip_id, head in heads.items()}

    @property
    def speakers(self) -> tuple[str, ...]:
        """The names of all speakers, sorted."""
        return tuple(sorted({c.speaker for c in self.clips}))


TABLE = "table-"  # begins the names of the cache folders of table corpora
# It distinguishes corpora of one name; eight decimal digits are a date, as in clips-20240101.csv.
DIGEST = re.compile(r"-(?!\d{8}$)[0-9a-f]{8}$")


def readable_name(name: str, root: str | os.PathLike[str], table: str = "") -> str:
    """Return the name of a corpus by which people know it.

    A table corpus is known by the folder of its clips, and by the name of its table if that is not the usual
    ``clips.csv``: ``table-clips`` is the name of a folder in a cache. Other names are returned unchanged.

    Args:
        name: name of the corpus in a cache; ``+`` joins those of a mixture, which is returned unchanged.
        root: folder of the media files.
        table: file of the table; by default its name is that in ``name``.

    >>> readable_name("table-clips", "/data/theatre"), readable_name("table-evening", "/data/theatre")
    ('theatre', 'evening in theatre')
    >>> readable_name("ravdess-audio-video-speech", "/data/theatre")
    'ravdess-audio-video-speech'
    """
    folder = Path(os.path.abspath(root)).name
    if not f"{name}-".startswith(TABLE) or "+" in name or not folder:
        return name
    stem = PurePath(table).stem if table else DIGEST.sub("", name.removeprefix(TABLE))
    return folder if stem in ("clips", "table") else f"{stem} in {folder}"


def is_placeholder(speaker: str) -> bool:
    """Return whether a speaker's name is one that `deiii init` gave to a clip of an unknown speaker.

    >>> is_placeholder("unknown-b0cad389abab"), is_placeholder("anna"), is_placeholder("unknown-hero")
    (True, False, False)
    """
    return _PLACEHOLDER.fullmatch(speaker) is not None


class CorpusError(ValueError):
    """The folder, table or labels of a corpus are not as expected; the message says what to do."""


class FormError(CorpusError):
    """A table has another form than deiii's, which `deiii init` can read."""


class CorpusSettingError(CorpusError):
    """A setting does not fit the kind of corpus, whatever its folder contains."""
