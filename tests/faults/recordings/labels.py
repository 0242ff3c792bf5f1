"""18. Labels and names: spellings of one word are one class, or refused with their rows."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from itertools import product

from deiii.data.config.schema import CorpusConfig
from deiii.data.corpora.scan import scan
from tests.faults.checks import check_error
from tests.faults.harness import NotAvailable, faults
from tests.faults.processes import main_in
from tests.faults.workspace import Workspace
from tests.helpers.tables import write_rows

labels = faults("18 labels")
ONE = "one class, and a line that names the rows"
REFUSED = "refused in one line that names the rows, before any work"
FULL = "\uff28\uff21\uff30\uff30\uff39"  # HAPPY in full-width letters
# Spellings of happy.
SPELLINGS = {
    "capital letters": "HAPPY", "a capital": "Happy", "mixed case": "hApPy", "a blank before": " happy",
    "a blank after": "happy ", "a tab after": "happy\t", "a no-break space": "happy\u00a0",
    "a narrow no-break space": "\u202fhappy", "an ideographic space": "happy\u3000",
    "a zero-width space": "hap\u200bpy", "a byte-order mark": "\ufeffhappy", "a soft hyphen": "hap\u00adpy",
    "a word joiner": "happy\u2060", "a left-to-right mark": "\u200ehappy",
    "an embedding mark": "\u202ahappy\u202c",
    "an isolate mark": "\u2068happy\u2069", "a variation selector": "happy\ufe0f", "a filler": "happy\u3164",
    "a combining grapheme joiner": "ha\u034fppy", "full-width letters": FULL, "a newline": "happy\n",
    "a carriage return": "happy\r", "a tag character": "happy\U000e0020", "invisible times": "hap\u2062py",
}  # fmt: skip


def _scan(work: Workspace, rows: Sequence[Sequence[str]], header=("path", "speaker", "label")):
    root = work.folder()
    for path, *_ in rows:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    write_rows(root, rows, header)
    return scan(CorpusConfig(name="table", root=str(root)))


def _refuse(work: Workspace, rows: Sequence[Sequence[str]], *words: str, header=("path", "speaker", "label")):
    root = work.folder()
    for path, *_ in rows:
        (root / path).touch()
    write_rows(root, rows, header)
    cache = root / "cache"
    done = main_in("preprocess", "corpus.name=table", f"corpus.root={root}", f"cache={cache}")
    assert not cache.exists(), "work was begun"
    return check_error(done, *words)


@labels("happy with {case}", ONE, cases=SPELLINGS, short={"a zero-width space", "full-width letters"})
def spellings(work: Workspace, case: str) -> str:
    text = SPELLINGS[case]
    rows = [["a.wav", "s1", "happy"], ["b.wav", "s2", "happy"], ["c.wav", "s3", text], ["d.wav", "s1", "sad"]]
    corpus = _scan(work, rows)
    assert corpus.classes == ("happy", "sad"), corpus.classes
    assert text.strip() == "happy" or any("row" in note for note in corpus.notes), corpus.notes
    return "; ".join(corpus.notes)[-80:]


NUMBERS = (
    ("1", "1.0"),
    ("1", "01"),
    ("1", "+1"),
    ("1", "1,0"),
    ("0", "-0"),
    ("3", "\u0663"),
    ("2", "\uff12"),
)


@labels("labels {case[0]} and {case[1]!a}", ONE, cases=NUMBERS)
def numbers(work: Workspace, case: tuple[str, str]) -> str:
    one, other = case
    rows = [["a.wav", "s1", one], ["b.wav", "s2", one], ["c.wav", "s3", other], ["d.wav", "s1", "7"]]
    corpus = _scan(work, rows)
    assert len(corpus.classes) == 2, corpus.classes
    return "; ".join(corpus.notes)[-80:]


APART = (("1", "10"), ("sad", "mad"), ("1.5", "15"), ("happy", "unhappy"), ("a b", "ab"), ("a", "\u00e4"))


@labels("labels {case[0]} and {case[1]!a}", "two classes: they mean different things", cases=APART)
def apart(work: Workspace, case: tuple[str, str]) -> str:
    rows = [["a.wav", "s1", case[0]], ["b.wav", "s2", case[1]]]
    corpus = _scan(work, rows)
    assert len(corpus.classes) == 2 and not corpus.notes, (corpus.classes, corpus.notes)
    return ", ".join(map(ascii, corpus.classes))


MISSING = (
    "nan",
    "NaN",
    "NULL",
    "None",
    "n/a",
    "#N/A",
    "<NA>",
    "inf",
    "#REF!",
    "undefined",
    "NaT",
    "na\u200bn",
)


@labels("{case[0]} {case[1]!a}", REFUSED, cases=list(product(("label", "speaker"), MISSING)),
        short=[("label", "nan")])  # fmt: skip
def missing(work: Workspace, case: tuple[str, str]) -> str:
    column, text = case
    row = ["b.wav", "s2", text] if column == "label" else ["b.wav", text, "sad"]
    rows = [["a.wav", "s1", "happy"], row, ["c.wav", "s3", "sad"]]
    return _refuse(work, rows, "row 3", column, "missing value")


ALIKE = (("happy", "h\u0430ppy"), ("no", "n\u03bf"), ("sad", "s\u0430d"), ("calm", "\u0441alm"))


@labels("labels {case[0]} and {case[1]!a}, of two alphabets", REFUSED, cases=ALIKE)
def alphabets(work: Workspace, case: tuple[str, str]) -> str:
    return _refuse(work, [["a.wav", "s1", case[0]], ["b.wav", "s2", case[1]]], "row 3", "look alike")


SPEAKERS = (("anna", "Anna"), ("anna", "anna\u200b"), ("1", "01"), ("1", "1.0"), ("Zo\u00eb", "ZO\u00cb"))


@labels("speakers {case[0]!a} and {case[1]!a}", f"one speaker with a line, or {REFUSED}", cases=SPEAKERS)
def speakers(work: Workspace, case: tuple[str, str]) -> str:
    rows = [["a.wav", case[0], "happy"], ["b.wav", case[1], "sad"]]
    if "\u200b" in case[1]:
        corpus = _scan(work, rows)
        assert len(corpus.speakers) == 1 and corpus.notes, (corpus.speakers, corpus.notes)
        return corpus.notes[0][-80:]
    return _refuse(work, rows, "spelling")


# The name in the table and the one on the disk.
NAMES = {
    "composed in the table, decomposed on the disk": ("NFC", "NFD"),
    "decomposed in the table, composed on the disk": ("NFD", "NFC"),
}


PLACES = {
    "in the name": "s1/Zo\u00eb.wav",
    "in a folder's name": "Andr\u00e9/a.wav",
    "in both": "\u00e9/\u00fc.wav",
}


@labels("file names {case[0]}, {case[1]}", "the file is found", short=[(next(iter(NAMES)), "in the name")],
        cases=list(product(NAMES, PLACES)))  # fmt: skip
def normalisation(work: Workspace, case: tuple[str, str]) -> str:
    table, disk = NAMES[case[0]]
    name = {
        "in the name": "s1/Zo\u00eb.wav",
        "in a folder's name": "Andr\u00e9/a.wav",
        "in both": "\u00e9/\u00fc.wav",
    }[case[1]]
    root = work.folder()
    path = root / unicodedata.normalize(disk, name)
    path.parent.mkdir(parents=True)
    path.touch()
    if os.path.exists(root / unicodedata.normalize(table, name)):
        raise NotAvailable("this file system treats both forms as one name")
    write_rows(root, [[unicodedata.normalize(table, name), "s1", "happy"], ["gone.wav", "s2", "sad"]])
    corpus = scan(CorpusConfig(name="table", root=str(root)))
    found = next(clip for clip in corpus.clips if clip.label == "happy")
    assert (root / found.path).exists(), ascii(found.path)
    return ascii(found.path)
