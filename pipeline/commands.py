"""Commands of preprocessing: each reads its words, calls one function and prints the result."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deiii.data.command_line.completion import add_completion
from deiii.data.command_line.entry import NOTHING_DONE
from deiii.data.command_line.notes import note_configs, note_without_effect
from deiii.data.command_line.numbers import whole_number
from deiii.data.config.checks.effects import PREPROCESSING
from deiii.data.config.keys import sections
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.config.words import (
    HELP,
    add_command,
    add_settings,
    read_settings,
    set_read_settings,
    split_words,
    take_overrides,
    wrapped,
)
from deiii.data.corpora.clips import Corpus
from deiii.data.tools.counts import counted
from deiii.data.tools.progress import say
from deiii.pipeline import sharing_commands, split_commands
from deiii.pipeline.cut.command import add_cut
from deiii.pipeline.encoders.command import add_encoders_command
from deiii.pipeline.init.command import add_init
from deiii.pipeline.next_command import next_line, preprocessing_command
from deiii.pipeline.overview.command import add_overview, own_page, print_overview

if TYPE_CHECKING:
    from deiii.pipeline.preprocess.summary import Summary


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the commands of preprocessing to ``deiii``'s parser."""
    add_init(commands)
    add_cut(commands)
    _add_preprocess(commands)
    _add_verify(commands)
    _add_inspect(commands)
    add_overview(commands)
    _add_synthesize(commands)
    _add_settings_list(commands)
    add_encoders_command(commands)
    sharing_commands.add_commands(commands)
    _add_download(commands)
    _add_doctor(commands)
    split_commands.add_commands(commands)
    add_completion(commands)


def _add_preprocess(commands: argparse._SubParsersAction) -> None:
    sub = add_command(
        commands,
        "preprocess",
        _preprocess,
        help="compute the feature caches of a corpus",
        description="Read the clips of a corpus; find and align faces, compute optical flow and log-mel "
        "spectrograms; write them into shards in the folder cache=. Finished shards are kept, so a "
        "second run computes only what is missing, damaged or changed. The exit status is 1 if "
        "more than max_failed of the clips cannot be used; failures.csv in the cache gives a "
        "reason for each.",
        examples=[
            "preprocess ravdess corpus.root=/data/RAVDESS workers=8",
            "preprocess table tiny corpus.root=/clips corpus.table=/clips/clips.csv",
        ],
        when_stopped="finished shards are kept: run the same command again to continue",
    )
    add_settings(sub, sections(without=("split", "loader", "model", "train")))


def _add_verify(commands: argparse._SubParsersAction) -> None:
    sub = add_command(
        commands,
        "verify",
        _verify,
        help="check every byte of the feature caches",
        description="Read every shard, index and clip table in the folder cache= and compare them with their "
        "digests. Nothing is changed. The exit status is 1 if a file is damaged, missing or not "
        "listed.",
        examples=["verify cache=/data/cache"],
        when_stopped=NOTHING_DONE,
    )
    add_settings(sub, ["cache"])


def _add_synthesize(commands: argparse._SubParsersAction) -> None:
    sub = add_command(
        commands,
        "synthesize",
        _synthesize,
        help="generate the synthetic corpus",
        description="Generate clips of talking faces (mp4) and a table of their labels in corpus.root. The "
        "best possible accuracy on them is known. A stopped command continues; finished clips are kept.",
        examples=["synthesize corpus.root=raw/synthetic corpus.synthetic.speakers=24"],
        when_stopped="finished clips are kept: run the same command again to continue",
    )
    add_settings(sub, ["corpus"])


def _add_settings_list(commands: argparse._SubParsersAction) -> None:
    sub = add_command(
        commands,
        "settings",
        _settings,
        help="list every setting with its value and meaning",
        description="Print every setting with its meaning and its value under the given configs and "
        "KEY=VALUE words.",
        examples=["settings", "settings ravdess base"],
        when_stopped=NOTHING_DONE,
    )
    add_settings(sub)


def _add_inspect(commands: argparse._SubParsersAction) -> None:
    sub = add_command(
        commands,
        "inspect",
        _inspect,
        help="draw contact sheets and videos of what preprocessing computes",
        description="Preprocess media files in memory and draw the result: for each a contact sheet (PNG) "
        "with box, landmarks, aligned crops, optical flow and log-mel, and a video (mp4) with "
        "its audio. With --worst, draw instead the clips of a preprocessed corpus that have the "
        "smallest share of frames with a valid face.",
        examples=["inspect clip.mp4 faces.size=128", "inspect --worst 20 ravdess cache=/data/cache"],
        when_stopped="finished pictures and videos are kept; the same command draws all of them again",
    )
    sub.add_argument(
        "words",
        nargs="*",
        default=[],
        metavar="MEDIA|CONFIG|KEY=VALUE",
        help=f"media files, or folders of media files; {HELP}",
    )
    set_read_settings(sub, sections())
    sub.add_argument(
        "--worst",
        type=whole_number(1, 10_000),
        default=0,
        metavar="N",
        help="draw the N worst clips of the preprocessed corpus that the settings name",
    )
    sub.add_argument("--out", default="inspect", help="folder to write (default: %(default)s)")
    sub.add_argument("--no-video", action="store_true", help="draw contact sheets only")


def _add_download(commands: argparse._SubParsersAction) -> None:
    sub = add_command(
        commands,
        "download",
        _download,
        help="download RAVDESS or CREMA-D",
        description="Show the licence of a corpus, then download it into corpus.root and check every file. "
        "A stopped download continues; files that are complete are not downloaded again.",
        examples=[
            "download ravdess corpus.root=/data/RAVDESS",
            "download crema_d corpus.root=/data/CREMA-D --part audio --accept-licence",
        ],
        when_stopped="finished files are kept: run the same command again to continue",
    )
    sub.add_argument("corpus", metavar="CORPUS", help="ravdess or crema_d")
    sub.add_argument(
        "settings",
        nargs="*",
        default=[],
        metavar="corpus.root=FOLDER",
        help="where to write (default: corpus.root of the corpus's config)",
    )
    set_read_settings(sub, ["corpus.root"])
    sub.add_argument(
        "--part",
        help="which files; ravdess: video-speech (default), video-song, audio-speech or audio-song; "
        "crema_d: video (default) or audio",
    )
    sub.add_argument("--accept-licence", action="store_true", help="accept the licence without being asked")


def _add_doctor(commands: argparse._SubParsersAction) -> None:
    sub = add_command(
        commands,
        "doctor",
        _doctor,
        help="check versions, devices, codecs, weights, memory and disk",
        description="Check whether this machine can run what the settings ask for: versions, devices, "
        "codecs, weights, memory and disk. Each problem is printed with what to do about it. The exit "
        "status is 1 if there is a problem.",
        examples=["doctor", "doctor ravdess corpus.root=/data/RAVDESS"],
        when_stopped=NOTHING_DONE,
    )
    add_settings(sub)


def _preprocess(args: argparse.Namespace) -> int:
    from deiii.data.corpora.scan import scan_corpus
    from deiii.data.corpora.targets.classes import map_classes
    from deiii.data.loader.mixture import copies_of
    from deiii.pipeline.corrupt.kinds import parse_corruption

    config = read_settings(args.settings)
    from deiii.pipeline.preprocess.graph import preprocess  # a missing package is reported before any work
    from deiii.pipeline.preprocess.read_only import require_cache

    note_configs(config, args.settings)
    note_without_effect(config, args.settings, PREPROCESSING)
    if config.corpus.name == "synthetic":
        require_cache(config.cache)  # before the corpus is generated
    for word in config.copies:
        parse_corruption(word)  # refused before the corpus itself is computed
    parts = [replace(config, copies=[]), *copies_of(config)]
    corpora = [scan_corpus(part) for part in parts]  # a table that is refused leaves no folder behind
    # Features do not depend on the classes, but a misspelt one would be reported only in training.
    map_classes(corpora[0], config.corpus.classes)
    require_cache(config.cache)
    pairs = zip(parts, corpora, strict=True)
    status = max(_report(part, corpus, preprocess(part, corpus)) for part, corpus in pairs)
    if status == 0:
        say(next_line(config, args.settings, corpora[0], own_page(config, corpora[0]).exists()))
    return status


def _report(config: Config, corpus: Corpus, summary: Summary) -> int:
    """Print what was computed, and where the results are; return the exit status."""
    say(summary.table())
    if summary.computed:
        rate = summary.clips / summary.seconds
        say(f"{counted(summary.clips, 'clip')} in {summary.seconds:.1f} s ({rate:.2g} a second)")
    else:
        shards = counted(summary.reused, "shard was", "shards were")
        say(f"nothing to do: {shards} finished before ({summary.seconds:.1f} s)")
    if any(status != "ok" for count in summary.counts.values() for status in count):
        say(f"clips that are not fully valid, with reasons: {summary.failures}")
    faces = summary.counts.get("faces", Counter())
    if config.faces.detector == "haar" and 0 < summary.clips <= 4 * faces["ok_partial"]:
        say(
            "many clips lack a face in some frames; if these frames show a face in the overview and are not "
            "black, faces.detector=yunet finds more of them"
        )
    if summary.written:
        print_overview(config, corpus)
    if summary.failed_share > config.max_failed:
        share = f"{summary.failed} of {counted(summary.clips, 'clip')} failed"
        remedy = summary.remedy or (
            "The features of the other clips are complete: correct the clips and run the same command again, "
            "or train on the other clips"
        )
        print(f"error: {share}, more than max_failed={config.max_failed:g} allows; {summary.failures} has "
              f"the reasons. {remedy[0].upper()}{remedy[1:]}", file=sys.stderr)  # fmt: skip
        return 1
    return 0


def _verify(args: argparse.Namespace) -> int:
    from deiii.data.cache.integrity import UNLISTED, verify

    cache = read_settings(args.settings).cache
    checked, defects = verify(cache)
    for defect in defects:
        print(f"{defect.path}: {defect.defect}")
    print(f"{counted(checked, 'shard')} checked in {cache}, {counted(len(defects), 'defect')}")
    if any(defect.defect != UNLISTED for defect in defects):
        say("`deiii preprocess` with the same settings computes damaged and missing shards again")
    return 1 if defects else 0


def _synthesize(args: argparse.Namespace) -> int:
    from deiii.data.corpora.scan import scan_corpus

    corpus = scan_corpus(read_settings(args.settings))
    speakers = counted(len(corpus.speakers), "speaker")
    print(f"{counted(len(corpus.clips), 'clip')} of {speakers} in {corpus.root}")
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from deiii.pipeline.doctor import report, run_checks

    return report(run_checks(read_settings(args.settings)))


def _download(args: argparse.Namespace) -> int:
    from deiii.data.corpora.download import download, source_of

    print(source_of(args.corpus).licence)
    if not args.accept_licence:
        try:
            answer = input("Do you accept these terms? [y/N] ")
        except EOFError:
            answer = ""
        if answer.strip().lower() not in ("y", "yes"):
            print(
                "nothing was downloaded; --accept-licence accepts the licence without being asked",
                file=sys.stderr,
            )
            return 1
    given = take_overrides(args.settings, ["corpus.root"], "download")
    root = given.get("corpus.root") or read_settings([args.corpus]).corpus.root
    count = download(args.corpus, root, args.part)
    say(f"{counted(count, 'file')} downloaded, all others were complete")
    print(f"next: {preprocessing_command(args.corpus, args.part, root)}")
    return 0


def _inspect(args: argparse.Namespace) -> int:
    from deiii.data.corpora.files import expand_folders, without_drawn
    from deiii.data.corpora.scan import scan
    from deiii.pipeline.inspect.clips import draw_all, draw_worst, extract_for_drawing
    from deiii.pipeline.preprocess.claim import own_folder

    media, settings = split_words(args.words)
    config = read_settings(settings)
    if not media and not args.worst:
        raise ConfigError("name media files, or give --worst N and the settings of a preprocessed corpus")
    if args.worst:
        folder = own_folder(config, scan(config.corpus))
        draw_worst(config, folder, args.worst, Path(args.out), not args.no_video)
    if media:
        found = without_drawn(media, expand_folders(media), args.out, "the drawn clips")
        clips = ((path, lambda path=path: extract_for_drawing(path, config)) for path in found.files)
        failed = draw_all(clips, config, Path(args.out), not args.no_video, found.files)
        for note in found.said(args.out):
            say(note)
        return 1 if failed else 0
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
        print(f"{prefix}{f.name}={'' if value is None else value}")
        print(wrapped(f.metadata["help"], 100, "    "))
        if f.metadata["choices"]:
            print(f"    Choices: {', '.join(map(str, f.metadata['choices']))}.")
