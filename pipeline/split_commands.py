"""Commands on splits: read published lists into a protocol, list protocols, audit a split."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from deiii.data.command_line.entry import NOTHING_DONE
from deiii.data.command_line.notes import note_configs
from deiii.data.command_line.numbers import whole_number
from deiii.data.config.load import find_config, load_config, named_settings
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.config.words import add_command, add_settings, is_config, is_override, read_settings
from deiii.data.tools.progress import say


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the commands on splits to ``deiii``'s parser."""
    _add_splits(commands)
    _add_audit(commands)


def _add_splits(commands: argparse._SubParsersAction) -> None:
    sub = add_command(
        commands,
        "splits",
        _splits,
        help="list split protocols; import one that others published",
        description="Read or list split protocols. `splits list` prints those that come with deiii, with "
        "their sources. `splits import` reads published lists of file names (train, val, test) and writes "
        "them as a protocol (YAML) for split.protocol=FILE. The lists are a folder of CSV, text, JSON, JSON "
        "Lines or wav.scp (Kaldi) files, or one table with a column that names the part. "
        "Audit the protocol before you train (`deiii audit`).",
        when_stopped=NOTHING_DONE,
        examples=["splits list", "splits import EmoBox/data/cremad --out cremad-emobox.yaml"],
    )
    sub.add_argument("what", choices=("list", "import"), metavar="list|import", help="what to do")
    sub.add_argument("lists", nargs="?", metavar="FOLDER|FILE", help="the lists to import")
    sub.add_argument("--out", metavar="YAML", help="file to write (default: the lists' name with .yaml)")
    sub.add_argument("--name", help="name of the protocol (default: that of the file to write)")


def _add_audit(commands: argparse._SubParsersAction) -> None:
    sub = add_command(
        commands,
        "audit",
        _audit,
        help="find what the parts of a split share",
        description="Compare the training, validation and test parts of every fold of a split: clips, takes, "
        "speakers and sentences by their names; shares of classes and sexes; and, if the corpus is "
        "preprocessed, recordings by their audio and by the movement of the face. Print how each finding "
        "affects a result. The exit status is 1 if there is a leak.",
        when_stopped=NOTHING_DONE,
        examples=[
            "audit crema_d-5fold --corpus crema_d corpus.root=/data/CREMA-D",
            "audit EmoBox/data/cremad --corpus crema_d",
            "audit runs/latest/split.json --corpus table corpus.root=/clips",
        ],
    )
    sub.add_argument(
        "split",
        metavar="SPLIT",
        help="name of a protocol, YAML file of a protocol, split.json of a run, or lists of file names (a "
        "folder or a table)",
    )
    add_settings(sub)
    sub.add_argument("--corpus", metavar="CONFIG", help="config of the corpus that is split")
    sub.add_argument(
        "--fold", type=whole_number(0, 10_000), metavar="N", help="one fold, counted from 0 (default: all)"
    )
    sub.add_argument("--json", metavar="FILE", help="also write the findings as JSON")


def _splits(args: argparse.Namespace) -> int:
    from deiii.data.audit.lists import read_lists, write_protocol
    from deiii.data.corpora.protocol import load_protocol, protocol_names

    if args.what == "list":
        for name in protocol_names():
            protocol = load_protocol(name)
            print(f"{name}: {protocol.about}")
            if protocol.source:
                print(f"    source: {protocol.source['repository']} at {protocol.source['commit']}")
                print(f"    files: {protocol.source['files']}")
                print(f"    SHA-256 of the files: {protocol.source['sha256']}")
            if protocol.known_for:
                print(f"    known for: {protocol.known_for}")
        return 0
    if not args.lists:
        raise ConfigError("name the folder or file of the lists: deiii splits import FOLDER")
    out = Path(args.out or f"{Path(args.lists).resolve().stem}.yaml")
    if out.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"--out {out}: a protocol is a .yaml file")
    if out.exists():
        raise ConfigError(f"{out} exists; name another file with --out, or remove it")
    protocol = read_lists(args.lists, args.name or out.stem)
    write_protocol(out, protocol)
    for number, parts in enumerate(protocol.parts):
        say(f"fold {number}, clips: {', '.join(f'{part} {len(names)}' for part, names in parts.items())}")
    if protocol.validation != "given":
        say("the lists have no validation part; its speakers will be drawn from the training part")
    print(
        f"{out}: {protocol.about}; next: deiii audit {shlex.quote(str(out))} --corpus CONFIG, then "
        f"{shlex.quote(f'split.protocol={out}')}"
    )
    return 0


def _audit(args: argparse.Namespace) -> int:
    from deiii.data.audit.run import audit
    from deiii.data.tools.atomic_files import writable_file, write_json

    words = [*([args.corpus] if args.corpus else []), *args.settings]
    _refuse_other_words(args.split, words)
    config = read_settings(words)
    note_configs(config, words)
    if args.json:
        writable_file(args.json)
    tree: list[dict[str, object]] = []
    leaks = 0
    for fold, found in audit(args.split, config, args.fold):
        print(f"fold {fold}")
        print("\n".join(f"  {line}" for line in found.text().splitlines()))
        leaks += len(found.leaks)
        for f in found.findings:
            about = {"fold": fold, "kind": f.kind, "count": f.count, "leak": f.leak}
            tree.append({**about, "text": f.text, "effect": f.effect})
    if args.json:
        write_json(args.json, tree)
    return 1 if leaks else 0


def _refuse_other_words(split: str, words: Sequence[str]) -> None:
    """Raise ConfigError for a config, a setting or a run in place of the split, and the other way round.

    Args:
        split: the first word of ``deiii audit``.
        words: the configs and settings after it.
    """
    from deiii.data.corpora.protocol import protocol_names

    named = [word for word in words if word in protocol_names()]
    others = [word for word in words if word not in named]
    if (Path(split) / "split.json").is_file():
        command = _audit_command(f"{split}/split.json", words)
        raise ConfigError(f"{split} is a folder with a split; name the file: `{command}`")
    if is_override(split) and not Path(split).exists():
        command = _audit_command(named[0] if named else "SPLIT", [split, *others])
        raise ConfigError(f"{split} is a setting; name the split first: `{command}`")
    if not Path(split).is_dir() and split not in protocol_names() and _holds_settings(split):
        of_corpus = any(key.startswith("corpus.") for key in named_settings(find_config(split)))
        fitting = named or (_protocols_of(split) if of_corpus else ["SPLIT"])
        command = _audit_command(fitting[0], [*([] if of_corpus else ["CONFIG"]), split, *others])
        more = f"; other protocols for it are {', '.join(fitting[1:])}" if fitting[1:] else ""
        raise ConfigError(
            f"{split} is a config; name the split first, and the config after --corpus: `{command}`{more}"
        )
    if named:
        command = _audit_command(split, ["CONFIG", *others])
        raise ConfigError(
            f"{named[0]} is a split protocol; name one split first, and the config of its corpus after "
            f"--corpus: `{command}`"
        )


def _audit_command(split: str, words: Sequence[str]) -> str:
    """Return ``deiii audit`` with a split, and with the first config of the words after ``--corpus``."""
    configs = [word for word in words if not is_override(word)] or ["CONFIG"]
    rest = [word for word in words if word != configs[0]]
    return shlex.join(["deiii", "audit", split, "--corpus", configs[0], *rest])


def _holds_settings(word: str) -> bool:
    """Return whether a word names a config that can be read."""
    try:
        return is_config(word) and bool(load_config(word))
    except ConfigError:
        return False


def _protocols_of(config: str) -> list[str]:
    """Return the protocols for the corpus of a config, the one that it names first."""
    from deiii.data.corpora.protocol import protocol_names

    settings = load_config(config)
    own = [name for name in protocol_names() if name.startswith(f"{settings.corpus.name}-")]
    given = [] if settings.split.protocol == "auto" else [settings.split.protocol]
    return list(dict.fromkeys([*given, *own, "speakers"]))
