"""Commands that share features: archives, and other formats."""

from __future__ import annotations

import argparse
import shlex

from deiii.data.config.words import add_command, add_settings, read_settings
from deiii.data.tools.counts import counted
from deiii.data.tools.progress import say
from deiii.data.tools.text.sizes import disk_size

KINDS = ("npz", "parquet", "webdataset", "hf")


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the commands that share features to ``deiii``'s parser."""
    _add_pack(commands)
    _add_unpack(commands)
    _add_fetch(commands)
    _add_export(commands)


def _add_pack(commands: argparse._SubParsersAction) -> None:
    sub = add_command(
        commands,
        "pack",
        _pack,
        help="compress a cache into an archive folder",
        description="Compress every finished stage of a cache into an archive folder, to store or copy it. "
        "The cache is kept. The archive contains a card (recipe, licence, outcomes, how to load it) and a "
        "list of digests, so that you can publish it if the licence of the corpus allows this. An archive "
        "cannot be trained on; `deiii unpack` restores the cache. If the command was stopped, the same "
        "command continues. It needs an extra: pip install 'deiii[archive]'.",
        examples=["pack cache archive"],
        when_stopped="finished shards are kept: run the same command again to continue",
    )
    sub.add_argument("cache", metavar="CACHE", help="folder of the cache to read")
    sub.add_argument("archive", metavar="ARCHIVE", help="folder to write")


def _add_unpack(commands: argparse._SubParsersAction) -> None:
    sub = add_command(
        commands,
        "unpack",
        _unpack,
        help="restore a cache from an archive folder",
        description="Restore the cache that `deiii pack` compressed, and check each shard against its "
        "digest. The archive is kept. If the command was stopped, the same command continues.",
        examples=["unpack archive cache"],
        when_stopped="finished shards are kept: run the same command again to continue",
    )
    sub.add_argument("archive", metavar="ARCHIVE", help="folder of the archive to read")
    sub.add_argument("cache", metavar="CACHE", help="folder to write")


def _add_export(commands: argparse._SubParsersAction) -> None:
    sub = add_command(
        commands,
        "export-features",
        _export,
        help="write features as npz, Parquet, WebDataset or for the Hub",
        description="Write the features of a preprocessed corpus for training without deiii: every clip "
        "with its stored arrays, label, speaker, times and part of the split, and a card. npz and "
        "webdataset (tar files) need no further package; parquet and hf (a folder for the Hugging Face "
        "Hub) need pip install 'deiii[parquet]'.",
        examples=[
            "export-features features ravdess --to npz",
            "export-features features ravdess cache=/data/cache --to webdataset",
        ],
        when_stopped="the folder is unfinished: it has no README.md; remove it and run the command again",
    )
    sub.add_argument("out", metavar="OUT", help="new folder to write")
    add_settings(sub)
    sub.add_argument("--to", required=True, choices=KINDS, help="format of the files")


def _add_fetch(commands: argparse._SubParsersAction) -> None:
    sub = add_command(
        commands,
        "fetch-cache",
        _fetch,
        help="download an archive of features and check every file",
        description="Download an archive that `deiii pack` made and somebody published as a folder on a web "
        "server. Every file is checked against the archive's list of digests; with --sha256, the list itself "
        "is checked against the digest that its publisher states. A stopped download continues; "
        "`deiii unpack` then restores the cache.",
        examples=["fetch-cache https://example.org/ravdess-features archive"],
        when_stopped="finished files are kept: run the same command again to continue",
    )
    sub.add_argument("url", metavar="URL", help="address of the archive's folder, or of its archive.json")
    sub.add_argument("archive", metavar="ARCHIVE", help="folder to write")
    sub.add_argument("--sha256", metavar="DIGEST", help="digest of archive.json that its publisher states")


def _pack(args: argparse.Namespace) -> int:
    from deiii.data.cache.packed import pack
    from deiii.data.sharing.archive import describe_archive

    before, after = pack(args.cache, args.archive)
    digest = describe_archive(args.cache, args.archive)
    say(f"{args.archive}: {disk_size(after)}; {args.cache} ({disk_size(before)}) is kept")
    print(f"card: {args.archive}/README.md; SHA-256 of archive.json, to publish beside it: {digest}")
    return 0


def _unpack(args: argparse.Namespace) -> int:
    from deiii.data.cache.packed import unpack
    from deiii.data.sharing.archive import check_complete

    check_complete(args.archive)
    size = disk_size(unpack(args.archive, args.cache))
    print(f"{args.cache}: {size}, checked against their digests")
    return 0


def _export(args: argparse.Namespace) -> int:
    from deiii.data.sharing.export import export_features

    clips, size = export_features(read_settings(args.settings), args.out, args.to)
    print(f"{args.out}: {counted(clips, 'clip')}, {disk_size(size)}; README.md shows how to load them")
    return 0


def _fetch(args: argparse.Namespace) -> int:
    from deiii.data.sharing.archive import fetch_archive

    new, count = fetch_archive(args.url, args.archive, args.sha256)
    print(f"{args.archive}: {counted(count, 'file')}, {new} of them new; all match the list")
    say(f"next: deiii unpack {shlex.quote(str(args.archive))} cache")
    return 0
