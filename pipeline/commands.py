"""Commands of preprocessing: each reads settings, calls one function and prints what came of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from deiii.data.config.strict_yaml import ConfigError
from deiii.data.config.words import HELP, add_settings, read_settings, split_words, take_overrides


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the commands of preprocessing to ``deiii``'s parser."""
    _add(commands, "preprocess", _preprocess, "compute the feature caches of a corpus")
    _add(commands, "verify", _verify, "check every byte of a cache")
    _add_inspect(commands)
    _add(commands, "synthesize", _synthesize, "make the synthetic corpus")
    _add(commands, "settings", _settings, "list every setting with its default and meaning")
    for name, action, words, help in (
        ("pack", _pack, ("cache", "archive"), "compress a cache into an archive folder"),
        ("unpack", _unpack, ("archive", "cache"), "write the ordinary form of a packed cache"),
    ):
        sub = commands.add_parser(name, help=help, description=f"{help}; a stopped run goes on")
        for word in words:
            sub.add_argument(word, metavar=word.upper(), help=f"folder of the {word}")
        sub.set_defaults(action=action)
    _add_download(commands)
    _add(commands, "doctor", _doctor, "check versions, devices, codecs, weights, memory and disk")


def _add(
    commands: argparse._SubParsersAction,
    name: str,
    action: Callable[[argparse.Namespace], int],
    help: str,
) -> None:
    """Add a command that takes settings alone."""
    sub = commands.add_parser(name, help=help, description=help)
    add_settings(sub)
    sub.set_defaults(action=action)


def _add_inspect(commands: argparse._SubParsersAction) -> None:
    sub = commands.add_parser(
        "inspect",
        help="draw pictures and videos of clips: source with box and landmarks, crop, flow, log-mel",
        description="Draws what preprocessing makes of clips: a contact sheet (PNG) and a video with sound "
        "(mp4) of each. With --worst, the clips of a preprocessed corpus whose faces are valid in the "
        "smallest share of frames.",
    )
    sub.add_argument(
        "words", nargs="*", default=[], metavar="MEDIA|CONFIG|KEY=VALUE", help=f"media files; {HELP}"
    )
    sub.add_argument(
        "--worst",
        type=int,
        default=0,
        metavar="N",
        help="the N worst clips of the corpus that the settings name",
    )
    sub.add_argument("--out", default="inspect", help="folder for the pictures (default: %(default)s)")
    sub.add_argument("--no-video", action="store_true", help="contact sheets alone")
    sub.set_defaults(action=_inspect)


def _add_download(commands: argparse._SubParsersAction) -> None:
    sub = commands.add_parser(
        "download",
        help="fetch RAVDESS or CREMA-D",
        description="Fetch a corpus: shows its licence, goes on where it stopped, verifies every file.",
    )
    sub.add_argument("corpus", help="ravdess or crema_d")
    sub.add_argument("settings", nargs="*", default=[], metavar="corpus.root=FOLDER",
                     help="where to put it (default: corpus.root of its config)")  # fmt: skip
    sub.add_argument("--part", help="ravdess: video-speech (default), video-song, audio-speech, audio-song; "
                     "crema_d: video (default), audio")  # fmt: skip
    sub.add_argument("--accept-licence", action="store_true", help="do not ask")
    sub.set_defaults(action=_download)


def _preprocess(args: argparse.Namespace) -> int:
    from deiii.data.corpora.scan import scan_corpus
    from deiii.pipeline.preprocess.graph import preprocess

    config = read_settings(args.settings)
    summary = preprocess(config, scan_corpus(config))
    print(summary.table())
    if summary.computed:
        rate = summary.clips / summary.seconds
        print(f"{summary.clips} clips in {summary.seconds:.1f} s ({rate:.2g} clips/s)")
    else:
        print(f"nothing to do: all {summary.reused} shards were finished ({summary.seconds:.1f} s)")
    if any(status != "ok" for count in summary.counts.values() for status in count):
        print(f"clips that are not fully valid, with reasons: {summary.failures}")
    if summary.failed_share > config.max_failed:
        share = f"{summary.failed} of {summary.clips} clips failed"
        print(f"error: {share}, more than max_failed={config.max_failed:g} allows; see {summary.failures}",
              file=sys.stderr)  # fmt: skip
        return 1
    return 0


def _verify(args: argparse.Namespace) -> int:
    from deiii.data.cache.integrity import verify

    cache = read_settings(args.settings).cache
    checked, findings = verify(cache)
    for finding in findings:
        print(f"{finding.path}: {finding.defect}")
    print(f"{checked} shards checked in {cache}, {len(findings)} findings")
    if findings:
        print("`make preprocess` with the same settings makes damaged and missing shards anew")
    return 1 if findings else 0


def _synthesize(args: argparse.Namespace) -> int:
    from deiii.data.corpora.scan import scan_corpus

    corpus = scan_corpus(read_settings(args.settings))
    print(f"{len(corpus.clips)} clips of {len(corpus.speakers)} speakers in {corpus.root}")
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from deiii.pipeline.doctor import examine, report

    return report(examine(read_settings(args.settings)))


def _download(args: argparse.Namespace) -> int:
    from deiii.data.corpora.download import download, source_of

    print(source_of(args.corpus).licence)
    if not args.accept_licence:
        try:
            answer = input("Do you accept these terms? [y/N] ")
        except EOFError:
            answer = ""
        if answer.strip().lower() not in ("y", "yes"):
            print("nothing was downloaded; --accept-licence accepts without being asked", file=sys.stderr)
            return 1
    given = take_overrides(args.settings, ["corpus.root"], "download")
    root = given.get("corpus.root") or read_settings([args.corpus]).corpus.root
    count = download(args.corpus, root, args.part)
    print(f"{count} files fetched, everything else was there; next: "
          f"make preprocess CONFIG=configs/{args.corpus}.yaml ROOT={root}")  # fmt: skip
    return 0


def _inspect(args: argparse.Namespace) -> int:
    from deiii.data.corpora.scan import scan_corpus
    from deiii.pipeline.extract import extract
    from deiii.pipeline.inspect.clips import draw_all, draw_worst

    media, settings = split_words(args.words)
    config = read_settings(settings)
    if not media and args.worst < 1:
        raise ConfigError("name media files, or give --worst N and the settings of a preprocessed corpus")
    if args.worst > 0:
        draw_worst(config, scan_corpus(config), args.worst, Path(args.out), not args.no_video)
    if media:
        clips = ((Path(path).stem, lambda path=path: extract(path, config)) for path in media)
        draw_all(clips, config, Path(args.out), not args.no_video)
    return 0


def _pack(args: argparse.Namespace) -> int:
    from deiii.data.cache.packed import pack

    before, after = pack(args.cache, args.archive)
    print(f"{args.archive}: {after / 1e6:.1f} MB for the {before / 1e6:.1f} MB of {args.cache}, which stays")
    return 0


def _unpack(args: argparse.Namespace) -> int:
    from deiii.data.cache.packed import unpack

    print(f"{args.cache}: {unpack(args.archive, args.cache) / 1e6:.1f} MB, checked against their digests")
    return 0


def _settings(args: argparse.Namespace) -> int:
    _list_settings(read_settings(args.settings), "")
    return 0


def _list_settings(section: Any, prefix: str) -> None:
    for f in fields(section):
        value = getattr(section, f.name)
        if is_dataclass(value):
            _list_settings(value, f"{prefix}{f.name}.")
            continue
        choices = f" [{'|'.join(map(str, f.metadata['choices']))}]" if f.metadata["choices"] else ""
        print(f"{prefix + f.name}={'' if value is None else value}\n    {f.metadata['help']}{choices}")
