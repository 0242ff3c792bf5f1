"""Fetching the corpora whose licences allow it: resumable, verified, into the layout their adapters read.

RAVDESS comes as zip archives from Zenodo, whose record states each file's checksum. CREMA-D's media are
Git LFS objects: the repository's archive holds pointers with each object's SHA-256.

>>> download("ravdess", "raw/ravdess", part="audio-speech")          # doctest: +SKIP
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests

from deiii.data.tools.atomic_files import atomic_path, write_json
from deiii.data.tools.fetch import (
    TIMEOUT_S,
    DownloadError,
    check_disk,
    fetch,
    inside,
    store_of,
    stream,
    unzip,
)
from deiii.data.tools.progress import progress_bar

THREADS = 4
RECORD = "downloaded.json"  # which archives were unpacked, with their checksums
POINTER = re.compile(rb"version https://git-lfs\S*\n(?:.*\n)*?oid sha256:([0-9a-f]{64})\nsize (\d+)\n?\Z")


@dataclass(frozen=True)
class Source:
    """Where a corpus comes from.

    Attributes:
        index: address of the list of its files: a Zenodo record, or a repository's archive.
        media: address of a file of the repository, with ``{path}`` in it (Git LFS alone).
        parts: pattern of file names by part; the first part is the default.
        licence: shown before anything is fetched.
    """

    index: str
    parts: dict[str, str]
    licence: str
    media: str = ""


SOURCES = {
    "ravdess": Source(
        "https://zenodo.org/api/records/1188976",
        {
            "video-speech": r"Video_Speech_Actor_\d\d\.zip",
            "video-song": r"Video_Song_Actor_\d\d\.zip",
            "audio-speech": r"Audio_Speech_Actors_01-24\.zip",
            "audio-song": r"Audio_Song_Actors_01-24\.zip",
        },
        "RAVDESS (Livingstone & Russo 2018, PLoS ONE 13(5): e0196391) is published under\n"
        "Creative Commons Attribution-NonCommercial-ShareAlike 4.0 International (CC BY-NC-SA 4.0):\n"
        "you may copy and adapt it for non-commercial purposes if you name its authors and this licence,\n"
        "say what you changed, and pass on what you make of it under the same licence.\n"
        "Full text: https://creativecommons.org/licenses/by-nc-sa/4.0/legalcode",
    ),
    "crema_d": Source(
        "https://codeload.github.com/CheyneyComputerScience/CREMA-D/tar.gz/refs/heads/master",
        {"video": r"VideoFlash/[^/]+\.flv", "audio": r"AudioWAV/[^/]+\.wav"},
        "CREMA-D (Cao et al. 2014, IEEE Trans. Affective Computing 5(4)) is published under the\n"
        "Open Database License 1.0, its contents under the Database Contents License 1.0: you may copy, use\n"
        "and adapt it if you name its source and keep adapted databases open, under the same licence.\n"
        "Full text: https://opendatacommons.org/licenses/odbl/1-0/ and\n"
        "https://opendatacommons.org/licenses/dbcl/1-0/",
        "https://media.githubusercontent.com/media/CheyneyComputerScience/CREMA-D/master/{path}",
    ),
}
TABLES = r"processedResults/[^/]+\.csv|VideoDemographics\.csv|SentenceFilenames\.csv|LICENSE\.txt|README\.md"
ELSEWHERE = {
    "msp_improv": "MSP-IMPROV is given out by UT Dallas after signing its licence: "
    "https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Improv.html",
    "synthetic": "the synthetic corpus is drawn, not downloaded: `make corpus`",
    "table": "a table describes clips that you have already; see docs/howto-own-corpus.md",
}


def source_of(corpus: str) -> Source:
    """Raises DownloadError for a corpus that cannot be downloaded, saying where it comes from."""
    if corpus in SOURCES:
        return SOURCES[corpus]
    known = ELSEWHERE.get(corpus, f"unknown corpus {corpus!r}")
    raise DownloadError(f"{known}; to be downloaded are {', '.join(SOURCES)}")


def download(corpus: str, root: str | Path, part: str | None = None, progress: bool = True) -> int:
    """Fetch what is missing of a part of a corpus into ``root``; returns the number of files fetched.

    What is there and right is left alone; an unfinished file goes on where it stopped.

    Raises:
        DownloadError: the server is unreachable, a checksum is wrong, or the disk is too small.
    """
    source, root = source_of(corpus), Path(root)
    part = part or next(iter(source.parts))
    if part not in source.parts:
        raise DownloadError(f"{corpus} has the parts {', '.join(source.parts)}, not {part!r}")
    root.mkdir(parents=True, exist_ok=True)
    pattern = re.compile(source.parts[part])
    try:
        if source.media:
            return _repository(source, root, pattern, progress)
        return _record(source, root, pattern, progress)
    except (requests.RequestException, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DownloadError(f"{first}; run the same command again to go on") from None


def _record(source: Source, root: Path, pattern: re.Pattern, progress: bool) -> int:
    """Archives of a Zenodo record: fetch, verify, unpack, remove."""
    reply = requests.get(source.index, timeout=TIMEOUT_S)
    reply.raise_for_status()
    try:
        files = {f["key"]: f for f in reply.json()["files"]}
        wanted = sorted(n for n in files if pattern.fullmatch(n))
        registry = {n: files[n]["checksum"] for n in wanted}
        urls = {n: files[n]["links"]["self"] for n in wanted}
        sizes = {n: int(files[n]["size"]) for n in wanted}
    except (ValueError, KeyError, TypeError) as error:
        raise DownloadError(
            f"{source.index} does not list its files as expected ({error}); download by hand"
        ) from None
    if not wanted:
        raise DownloadError(f"{source.index} has no files {pattern.pattern}")
    done = _unpacked(root)
    missing = [n for n in wanted if done.get(n, {}).get("checksum") != registry[n]]
    check_disk(root, sum(sizes[n] for n in missing) + 2 * max((sizes[n] for n in missing), default=0))
    store = store_of(root, registry, urls)
    for number, name in enumerate(missing, 1):
        words = f"{name} ({number}/{len(missing)})" if progress else ""
        archive = Path(fetch(store, name, sizes[name], words))
        members = unzip(archive, root)
        done[name] = {"checksum": registry[name], "files": len(members)}
        write_json(root / RECORD, done)
        archive.unlink()
    shutil.rmtree(store.abspath, ignore_errors=True)
    return len(missing)


def _repository(source: Source, root: Path, pattern: re.Pattern, progress: bool) -> int:
    """A repository's tables, and the objects that its Git LFS pointers name."""
    folder = root / ".download"
    folder.mkdir(exist_ok=True)
    archive = folder / "repository.tar.gz"
    if not archive.is_file():
        part = archive.with_suffix(".part")
        stream(source.index, part, None, "tables and pointers" if progress else "", resume=False)
        os.replace(part, archive)
    pointers: dict[str, tuple[str, int]] = {}
    try:
        for path, content in _members(archive, re.compile(f"{pattern.pattern}|{TABLES}")):
            match = POINTER.match(content)
            if match:
                pointers[path] = (match[1].decode(), int(match[2]))
                continue
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(root / path) as temporary:
                temporary.write_bytes(content)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        archive.unlink(missing_ok=True)
        raise DownloadError(f"the repository's archive is damaged ({error}); run the command again") from None
    if not any(pattern.fullmatch(p) for p in pointers) and not any(
        pattern.fullmatch(p.relative_to(root).as_posix()) for p in root.rglob("*") if p.is_file()
    ):
        raise DownloadError(f"{source.index} holds no files {pattern.pattern}")
    missing = {p: size for p, (_, size) in pointers.items() if not _has_size(root / p, size)}
    check_disk(root, sum(missing.values()))
    registry = {p: f"sha256:{oid}" for p, (oid, _) in pointers.items()}
    store = pooch.create(
        root, base_url="", registry=registry, urls={p: source.media.format(path=p) for p in pointers}
    )
    for parent in {(root / path).parent for path in pointers}:  # pooch's threads would race for them
        parent.mkdir(parents=True, exist_ok=True)
    with (
        progress_bar(desc="media", unit="B", total=sum(missing.values()), scale=True, shown=progress) as bar,
        ThreadPoolExecutor(THREADS) as pool,
    ):

        def get(path: str) -> None:
            fetch(store, path, pointers[path][1])
            bar.update(missing.get(path, 0))

        waiting = [pool.submit(get, path) for path in pointers]
        try:
            for one in waiting:
                one.result()
        except BaseException:
            for one in waiting:
                one.cancel()
            raise
    shutil.rmtree(folder, ignore_errors=True)
    return len(missing)


def _members(archive: Path, pattern: re.Pattern) -> Iterable[tuple[str, bytes]]:
    """Files of a repository's archive whose path matches, without the archive's own top folder."""
    with tarfile.open(archive, "r:gz") as pack:
        for member in pack:
            _, _, path = member.name.partition("/")
            if member.isfile() and pattern.fullmatch(path):
                file = pack.extractfile(member)
                yield inside(path), file.read() if file else b""


def _unpacked(root: Path) -> dict[str, dict]:
    try:
        return json.loads((root / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size
