"""Archives that `deiii pack` made, to publish and to fetch: a card, and a list of all files with digests.

``archive.json`` lists every file of the archive with its size and SHA-256, and is written last. The
publisher of the archive states the digest of that file, which covers all files of the archive.

>>> fetch_archive("https://example.org/features", "archive")     # doctest: +SKIP
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import requests

from deiii.data.cache.identity import read_identity
from deiii.data.cache.index import INDEX, PACKED, CacheError, read_index, read_table
from deiii.data.corpora.clips import readable_name
from deiii.data.sharing.card import CARD, card_text, corpus_facts
from deiii.data.tools.atomic_files import TEMPORARY, file_sha256, publish, write_json, write_text
from deiii.data.tools.counts import counted
from deiii.data.tools.fetch import DownloadError, check_disk, stream
from deiii.data.tools.processes.made_folders import make_folder
from deiii.data.tools.progress import progress_bar, say
from deiii.data.tools.text.sizes import disk_size
from deiii.data.tools.writer_lock import writer_lock

LIST = "archive.json"
FORMAT = 1
MOST_LIST_BYTES = 256_000_000
# Folders of corpora and stages, as `deiii pack` names them; nothing hidden, nothing outside.
NAME = re.compile(r"(?!\.)[^/\\\x00-\x1f]+(?:/(?!\.)[^/\\\x00-\x1f]+){0,2}")
WITH_DEIII = """
deiii fetch-cache URL-OF-THIS-FOLDER archive
deiii unpack archive cache
deiii train {corpus} cache=cache          # with the settings of the recipe below
"""
WITHOUT = """
import h5py, hdf5plugin  # the second decompresses
file = h5py.File("{shard}")
first = file["{field}"][file["offsets"][0]:file["offsets"][1]]  # of the clip file["clip_id"][0]
"""


def describe_archive(cache: str | Path, archive: str | Path) -> str:
    """Write the card and the list of an archive that `pack` made of a cache.

    Returns:
        the SHA-256 of ``archive.json``.
    """
    cache, archive = Path(cache), Path(archive)
    facts, names = [], []
    example = ("", "")
    for corpus in sorted({path.parents[1] for path in cache.glob(f"*/*/{INDEX}")}):
        indices = [read_index(path.parent) for path in sorted(corpus.glob(f"*/{INDEX}"))]
        table, place = read_table(cache, corpus.name), read_identity(cache, corpus.name)
        facts.append(corpus_facts(table, indices))
        names.append(readable_name(table.base or corpus.name, table.root, place.table if place else ""))
        if not example[0] and indices[0].shards:
            stage = f"{corpus.name}/{indices[0].stage}-{indices[0].key}"
            shard = indices[0].shards[0]
            example = f"{stage}/{shard.name}.h5", next(iter(shard.fields), "clip_id")
    text = card_text(
        facts,
        names,
        f"Features of {', '.join(names)}",
        "A packed feature cache: HDF5 files in the folders CORPUS/STAGE-KEY, losslessly compressed with "
        f"Blosc2; `{LIST}` has the size and SHA-256 of every file.",
        WITH_DEIII.format(corpus="CONFIG"),
        WITHOUT.format(shard=example[0], field=example[1]),
    )
    write_text(archive / CARD, text)
    files = [
        path
        for path in sorted(archive.rglob("*"))
        if path.is_file()
        and path.name != LIST
        and not any(part.startswith(".") for part in path.relative_to(archive).parts)
        and (path.parent != archive or path.name == CARD)  # nothing that somebody put beside them
    ]
    listed = [
        {
            "path": path.relative_to(archive).as_posix(),
            "bytes": path.stat().st_size,
            "sha256": file_sha256(path),
        }
        for path in files
    ]
    write_json(archive / LIST, {"format": FORMAT, "files": listed})
    return file_sha256(archive / LIST)


def check_complete(archive: str | Path) -> None:
    """Refuse an archive of which files are missing: `unpack` would restore the others without a message.

    The contents of the files are not read. An archive without ``archive.json``, of a stopped `pack` or of
    `deiii.data.cache.packed.pack` alone, is accepted with a note.

    Raises:
        CacheError: its download was stopped, or it lacks files that its list names; says what to do.
    """
    archive = Path(archive)
    if _unfinished_list(archive).exists():
        raise CacheError(f"the download into {archive} was stopped; run the same fetch-cache command again")
    path = archive / LIST
    if not path.is_file():
        if any(archive.glob(f"*/*/{PACKED}")):
            print(
                f"note: {archive} has no {LIST}, so it is not known whether it is complete", file=sys.stderr
            )
        return
    try:
        listed = _files_of(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise CacheError(f"{path} is damaged ({error}); copy or fetch the archive again") from None
    listed.pop(CARD, None)  # publishers add to it, and nothing is restored from it
    lacking = [name for name, wanted in listed.items() if not _has_size(archive / name, wanted["bytes"])]
    if lacking:
        raise CacheError(
            f"{archive} lacks {len(lacking)} of {counted(len(listed), 'file')} that {LIST} names, or they "
            f"have another size, such as {lacking[0]}; copy or fetch it again (without {LIST}, what is there "
            "is restored)"
        )


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _unfinished_list(archive: Path) -> Path:
    """Return the place of the list while the files that it names are downloaded."""
    return archive / f".{LIST}{TEMPORARY}"


def fetch_archive(
    url: str, archive: str | Path, sha256: str | None = None, progress: bool = True
) -> tuple[int, int]:
    """Download an archive; files that are there and right are kept, unfinished ones are continued.

    Another process that downloads into the same folder is waited for.

    Args:
        url: address of the archive's folder, or of its ``archive.json``; HTTP or HTTPS.
        archive: folder to write.
        sha256: SHA-256 of ``archive.json``, as its publisher states it; an archive with another list is
            refused.
        progress: show a bar.

    Returns:
        the number of files downloaded, and of all files.

    Raises:
        DownloadError: the address is not an archive, the list has another digest, the folder holds files of
            another archive, a file differs from the list, or the server refuses; the message says what
            to do.
    """
    archive = Path(archive)
    base = url.removesuffix(LIST).rstrip("/") + "/"
    if urlsplit(base).scheme not in ("http", "https"):
        local = Path(url.removesuffix(LIST))
        here = f"; {local} is on this machine: deiii unpack {shlex.quote(str(local))} CACHE"
        raise DownloadError(
            f"{url}: an address begins with https:// or http://{here if local.is_dir() else ''}"
        )
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise DownloadError(
            f"--sha256 {sha256}: a SHA-256 has 64 hexadecimal digits; the publisher of the archive "
            f"states that of {LIST}"
        )
    with writer_lock(archive, say):
        return _fetch_archive(base, archive, sha256, progress)


def _fetch_archive(base: str, archive: Path, sha256: str | None, progress: bool) -> tuple[int, int]:
    """Download an archive whose folder's lock is held; see `fetch_archive`."""
    try:
        listed = _list(base, archive, sha256)
        _refuse_others(archive, base, listed)
        missing = {name: f for name, f in listed.items() if not _is_right(archive / name, f)}
        make_folder(archive)
        there = sum(_part_bytes(archive / name, wanted["bytes"]) for name, wanted in missing.items())
        needed = sum(f["bytes"] for f in missing.values()) - there
        check_disk(archive, needed, "name a folder on another disk, or free space there")
        total = sum(f["bytes"] for f in missing.values())
        with progress_bar(desc="fetch", unit="B", total=total, scale=True, shown=progress) as bar:
            for name, wanted in missing.items():
                _get(base, archive / name, name, wanted)
                bar.update(wanted["bytes"])
    except (requests.ConnectionError, requests.Timeout) as error:
        raise DownloadError(
            f"{urlsplit(base).netloc} cannot be reached ({_reason(error)}); check the address and the "
            "connection, and run the same command again to continue"
        ) from None
    except (requests.RequestException, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DownloadError(f"{first}; run the same command again to continue") from None
    # The list appears last, as in the archive that was published.
    _unfinished_list(archive).replace(archive / LIST)
    return len(missing), len(listed)


def _reason(error: Exception) -> str:
    """Return the last cause in the message of the HTTP client, which wraps it in objects' names."""
    words = str(error).splitlines()[0].strip("()'\" ") if str(error) else type(error).__name__
    words = re.sub(r"\[Errno -?\d+\] ", "", words)
    return words.rpartition(": ")[2] if "Max retries" in words else words


def _list(base: str, archive: Path, sha256: str | None) -> dict[str, dict[str, Any]]:
    """Return the files of the archive by name; the list itself is kept under a temporary name."""
    part = _unfinished_list(archive)
    try:
        stream(base + LIST, part, None, "", resume=False, most=MOST_LIST_BYTES)
    except requests.HTTPError as error:
        raise DownloadError(
            f"{base} holds no archive ({error}); the address is that of a folder with {LIST}, which "
            "`deiii pack` writes"
        ) from None
    except BaseException:
        part.unlink(missing_ok=True)  # a complete list there means that files are missing: `check_complete`
        raise
    data = part.read_bytes()
    try:
        return _listed_files(base, data, sha256)
    except DownloadError:
        part.unlink()  # nothing stays behind of a list that was refused
        raise


def _listed_files(base: str, data: bytes, sha256: str | None) -> dict[str, dict[str, Any]]:
    """Return the files that the text of a list names; raises DownloadError for a wrong list."""
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and found != sha256.lower():
        raise DownloadError(
            f"{base}{LIST} has the SHA-256 {found}, not {sha256}; it is another archive, or a changed one"
        )
    try:
        tree = json.loads(data)
        if tree["format"] != FORMAT:
            raise DownloadError(f"{base}{LIST} has format {tree['format']}; this version reads {FORMAT}")
        files = _files_of(tree)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DownloadError(f"{base}{LIST} is not a list of an archive ({error})") from None
    for name, wanted in files.items():
        if not isinstance(name, str) or not NAME.fullmatch(name) or wanted["bytes"] < 0 or name == LIST:
            raise DownloadError(f"{base}{LIST} lists {name!r}, which is not a file of an archive")
    return files


def _files_of(tree: Any) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of each file in a list, by its name; raises what a malformed list causes."""
    return {f["path"]: {"bytes": int(f["bytes"]), "sha256": str(f["sha256"])} for f in tree["files"]}


def _refuse_others(archive: Path, base: str, listed: Mapping[str, Any]) -> None:
    """Raise DownloadError for files of another archive, or of an earlier one: `unpack` would restore them."""
    there = sorted(path.relative_to(archive) for path in archive.glob("*/**/*") if path.is_file())
    shown = [path for path in there if not any(part.startswith(".") for part in path.parts)]  # not .git
    others = [path for path in shown if path.as_posix() not in listed]
    if others:
        _unfinished_list(archive).unlink()
        raise DownloadError(
            f"{archive} holds {counted(len(others), 'file')} that {base}{LIST} does not name, such as "
            f"{others[0]}; they are of another archive, or of an earlier state of this one: remove them, or "
            "name a new folder"
        )


def _is_right(path: Path, wanted: Mapping[str, Any]) -> bool:
    return _has_size(path, wanted["bytes"]) and file_sha256(path) == wanted["sha256"]


def _part(path: Path) -> Path:
    """Return the place of a file while it is downloaded."""
    return path.with_name(f".{path.name}{TEMPORARY}")


def _part_bytes(path: Path, size: int) -> int:
    """Return how many bytes of a file a stopped download has left, which need no more room."""
    part = _part(path)
    there = part.stat().st_size if part.is_file() else 0
    return there if there <= size else 0  # what is too long is of an earlier version and is removed


def _get(base: str, path: Path, name: str, wanted: Mapping[str, Any]) -> None:
    """Download one file, check it, and only then give it its name."""
    part = _part(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if wanted["bytes"] == 0:
        part.write_bytes(b"")
    stream(base + quote(name), part, wanted["bytes"], "")
    if file_sha256(part) != wanted["sha256"]:
        part.unlink()
        raise DownloadError(
            f"{base}{name} is not the file that {LIST} lists ({disk_size(wanted['bytes'])}, SHA-256 "
            f"{wanted['sha256'][:12]}...); run the command again; if that does not help, tell its publisher"
        )
    publish(part, path)
