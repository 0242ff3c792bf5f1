"""Download the corpora whose licences allow it, in the layout that their adapters read.

RAVDESS comes as zip archives from Zenodo, whose record states each file's checksum. CREMA-D's media are
Git LFS objects: the archive of the repository holds pointers with each object's SHA-256. Both resume where
they stopped, and every file is checked.

>>> download("ravdess", "raw/ravdess", part="audio-speech")          # doctest: +SKIP
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import tarfile
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pooch
import requests

from deiii.data.config.suggest import did_you_mean
from deiii.data.tools.atomic_files import atomic_path, write_json
from deiii.data.tools.fetch import (
    TIMEOUT_S,
    DownloadError,
    QuotaError,
    check_disk,
    fetch,
    inside,
    stream,
    unzip,
)
from deiii.data.tools.processes.made_folders import make_folder
from deiii.data.tools.progress import progress_bar

THREADS = 4
FOLDER = ".download"  # below the corpus root; holds unfinished files and is removed at the end
RECORD = "downloaded.json"  # names and checksums of the archives that were unpacked
_log = logging.getLogger(__name__)
POINTER = re.compile(rb"version https://git-lfs\S*\n(?:.*\n)*?oid sha256:([0-9a-f]{64})\nsize (\d+)\n?\Z")


@dataclass(frozen=True)
class CorpusSource:
    """Where a corpus can be downloaded.

    Attributes:
        index: address of the list of its files: a Zenodo record, or the archive of a repository.
        parts: regular expression of file names by part; the first part is the default.
        licence: shown before anything is downloaded.
        media: addresses of a file of the repository, with ``{path}`` for its path; empty for Zenodo. When a
            server reports that its quota is spent, the next one is used from then on.
        clone: what to clone where no address answers.
    """

    index: str
    parts: dict[str, str]
    licence: str
    media: tuple[str, ...] = ()
    clone: str = ""


SOURCES = {
    "ravdess": CorpusSource(
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
    "crema_d": CorpusSource(
        "https://codeload.github.com/CheyneyComputerScience/CREMA-D/tar.gz/refs/heads/master",
        {"video": r"VideoFlash/[^/]+\.flv", "audio": r"AudioWAV/[^/]+\.wav"},
        "CREMA-D (Cao et al. 2014, IEEE Trans. Affective Computing 5(4)) is published under the\n"
        "Open Database License 1.0, its contents under the Database Contents License 1.0: you may copy, use\n"
        "and adapt it if you name its source and keep adapted databases open, under the same licence.\n"
        "Full text: https://opendatacommons.org/licenses/odbl/1-0/ and\n"
        "https://opendatacommons.org/licenses/dbcl/1-0/",
        # The LFS budget of the first was spent in 2025 (its issue 15); there its author names the second.
        (
            "https://media.githubusercontent.com/media/CheyneyComputerScience/CREMA-D/master/{path}",
            "https://gitlab.com/cs-cooper-lab/crema-d-mirror/-/raw/HEAD/{path}",
        ),
        "https://gitlab.com/cs-cooper-lab/crema-d-mirror",
    ),
}
TABLES = r"processedResults/[^/]+\.csv|VideoDemographics\.csv|SentenceFilenames\.csv|LICENSE\.txt|README\.md"
ELSEWHERE = {
    "msp_improv": "UT Dallas sends MSP-IMPROV after signing its licence: "
    "https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Improv.html",
    "iemocap": "USC sends IEMOCAP after signing its licence: https://sail.usc.edu/iemocap/iemocap_release.htm",
    "synthetic": "the synthetic corpus is generated, not downloaded: run `deiii synthesize`",
    "table": "a table describes clips that you have already: write clips.csv with the columns path, speaker "
    "and label into their folder, then run `deiii preprocess table corpus.root=FOLDER`",
}


def source_of(corpus: str) -> CorpusSource:
    """Return where a corpus can be downloaded.

    Raises:
        DownloadError: if it cannot be downloaded; the message says where to get it.
    """
    if corpus in SOURCES:
        return SOURCES[corpus]
    reason = ELSEWHERE.get(corpus, f"unknown corpus {corpus!r}{did_you_mean(corpus, SOURCES)}")
    reason += "" if reason.endswith("?") else ";"
    raise DownloadError(f"{reason} deiii can download {', '.join(SOURCES)}")


def download(corpus: str, root: str | Path, part: str | None = None, progress: bool = True) -> int:
    """Download the missing files of a part of a corpus into ``root``.

    Files that are complete are left alone, and an unfinished download is continued.

    Args:
        corpus: ``ravdess`` or ``crema_d``.
        root: folder to write; created if it does not exist.
        part: a part of `CorpusSource.parts`; the first if not given.
        progress: show progress bars.

    Returns:
        The number of files downloaded: archives of RAVDESS, media files of CREMA-D.

    Raises:
        DownloadError: for an unknown corpus or part, a server, a checksum, or a disk without space.
    """
    source = source_of(corpus)
    root = Path(root)
    part = part or next(iter(source.parts))
    if part not in source.parts:
        raise DownloadError(f"{corpus} has the parts {', '.join(source.parts)}, not {part!r}")
    make_folder(root)
    pattern = re.compile(source.parts[part])
    try:
        if source.media:
            return _download_repository(source, root, pattern, progress)
        return _download_archives(source, root, pattern, progress)
    except (requests.RequestException, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DownloadError(f"{first}; run the same command again to continue") from None


@dataclass(frozen=True)
class _Archive:
    """One file of a Zenodo record."""

    name: str
    url: str
    checksum: str
    size: int


def _download_archives(source: CorpusSource, root: Path, pattern: re.Pattern, progress: bool) -> int:
    """Download, check and unpack the archives of a Zenodo record, then remove them."""
    archives = _list_archives(source.index, pattern)
    done = _read_record(root)
    missing = [a for a in archives if done.get(a.name, {}).get("checksum") != a.checksum]
    # Room for what the archives hold, and for the largest twice: packed and unpacked.
    check_disk(root, sum(a.size for a in missing) + 2 * max((a.size for a in missing), default=0))
    store = pooch.create(
        root / FOLDER,
        base_url="",
        registry={a.name: a.checksum for a in archives},
        urls={a.name: a.url for a in archives},
    )
    for number, archive in enumerate(missing, 1):
        label = f"{archive.name} ({number}/{len(missing)})" if progress else ""
        path = Path(fetch(store, archive.name, archive.size, label))
        members = unzip(path, root)
        done[archive.name] = {"checksum": archive.checksum, "files": len(members)}
        write_json(root / RECORD, done)
        path.unlink()
    shutil.rmtree(store.abspath, ignore_errors=True)
    return len(missing)


def _list_archives(index: str, pattern: re.Pattern) -> list[_Archive]:
    """Return the files of a Zenodo record whose names match, sorted by name."""
    reply = requests.get(index, timeout=TIMEOUT_S)
    reply.raise_for_status()
    try:
        archives = [
            _Archive(f["key"], f["links"]["self"], f["checksum"], int(f["size"]))
            for f in reply.json()["files"]
            if pattern.fullmatch(f["key"])
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise DownloadError(
            f"{index} does not list its files as expected ({error}); download them with a browser"
        ) from None
    if not archives:
        raise DownloadError(f"{index} lists no files {pattern.pattern}; download them with a browser")
    return sorted(archives, key=lambda a: a.name)


def _read_record(root: Path) -> dict[str, dict]:
    """Return the archives that were unpacked into ``root`` before, by name."""
    try:
        return json.loads((root / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _download_repository(source: CorpusSource, root: Path, pattern: re.Pattern, progress: bool) -> int:
    """Download the tables of a repository and the objects that its Git LFS pointers name."""
    folder = root / FOLDER
    folder.mkdir(exist_ok=True)
    archive = folder / "repository.tar.gz"
    if not archive.is_file():
        part = archive.with_suffix(".part")
        stream(source.index, part, None, "tables and pointers" if progress else "", resume=False)
        os.replace(part, archive)
    pointers = _unpack_repository(archive, root, pattern)
    if not any(pattern.fullmatch(path) for path in pointers) and not _holds_media(root, pattern):
        raise DownloadError(f"{source.index} holds no files {pattern.pattern}; clone it with Git LFS")
    missing = {path: p.size for path, p in pointers.items() if not _has_size(root / path, p.size)}
    check_disk(root, sum(missing.values()))
    _download_objects(source, root, pointers, missing, progress)
    shutil.rmtree(folder, ignore_errors=True)
    return len(missing)


@dataclass(frozen=True)
class _Pointer:
    """A Git LFS pointer: the SHA-256 and the size in bytes of the object that it stands for."""

    sha256: str
    size: int


def _unpack_repository(archive: Path, root: Path, pattern: re.Pattern) -> dict[str, _Pointer]:
    """Write the tables of the archive below ``root``; return its pointers by path."""
    pointers: dict[str, _Pointer] = {}
    try:
        for path, content in _members(archive, re.compile(f"{pattern.pattern}|{TABLES}")):
            match = POINTER.match(content)
            if match:
                pointers[path] = _Pointer(match[1].decode(), int(match[2]))
                continue
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(root / path) as temporary:
                temporary.write_bytes(content)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        archive.unlink(missing_ok=True)
        raise DownloadError(f"the repository's archive is damaged ({error}); run the command again") from None
    return pointers


def _members(archive: Path, pattern: re.Pattern) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a repository's archive whose path, without the archive's top folder, matches."""
    with tarfile.open(archive, "r:gz") as pack:
        for member in pack:
            _, _, path = member.name.partition("/")
            if member.isfile() and pattern.fullmatch(path):
                file = pack.extractfile(member)
                yield inside(path), file.read() if file else b""


def _download_objects(
    source: CorpusSource,
    root: Path,
    pointers: dict[str, _Pointer],
    missing: dict[str, int],
    progress: bool,
) -> None:
    """Download the objects of all pointers in several threads; right files are left alone."""
    stores = [
        pooch.create(
            root,
            base_url="",
            registry={path: f"sha256:{p.sha256}" for path, p in pointers.items()},
            urls={path: address.format(path=path) for path in pointers},
        )
        for address in source.media
    ]
    spent = _Spent(source)
    for parent in {(root / path).parent for path in pointers}:
        parent.mkdir(parents=True, exist_ok=True)  # here, because pooch's threads would race for it
    total = sum(missing.values())
    bar = progress_bar(desc="media", unit="B", total=total, scale=True, shown=progress)
    with bar, ThreadPoolExecutor(THREADS) as pool:

        def get(path: str) -> None:
            while True:
                at = spent.at
                try:
                    fetch(stores[at], path, pointers[path].size)
                    break
                except QuotaError as error:
                    spent.next(at, error)
            bar.update(missing.get(path, 0))

        waiting = [pool.submit(get, path) for path in pointers]
        try:
            for one in waiting:
                one.result()
        except BaseException:
            for one in waiting:
                one.cancel()
            raise


class _Spent:
    """Which address of a repository is in use; several threads go on to the next one together."""

    def __init__(self, source: CorpusSource):
        self.source = source
        self.at = 0
        self._lock = threading.Lock()

    def next(self, at: int, error: QuotaError) -> None:
        """Use the address after ``at`` from now on. Raises DownloadError where there is none."""
        with self._lock:
            if self.at > at:
                return  # another thread was first
            if at + 1 == len(self.source.media):
                hosts = " and ".join(urlsplit(address).netloc for address in self.source.media)
                raise DownloadError(
                    f"{error}. {hosts} gave no file; finished files are kept, and the same command "
                    f"continues. With Git LFS: git clone {self.source.clone}"
                ) from None
            self.at = at + 1
            _log.warning("%s; going on with %s", error, urlsplit(self.source.media[self.at]).netloc)


def _holds_media(root: Path, pattern: re.Pattern) -> bool:
    """Return whether media files of the part are below ``root``, from a repository without pointers."""
    return any(
        pattern.fullmatch(path.relative_to(root).as_posix()) for path in root.rglob("*") if path.is_file()
    )


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size
