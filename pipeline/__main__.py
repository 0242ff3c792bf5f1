"""``python -m pipeline``: raw corpora to feature caches.

preprocess   faces, flow and log-mel of a corpus into its cache
verify       check every byte of a cache
inspect      contact sheets and videos of clips: source, crop, flow and log-mel
draw         draw the synthetic corpus
settings     list every setting with its default and meaning
pack         compress a cache into an archive folder
unpack       the ordinary form of a packed cache again
download     fetch a corpus whose licence allows it
doctor       what this machine has and lacks
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from data.cli import HELP, add_settings, read_settings, run
from data.clips import Corpus
from data.config import ConfigError
from data.schema import Config


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, action, help in (
        ("preprocess", _preprocess, "bring a corpus's caches up to date"),
        ("verify", _verify, "check every shard of a cache against its index"),
        ("draw", _draw, "draw the synthetic corpus"),
        ("settings", _settings, "list every setting"),
        ("doctor", _doctor, "look at versions, devices, codecs, weights, memory and disk"),
    ):
        sub = commands.add_parser(name, help=help, description=help)
        add_settings(sub)
        sub.set_defaults(action=action)
    sub = commands.add_parser(
        "inspect",
        help="picture and video of clips: source with box and landmarks, crop, flow, log-mel",
        description="Draws what preprocessing makes of clips: a contact sheet (PNG) and a video with sound "
        "(mp4) of each. With --worst, the clips of a preprocessed corpus whose faces are valid in the "
        "smallest share of frames.",
    )
    sub.add_argument("media", nargs="*", help="media files")
    sub.add_argument(
        "--worst", type=int, default=0, metavar="N", help="the N worst clips of the corpus that --set names"
    )
    sub.add_argument("--out", default="inspect", help="folder for the pictures (default: %(default)s)")
    sub.add_argument("--no-video", action="store_true", help="contact sheets alone")
    sub.add_argument("--set", dest="settings", nargs="*", default=[], metavar="CONFIG|KEY=VALUE", help=HELP)
    sub.set_defaults(action=_inspect)
    for name, action, words, help in (
        ("pack", _pack, ("cache", "archive"), "compress a cache into an archive folder"),
        ("unpack", _unpack, ("archive", "cache"), "write the ordinary form of a packed cache"),
    ):
        sub = commands.add_parser(name, help=help, description=f"{help}; a stopped run goes on")
        for word in words:
            sub.add_argument(word, metavar=word.upper(), help=f"folder of the {word}")
        sub.set_defaults(action=action)
    _add_download(commands)
    args = parser.parse_args(argv)
    return run(lambda: args.action(args))


def _add_download(commands: argparse._SubParsersAction) -> None:
    sub = commands.add_parser(
        "download",
        help="fetch RAVDESS or CREMA-D",
        description="Fetch a corpus: shows its licence, goes on where it stopped, verifies every file.",
    )
    sub.add_argument("corpus", help="ravdess or crema_d")
    sub.add_argument("--root", help="where to put it (default: corpus.root of its config)")
    sub.add_argument("--part", help="ravdess: video-speech (default), video-song, audio-speech, audio-song; "
                     "crema_d: video (default), audio")  # fmt: skip
    sub.add_argument("--accept-licence", action="store_true", help="do not ask")
    sub.set_defaults(action=_download)


def scan_corpus(config: Config) -> Corpus:
    """The configured corpus; the synthetic one is drawn first where it is not there."""
    from data.corpora import scan

    if config.corpus.name == "synthetic":
        from data.corpora.synthetic import make

        make(Path(config.corpus.root), config.corpus.synthetic, workers=config.workers)
    return scan(config.corpus)


def _preprocess(args: argparse.Namespace) -> int:
    from pipeline.graph import preprocess

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
    from pipeline.verify import verify

    cache = read_settings(args.settings).cache
    checked, findings = verify(cache)
    for finding in findings:
        print(f"{finding.path}: {finding.trouble}")
    print(f"{checked} shards checked in {cache}, {len(findings)} findings")
    if findings:
        print("`make preprocess` with the same settings makes damaged and missing shards anew")
    return 1 if findings else 0


def _draw(args: argparse.Namespace) -> int:
    corpus = scan_corpus(read_settings(args.settings))
    print(f"{len(corpus.clips)} clips of {len(corpus.speakers)} speakers in {corpus.root}")
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from pipeline.doctor import examine, report

    return report(examine(read_settings(args.settings)))


def _download(args: argparse.Namespace) -> int:
    from data.download import download, source_of

    print(source_of(args.corpus).licence)
    if not args.accept_licence:
        try:
            answer = input("Do you accept these terms? [y/N] ")
        except EOFError:
            answer = ""
        if answer.strip().lower() not in ("y", "yes"):
            print("nothing was downloaded; --accept-licence accepts without being asked", file=sys.stderr)
            return 1
    root = args.root or f"raw/{ {'ravdess': 'ravdess', 'crema_d': 'CREMA-D'}[args.corpus] }"
    count = download(args.corpus, root, args.part)
    print(f"{count} files fetched, everything else was there; next: "
          f"make preprocess CONFIG=configs/{args.corpus}.yaml ROOT={root}")  # fmt: skip
    return 0


def _inspect(args: argparse.Namespace) -> int:
    from pipeline.clip_features import extract
    from pipeline.inspection import draw_all, draw_worst

    config = read_settings(args.settings)
    if not args.media and args.worst < 1:
        raise ConfigError("name media files, or give --worst N and the corpus with --set")
    if args.worst > 0:
        draw_worst(config, scan_corpus(config), args.worst, Path(args.out), not args.no_video)
    if args.media:
        clips = ((Path(media).stem, lambda media=media: extract(media, config)) for media in args.media)
        draw_all(clips, config, Path(args.out), not args.no_video)
    return 0


def _pack(args: argparse.Namespace) -> int:
    from data.packed import pack

    before, after = pack(args.cache, args.archive)
    print(f"{args.archive}: {after / 1e6:.1f} MB for the {before / 1e6:.1f} MB of {args.cache}, which stays")
    return 0


def _unpack(args: argparse.Namespace) -> int:
    from data.packed import unpack

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


if __name__ == "__main__":
    sys.exit(main())
