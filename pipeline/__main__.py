"""``python -m pipeline``: raw corpora to feature caches.

preprocess   faces, flow and log-mel of a corpus into its cache
verify       check every byte of a cache
inspect      contact sheets and videos of clips: source, crop, flow and log-mel
draw         draw the synthetic corpus
settings     list every setting with its default and meaning
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
    args = parser.parse_args(argv)
    return run(lambda: args.action(args))


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
