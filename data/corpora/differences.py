"""Digests of a clip table, and what differs between two of them in words.

>>> from deiii.data.corpora.clips import Clip
>>> old = Corpus("mine", ".", ("happy", "sad"), (Clip("a", "a.mp4", "anna", "happy"),))
>>> new = Corpus("mine", ".", ("happy", "sad"), (Clip("a", "a.mp4", "anna", "sad"),))
>>> differences(old, new)
['the label of 1 clip (a: happy -> sad)']
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from typing import Any

from deiii.data.corpora.clips import Clip, Corpus
from deiii.data.tools.counts import counted, examples

# What a clip's features do not depend on.
ANSWERS = {"label": "label", "soft": "soft label", "attributes": "attributes", "fold": "fold"}


def clip_digest(corpus: Corpus) -> str:
    """Return SHA-256 over ids, paths and speakers of all clips, which are what shards are made from."""
    return _digest([[_nfc(c.id), _nfc(c.path), c.speaker] for c in _ordered(corpus)])


def label_digest(corpus: Corpus) -> str:
    """Return SHA-256 over what is to be predicted: labels, attributes, classes and ranges; and folds."""
    rows = [[_nfc(c.id), c.label, c.soft, dict(c.attributes), c.fold] for c in _ordered(corpus)]
    ranges = {name: list(limits) for name, limits in corpus.ranges.items()}
    return _digest([list(corpus.classes), ranges, corpus.labels, rows])


def differences(before: Corpus, after: Corpus) -> list[str]:
    """Return the differences of two versions of a clip table, one phrase per kind; empty without any."""
    old = {_nfc(c.id): c for c in before.clips}
    new = {_nfc(c.id): c for c in after.clips}
    found = []
    places = {c.path: name for name, c in new.items() if name not in old}
    gone_from = {c.path: name for name, c in old.items() if name not in new}
    renamed = {name: places[path] for path, name in gone_from.items() if path in places}
    if renamed:
        pairs = (f"{was} -> {now}" for was, now in sorted(renamed.items()))
        found.append(f"the id of {counted(len(renamed), 'clip')} ({examples(pairs)})")
    new = {back: new[name] for back, name in renamed.items()} | {
        name: c for name, c in new.items() if name not in renamed.values()
    }
    if gone := sorted(old.keys() - new.keys()):
        found.append(f"{counted(len(gone), 'clip')} gone ({examples(gone)})")
    if added := sorted(new.keys() - old.keys()):
        found.append(f"{counted(len(added), 'clip')} added ({examples(added)})")
    both = sorted(old.keys() & new.keys())
    for name, words in {"speaker": "speaker", "path": "path", **ANSWERS}.items():
        changed = [i for i in both if _value(old[i], name) != _value(new[i], name)]
        if changed:
            pairs = (f"{i}: {_value(old[i], name)} -> {_value(new[i], name)}" for i in changed)
            found.append(f"the {words} of {counted(len(changed), 'clip')} ({examples(pairs)})")
    if before.classes != after.classes:
        found.append(f"the classes ({', '.join(before.classes)} -> {', '.join(after.classes)})")
    if dict(before.ranges) != dict(after.ranges):
        found.append(f"the ranges of attributes ({dict(before.ranges)} -> {dict(after.ranges)})")
    return found


def _value(clip: Clip, name: str) -> Any:
    value = getattr(clip, name)
    return _nfc(value) if name == "path" else dict(value) if name == "attributes" else value


def _ordered(corpus: Corpus) -> list[Clip]:
    return sorted(corpus.clips, key=lambda clip: _nfc(clip.id))


def _nfc(text: str) -> str:
    """Return a name in composed form (NFC), because systems return composed or decomposed names."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _digest(tree: Any) -> str:
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
