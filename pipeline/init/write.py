"""Write the config and the table that `deiii init` proposes, and print a summary of them."""

from __future__ import annotations

import json
import os
import re
import shlex
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from deiii.data.config.load import find_config, load_config, shipped_configs
from deiii.data.corpora.clips import Corpus, CorpusError
from deiii.data.corpora.files import AUDIO, remedy_by_init
from deiii.data.corpora.protocol import SplitError
from deiii.data.corpora.scan import scan
from deiii.data.corpora.splits import make_split, number_of_folds
from deiii.data.corpora.table import ATTRIBUTES
from deiii.data.tools.atomic_files import atomic_path, writable_folder, write_text
from deiii.data.tools.counts import counted
from deiii.data.tools.text.csv_text import csv_text
from deiii.pipeline.init.found import UNKNOWN, Found, InitError, Row, with_counts
from deiii.pipeline.init.part_of_corpus import part_of_corpus, unused_folders

FEW_SPEAKERS = 10  # with fewer, one test fold holds one or two speakers
HEAD = """# {how}.
#   deiii preprocess {name} {preset}
# Licence: that of your recordings. Check that the people in the clips agreed to this use.
"""


def file_name(folder: Path) -> str:
    """Return the name of the config for a folder of recordings, which none that comes with deiii has.

    >>> file_name(Path("/data/My clips"))
    'My_clips.yaml'
    >>> file_name(Path("/data/RAVDESS")), file_name(Path("/data/ravdess"))
    ('RAVDESS.yaml', 'my_ravdess.yaml')
    """
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", folder.resolve().name).strip("_") or "corpus"
    return f"my_{name}.yaml" if name in shipped_configs() else f"{name}.yaml"


def write(found: Found, folder: Path, config: Path, preset: str, force: bool = False) -> list[str]:
    """Write the config and, where one is needed, the table; both are checked before either is written.

    Args:
        found: what `look` found.
        folder: folder of the recordings.
        config: YAML file to write.
        preset: bare name of the config that the printed commands name.
        force: overwrite the two files.

    Returns:
        lines for people: what the corpus holds, what was written, which commands come next.

    Raises:
        InitError: a file exists, or deiii would refuse the corpus; nothing was written.
    """
    root = folder.resolve()
    config = config if config.suffix in (".yaml", ".yml") else config.with_name(f"{config.name}.yaml")
    table = _table_path(root, config, found.sources) if found.rows else None
    taken = [path for path in (table, config) if path is not None and path.exists()]
    if taken and not force:
        raise InitError(
            f"{' and '.join(map(str, taken))} {'exists' if len(taken) == 1 else 'exist'}; add --force to "
            "overwrite, or name another config with --config"
        )
    text = _table_text(found.rows)
    with tempfile.TemporaryDirectory() as trial:
        trial_table = Path(trial) / "clips.csv"
        if table is not None:
            write_text(trial_table, text)
        corpus = _scan(found, config, root, trial_table if table else None, preset, Path(trial))
    if table is not None:  # notes name the file that remains
        notes = tuple(note.replace(str(trial_table), str(table)) for note in corpus.notes)
        corpus = replace(corpus, notes=notes)
    settings = _settings(found, corpus, config, root, table, preset)
    writable_folder(config.parent)
    with atomic_path(config) as unfinished:  # so that a disk without room for both files gets neither
        write_text(unfinished, settings)
        if table is not None:
            write_text(table, text)
    wrote = ", ".join(str(path) for path in (table, config) if path is not None)
    lines = [*_about(found, corpus), f"wrote {wrote}"]
    return [*lines, *_next(config, preset, _speakers_short(found, corpus)), *_few(config, preset, corpus)]


def _table_path(root: Path, config: Path, sources: Sequence[Path]) -> Path:
    """Return the path of the table: ``clips.csv`` beside the recordings.

    The name differs if a source has it, and the folder is that of the config if the other is read-only.
    """
    name = "clips.csv"
    if any(os.path.realpath(root / name) == os.path.realpath(source) for source in sources):
        name = "clips-deiii.csv"
    if os.access(root, os.W_OK):
        return root / name
    return config.absolute().with_name(f"{config.stem}-clips.csv")


def _table_text(rows: Sequence[Row]) -> str:
    more = [name for name in (*ATTRIBUTES, "fold", "sex") if any(name in row.more for row in rows)]
    table = [[row.path, row.speaker, row.label, *(row.more.get(name, "") for name in more)] for row in rows]
    return csv_text([["path", "speaker", "label", *more], *table])


def _scan(found: Found, config: Path, root: Path, table: Path | None, preset: str, trial: Path) -> Corpus:
    """Return the corpus as deiii will read it. Raises InitError where it refuses it."""
    text = _settings(found, None, config, root, table, preset)
    path = trial / "config.yaml"
    write_text(path, text)
    try:
        return scan(load_config(path).corpus)
    except CorpusError as error:
        words = str(error)
        if table:
            words = words.replace(remedy_by_init(root, table), "")  # that is this command
            words = words.replace(str(table), f"the table made of {found.how}")
        raise InitError(f"deiii refuses this corpus: {words}") from None


def _settings(
    found: Found, corpus: Corpus | None, config: Path, root: Path, table: Path | None, preset: str
) -> str:
    """Return the text of the config."""
    if found.config:
        text = find_config(found.config).read_text(encoding="utf-8")
        for key, value in {"root": str(root), **found.corpus}.items():
            before, mark, after = text.partition(f"\n  {key}: ")
            text = f"{before}{mark}{_text(value)}\n{after.partition(chr(10))[2]}"
        if corpus is not None and (part := part_of_corpus(found, corpus)):
            text = part.settings(text, config.name, preset)
        if corpus is None or "\nstages:" in text or "\nmodel:" in text:  # the config states what it needs
            return text
        return "\n".join([text.rstrip("\n"), *_inputs(corpus, found), ""])
    lines = [
        "corpus:",
        "  name: table",
        f"  root: {_text(str(root))}",
        f"  table: {_text(str(table or found.table))}",
        "split:",
        "  protocol: speakers",
    ]
    if corpus is not None:
        lines += _inputs(corpus, found)
        if any(clip.speaker.startswith(UNKNOWN) for clip in corpus.clips):
            lines.insert(4, "  # Unknown speakers: each such clip counts as a speaker of its own.")
    head = HEAD.format(how=found.how[:1].upper() + found.how[1:], name=config.name, preset=preset)
    return head + "\n".join(lines) + "\n"


def _inputs(corpus: Corpus, found: Found) -> list[str]:
    """Return stages and parts of the network for which the recordings and labels need unusual settings."""
    lines: list[str] = []
    model: list[str] = []
    if all(clip.path.lower().endswith(AUDIO) for clip in corpus.clips):
        lines.append("stages: [logmel]")
        model += ["  video: false", "  flow: false"]
    elif found.corpus.get("modality") == "video-only":
        lines.append("stages: [faces, flow]")
        model.append("  audio: false")
    if corpus.ranges:
        model.append(f"  attributes: [{', '.join(sorted(corpus.ranges))}]")
    if not corpus.classes:
        model.append("  classes: false")
    return lines + (["model:", *model] if model else [])


def _text(value: str) -> str:
    """Return a text as JSON, which is also valid YAML."""
    return json.dumps(value, ensure_ascii=False)


def _about(found: Found, corpus: Corpus) -> list[str]:
    clips = corpus.clips
    audio = sum(clip.path.lower().endswith(AUDIO) for clip in clips)
    kinds = {"video": len(clips) - audio, "audio file": audio}
    words = " and ".join(counted(number, kind) for kind, number in kinds.items() if number)
    known = {clip.speaker for clip in clips if not clip.speaker.startswith(UNKNOWN)}
    lines = [f"{words}, {found.how}"]
    if known:
        each = Counter(clip.speaker for clip in clips)
        lines.append(
            f"speakers: {len(known)} ({with_counts((c.speaker for c in clips if c.speaker in known), 3)})"
        )
        if len(each) < 3:
            remedy = "add clips of other people to the folder"
            if _speakers_short(found, corpus) == 2:
                remedy += ", or train on one speaker and test on the other, without validation, as below"
            lines.append(
                f"note: {counted(len(each), 'speaker')} cannot be divided into training, validation and "
                f"test; three are needed, ten or more are usual; {remedy}"
            )
    labels = [clip.label for clip in clips if clip.label is not None]
    if labels:
        lines.append(f"labels: {len(set(labels))} ({with_counts(labels, 8)})")
    if corpus.ranges:
        lines.append(f"attributes: {', '.join(sorted(corpus.ranges))}")
    if len(set(labels)) == 1 and not corpus.ranges:
        lines.append("note: all clips have the same label, so a network cannot learn to classify them")
    notes = [*corpus.notes, *found.notes]
    if part := part_of_corpus(found, corpus):
        notes.append(part.note)
    if folders := unused_folders(found, corpus):
        notes.append(folders)
    return lines + [f"note: {note}" for note in notes]


def _speakers_short(found: Found, corpus: Corpus) -> int:
    """Return the number of speakers if there are fewer than three, in a table or a part of a corpus; else 0.

    Other corpora that deiii knows have splits to which the settings for few speakers do not apply.
    """
    speakers = len({clip.speaker for clip in corpus.clips})
    part = part_of_corpus(found, corpus)
    divided = not found.config or (part is not None and not part.sessions)
    return speakers if speakers < 3 and divided else 0


def _next(config: Path, preset: str, short: int) -> list[str]:
    """Return the commands to type next, of which none fails because there are too few speakers."""
    name = shlex.quote(str(config))
    words = f"{name} {preset}".strip()
    run = shlex.quote(f"runs/{config.stem}")
    lines = ["next:", f"  deiii preprocess {words}"]
    if short == 1:
        return lines
    train = f"  deiii train {words} train.run={run}"
    if short == 2:
        train += " split.val_share=0 train.monitor=last"
    return [*lines, train, f"  deiii evaluate {run}"]


def _few(config: Path, preset: str, corpus: Corpus) -> list[str]:
    """Return a line that names cross-validation if there are few speakers and every fold can be scored."""
    speakers = corpus.speakers
    if len(speakers) >= FEW_SPEAKERS or any(speaker.startswith(UNKNOWN) for speaker in speakers):
        return []
    split = load_config(config).split
    try:
        for fold in range(number_of_folds(corpus, split)):
            if not make_split(corpus, replace(split, fold=fold)).val:
                return []
    except SplitError:
        return []
    words = f"{shlex.quote(str(config))} {preset}".strip()
    run = shlex.quote(f"runs/{config.stem}-crossval")
    people = counted(len(speakers), "speaker")
    return [
        f"with {people}, the score of one test fold says little about other people; "
        f"`deiii crossval {words} train.run={run}` scores every fold"
    ]
