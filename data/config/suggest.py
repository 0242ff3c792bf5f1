"""Hints for misspelt names in error messages: only near names are suggested."""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from deiii.data.tools.counts import listed

SHORTEST_PREFIX = 3  # least number of letters; shorter beginnings fit too many names
MOST_NAMED = 5  # names in one hint
YAML = (".yaml", ".yml")
TABLES = (".csv", ".tsv")  # not config files, although some of them can be parsed as YAML


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known word most similar to ``word``, or ``None`` if none is similar.

    Args:
        word: what was typed.
        known: the words that exist.
        cutoff: lowest similarity that counts, 0 to 1 (`difflib.get_close_matches`).

    >>> nearest("tarin", ["train", "verify"])
    'train'
    """
    by_case = {one.casefold(): one for one in known}
    close = difflib.get_close_matches(word.casefold(), list(by_case), n=1, cutoff=cutoff)
    return by_case[close[0]] if close else None


def near_name(word: str, known: Iterable[str]) -> str | None:
    """Return the known name that ``word`` misspells or begins, or ``None`` if there is none.

    A name counts as misspelt if few letters are wrong, missing or too many: one in names of up to 5 letters,
    two in names of up to 11, three in longer ones.

    >>> near_name("precison", ["updates", "precision"]), near_name("iterations", ["updates", "precision"])
    ('precision', None)
    """
    typed = word.casefold()
    names = list(dict.fromkeys(known))
    close = {name: ratio for name in names if (ratio := _similarity(typed, name.casefold())) is not None}
    if close:
        return max(close, key=lambda name: close[name])
    begun = [name for name in names if name.casefold().startswith(typed)]
    return begun[0] if len(begun) == 1 and len(typed.lstrip("-")) >= SHORTEST_PREFIX else None


def _similarity(word: str, name: str) -> float | None:
    """Return the similarity of two names; ``None`` where too many letters differ for their length."""
    length = max(len(word.lstrip("-")), len(name.lstrip("-")), 1)
    letters = 1 if length <= 5 else 2 if length <= 11 else 3
    matcher = difflib.SequenceMatcher(None, word, name)
    ratio = matcher.ratio()
    if length > 2 and len(word) == len(name):
        # difflib aligns "quque" with "queue" by their "que", which stands at different places.
        different = sum(a != b for a, b in zip(word, name, strict=True))
        if different <= letters:
            return max(ratio, 1 - different / len(word))
    changed = sum(max(b - a, d - c) for kind, a, b, c, d in matcher.get_opcodes() if kind != "equal")
    if changed > max(2, max(len(word), len(name)) / 2):  # the same letters at other places
        return None
    # A changed letter costs 1/length; the small number is for rounding. Two letters: one may be too many.
    lowest = 1 - letters / length - 1e-9 if length > 2 else 0.6
    return ratio if ratio >= lowest and abs(len(word) - len(name)) <= letters else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of an error message that names the nearest known word; empty if none is near.

    >>> did_you_mean("tarin", ["train", "verify"])
    "; did you mean 'train'?"
    """
    found = near_name(word, known)
    return f"; did you mean {found!r}?" if found else ""


def did_you_mean_path(path: str | Path, there: Iterable[str | Path]) -> str:
    """Return the end of a message that names the path with the nearest last part; empty if none is near.

    >>> did_you_mean_path("runs/voises", ["runs/voices", "clips"])
    "; did you mean 'runs/voices'?"
    """
    by_name = {Path(other).name: str(other) for other in there}
    found = near_name(Path(path).name, by_name)
    return f"; did you mean {by_name[found]!r}?" if found else ""


def suggest_setting(key: str, keys: Collection[str]) -> str:
    """Return the end of an error message about a setting that does not exist.

    It names, in this order: a near name in the section, whose own name may be misspelt; settings of the same
    name in other sections; all settings of the section. Empty if none of them exists.

    Args:
        key: dotted name that was typed.
        keys: dotted names of all settings.

    >>> suggest_setting("flow.iterations", ["flow.updates", "flow.precision", "train.lr"])
    '; flow has the settings updates and precision'
    >>> suggest_setting("flow.lr", ["flow.updates", "flow.precision", "train.lr"])
    "; did you mean 'train.lr'?"
    """
    section, _, name = key.rpartition(".")
    if above := [known for known in keys if key.startswith(f"{known}.")]:
        return _meant(above)
    if section and not _names(section, keys):
        sections = dict.fromkeys(known.rpartition(".")[0] for known in keys)
        section = near_name(section, filter(None, sections)) or section
    own = _names(section, keys)
    if found := near_name(name, own) or _contained(name, own):
        return _meant([f"{section}.{found}" if section else found])
    if same := [known for known in keys if known.rpartition(".")[2].casefold() == name.casefold()]:
        return _meant(same)
    if not section:
        by_name = {known.rpartition(".")[2]: known for known in keys}
        found = near_name(name, by_name)
        return _meant([by_name[found]]) if found else ""
    return f"; {section} has the settings {listed(own)}" if own else ""


def no_config(name: str, shipped: Sequence[str], keys: Sequence[str]) -> str:
    """Return why a word names no config file, and what to write instead.

    Args:
        name: the word.
        shipped: bare names of the configs that come with deiii.
        keys: dotted names of all settings.

    >>> no_config("faces.size", ["tiny"], ["faces.size"])
    'faces.size is a setting, which needs a value: faces.size=VALUE'
    """
    if not name.strip():
        return "an empty word names no config file; leave it out"
    if os.path.isfile(Path(name) / "config.yaml"):  # unlike Path.is_file, it takes words of any length
        return f"{name} is a folder; the config in it is {Path(name) / 'config.yaml'}"
    if name in keys:
        return f"{name} is a setting, which needs a value: {name}=VALUE"
    if inside := [key for key in keys if key.startswith(f"{name}.")]:
        return f"{name} is a section of settings; write a setting with its value, such as {inside[0]}=VALUE"
    if os.path.isdir(name) and any(Path(name).glob("*/*/index.json")):
        return f"{name} is a cache folder, not a config file; write cache={name}"
    if os.path.isdir(name) and any(Path(name).glob("*/index.json")):
        cache = Path(name).absolute().parent if Path(name).name == name else Path(name).parent
        return (
            f"{name} is the folder of one corpus in a cache, not a config file; write cache={cache} with the "
            "config and settings of its preprocessing"
        )
    if os.path.isdir(name):
        return (
            f"{name} is a folder, not a config file; for recordings in it, write table corpus.root={name}, "
            f"or let `deiii init {shlex.quote(name)}` write a config"
        )
    if os.path.isfile(name):
        return (
            f"{name} is a table, not a config file; write table corpus.table={name} corpus.root=FOLDER, with "
            "the folder of the recordings"
        )
    if name.endswith(",") or any(close in name and open_ not in name for open_, close in ("[]", "{}")):
        return f"{name} is part of a list; the shell divides a setting at spaces, so quote it: 'KEY=[A, B]'"
    folder = Path(name).parent
    beside = sorted(path for end in YAML for path in folder.glob(f"*{end}")) if folder.is_dir() else []
    files = [f"{name}{end}" for end in YAML if os.path.isfile(f"{name}{end}")]
    hint = f"; did you mean {files[0]!r}?" if files else did_you_mean(Path(name).stem, shipped)
    hint = hint or did_you_mean_path(name, beside)
    return (
        f"no such config file: {name}{hint}{'' if hint else ';'} give the path of a YAML file, or one of "
        f"{', '.join(shipped)}"
    )


def no_settings(path: str, tree: Mapping[str, object], sections: Collection[str]) -> str:
    """Return why a file that was read holds no settings; empty if it may hold some.

    Args:
        path: path of the file.
        tree: what it holds.
        sections: names of the sections and of the settings outside sections.

    >>> no_settings("runs/a/metrics.json", {"test": 1}, ["faces"])
    'runs/a/metrics.json is not a config file: it holds test; give a YAML file with sections such as faces:'
    """
    for key in map(str, tree):
        section, _, name = key.partition(".")
        if name and section in sections:
            lines = f"a line '{section}:', and below it, indented, '{name}: ...'"
            return f"{path}: write {key} as a section: {lines}"
    if not tree or any(key in sections for key in tree):
        return ""
    if "kind" in tree and ("about" in tree or "source" in tree):
        return f"{path} is a split protocol, not a config file; write split.protocol={path}"
    if Path(path).suffix.lower() in (".yaml", ".yml"):
        return ""
    beside = Path(path).parent / "config.yaml"
    remedy = f"the settings of the run are in {beside}" if beside.is_file() else (
        "give a YAML file with sections such as faces:"
    )  # fmt: skip
    shown = ", ".join([str(key) for key in tree][:MOST_NAMED])
    return f"{path} is not a config file: it holds {shown}; {remedy}"


def _names(section: str, keys: Iterable[str]) -> list[str]:
    """Return the names of a section's settings, without the section."""
    split = (key.rpartition(".") for key in keys)
    return [name for own, _, name in split if own == section]


def _contained(name: str, own: Iterable[str]) -> str | None:
    """Return the only setting whose words are at least half of the name, as batch in batch_size."""
    words = set(name.casefold().split("_"))
    found = [known for known in own if set(known.split("_")) <= words and 2 * len(known) >= len(name)]
    return found[0] if len(found) == 1 else None


def _meant(names: Sequence[str]) -> str:
    return f"; did you mean {listed([repr(name) for name in names[:MOST_NAMED]], 'or')}?"
