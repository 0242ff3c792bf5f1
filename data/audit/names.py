"""Read speaker, sentence, take and sex of a clip from the file names of a few corpora.

>>> facts_of("AudioWAV/1001_DFA_ANG_XX.wav", "crema_d").speaker
'1001'
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from deiii.data.corpora.clips import Clip, Corpus
from deiii.data.corpora.files import clip_key
from deiii.data.corpora.protocol import Protocol
from deiii.data.corpora.published import crema_d, iemocap, msp_improv, ravdess


@dataclass(frozen=True)
class Facts:
    """Known facts on a clip; empty text where a fact is not known.

    Attributes:
        id: id of the clip.
        take: what the names of all files of one recording share.
        speaker, sentence, label: names.
        sex: ``female`` or ``male``.
    """

    id: str
    take: str = ""
    speaker: str = ""
    sentence: str = ""
    label: str = ""
    sex: str = ""


# By corpus: the sex of speakers as the corpus publishes it, where file names do not contain it.
SEXES = {
    "pattern-savee": dict.fromkeys(("dc", "je", "jk", "kl"), "male"),
    "pattern-tess": dict.fromkeys(("oa", "ya"), "female"),
    "pattern-emodb": {
        **dict.fromkeys(("03", "10", "11", "12", "15"), "male"),
        **dict.fromkeys(("08", "09", "13", "14", "16"), "female"),
    },
    "pattern-cafe": {f"{n:02d}": "female" if n % 2 == 0 else "male" for n in range(1, 13)},
}

_CREMA_D = re.compile(r"(?P<speaker>\d{4})_(?P<sentence>[A-Z]{3})_(?P<label>[A-Z]{3})_(?:XX?|LO|MD|HI)", re.I)
_RAVDESS = re.compile(
    r"(?<![\d-])\d\d-\d\d-(?P<label>\d\d)-\d\d-(?P<sentence>\d\d)-\d\d-(?P<speaker>\d\d)(?![\d-])"
)
_MSP_IMPROV = re.compile(
    r"(?P<sentence>S\d\d)(?P<label>[AHNS])-(?P<speaker>[FM]\d\d)-[PRST]-[FM]{2}\d{2,3}", re.I
)
# Only scripts are read by several actors. The names have no class.
_IEMOCAP = re.compile(
    r"Ses(?P<speaker>\d\d)[FM]_(?:impro\d\d[a-z]?|(?P<sentence>script\d\d[a-z]?(?:_\d[a-z]?)?))"
    r"_(?P<sex>[FM])\d{3}(?P<label>)"
)
PATTERNS = {"crema_d": _CREMA_D, "ravdess": _RAVDESS, "msp_improv": _MSP_IMPROV, "iemocap": _IEMOCAP}
# By corpus: the class that a code in a file name stands for.
CLASSES = {
    "crema_d": {code: crema_d.LETTERS[letter] for code, letter in crema_d.CODES.items()},
    "ravdess": {f"{number:02d}": name for number, name in enumerate(ravdess.CLASSES, 1)},
    "msp_improv": msp_improv.LETTERS,
    "iemocap": iemocap.CODES,
}


def known_corpora(name: str) -> list[str]:
    """Return the corpora with known file names that the name of a cached corpus contains.

    >>> known_corpora("ravdess-audio-only-speech+crema_d-voice")
    ['ravdess', 'crema_d']
    """
    parts = [part.split("-")[0] for part in name.split("+")]
    return [part for part in parts if part in PATTERNS]


def facts_of(name: str, corpus: str) -> Facts:
    """Return the facts in a file name; only the id where the corpus's names are not known."""
    stem = name.replace("\\", "/").rsplit("/", 1)[-1]
    named = {known: PATTERNS[known].search(stem) for known in known_corpora(corpus)}
    corpus, found = next(((known, match) for known, match in named.items() if match), (corpus, None))
    if found is None:
        return Facts(name)
    speaker, sex = found["speaker"].upper(), ""
    if corpus == "ravdess":
        sex = "female" if int(speaker) % 2 == 0 else "male"  # even numbers are women
        speaker = f"actor-{speaker}"
    elif corpus == "msp_improv":
        sex = {"F": "female", "M": "male"}[speaker[0]]
    elif corpus == "iemocap":
        sex = {"F": "female", "M": "male"}[found["sex"]]
        speaker = f"Ses{speaker}{found['sex']}"
    sentence = (found["sentence"] or "").upper()
    return Facts(name, clip_key(name), speaker, sentence, found["label"].upper(), sex)


def sex_of(clip: Clip, corpus: str) -> str:
    """Return the sex of a clip's speaker: from the corpus's table, the file's name, or a published list.

    >>> sex_of(Clip("a", "Actor_02/03-01-01-01-01-01-02.wav", "actor-02"), "ravdess")
    'female'
    """
    return clip.sex or facts_of(clip.path, corpus).sex or SEXES.get(corpus, {}).get(clip.speaker, "")


def facts_of_clip(clip: Clip, corpus: str) -> Facts:
    """Return the facts of a scanned clip: speaker and label from the corpus, the others from its name."""
    named = facts_of(clip.path, corpus)
    return Facts(clip.id, named.take, clip.speaker, named.sentence, clip.label or "", sex_of(clip, corpus))


def corpus_of_names(protocol: Protocol, corpus: str) -> Corpus | None:
    """Return a corpus made of the names in a protocol's lists, for an audit without the corpus's files.

    The label of a clip is the class that the code in its name stands for; the classes are all those of the
    corpus. Returns ``None`` if some name does not contain the speaker.
    """
    facts: dict[str, Facts] = {}
    for fold in protocol.parts:
        for names in fold.values():
            for name in names:
                facts.setdefault(clip_key(name), facts_of(name, corpus))
    if not facts or not all(f.speaker for f in facts.values()):
        return None
    known = [CLASSES[name] for name in known_corpora(corpus)]
    codes = {code: label for classes in known for code, label in classes.items()}
    clips = tuple(Clip(key, f.id, f.speaker, codes.get(f.label)) for key, f in sorted(facts.items()))
    return Corpus(corpus, "", tuple(dict.fromkeys(codes.values())), clips)
