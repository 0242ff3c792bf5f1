"""Download files: resume, retry, verify digests with pooch, unpack archives safely."""

from __future__ import annotations

import os
import shutil
import time
import zipfile
from pathlib import Path, PurePosixPath
from urllib.parse import urljoin, urlsplit

import pooch
import requests

from deiii.data.tools.atomic_files import atomic_path
from deiii.data.tools.processes.made_folders import make_folder
from deiii.data.tools.progress import progress_bar
from deiii.data.tools.text.sizes import disk_size

CONNECT_S = 10  # s to wait for a connection; without a network the error comes soon
TIMEOUT_S = 30  # s to wait for data
ATTEMPTS = 5
PAUSE_S = 1.0  # s before the second attempt; doubles with every further one
CHUNK = 1 << 16  # bytes that a broken connection loses at most
MOST_POINTER_BYTES = 1024
MOST_BYTES = 1 << 40  # larger than any corpus file


class DownloadError(RuntimeError):
    """A file cannot be downloaded; the message states why and what to do."""


class QuotaError(DownloadError):
    """A server refuses because its quota is used up; another server may have the file."""


def fetch(store: pooch.Pooch, name: str, size: int, label: str = "") -> str:
    """Download one file of a pooch store, unless it is there with the right digest.

    Args:
        store: has each file's URL and digest.
        name: the file's name in the store.
        size: size of the file in bytes.
        label: text of the progress bar; no bar if empty.

    Returns:
        The file's path.

    Raises:
        DownloadError: if its digest is wrong, or the server refuses.
        requests.RequestException, OSError: if the server cannot be reached.
    """

    def downloader(url: str, output: str, _: pooch.Pooch) -> None:
        part = Path(store.abspath) / f"{name}.part"
        stream(url, part, size, label)
        os.replace(part, output)

    pooch.get_logger().setLevel("ERROR")
    try:
        return store.fetch(name, downloader=downloader)
    except ValueError:
        raise DownloadError(
            f"{name} has another checksum than its publisher states; it was removed. Run the command "
            "again; if that does not help, a proxy may be changing the file"
        ) from None


def stream(
    url: str, part: Path, size: int | None, label: str, resume: bool = True, most: int = MOST_BYTES
) -> None:
    """Download into ``part``; retry after broken connections and server errors.

    Redirects are followed to HTTPS or to the scheme of ``url``, and refused otherwise.

    Args:
        url: address of the file.
        part: file to write; bytes that it holds already are not downloaded again.
        size: size of the file in bytes, or ``None`` if it is not known.
        label: text of the progress bar; no bar if empty.
        resume: if false, remove ``part`` first.
        most: largest number of bytes accepted.

    Raises:
        DownloadError: if the server refuses, or sends more than ``size`` or ``most`` bytes.
        requests.RequestException, OSError: if the last attempt failed.
    """
    make_folder(part.parent)
    # What is too long was left by a download of an earlier version of the file.
    if not resume or (size is not None and part.is_file() and part.stat().st_size > size):
        part.unlink(missing_ok=True)
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE_S * 2 ** (attempt - 1))
        try:
            _stream_once(url, part, size, label, most)
            if size is None or part.stat().st_size == size:
                return
            if part.stat().st_size > size:
                part.unlink()
                raise DownloadError(f"{url} sent more than the {size} bytes that its publisher states")
            trouble: Exception = OSError(f"{url} ended after {part.stat().st_size} of {size} bytes")
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ) as error:
            trouble = error
    raise trouble


def _stream_once(url: str, part: Path, size: int | None, label: str, most: int) -> None:
    have = part.stat().st_size if part.exists() else 0
    if size is not None and have >= size:
        return
    # Compressed answers cannot be resumed, and can expand without bound.
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    hooks = {"response": lambda reply, **_: _check_redirect(url, reply)}
    with requests.get(
        url, headers=headers, hooks=hooks, stream=True, timeout=(CONNECT_S, TIMEOUT_S)
    ) as reply:
        if have and reply.status_code == 416:
            part.unlink()  # it is no start of the server's file
            raise requests.ConnectionError(f"{url} has no bytes after the {have} that were kept")
        _check_status(url, reply)
        resumes = reply.status_code == 206 and reply.headers.get("Content-Range", "").startswith(
            f"bytes {have}-"
        )
        total = size or int(reply.headers.get("Content-Length") or 0) + have or None
        if resumes and _is_pointer(part):
            resumes = False
        with (
            open(part, "ab" if resumes else "wb") as file,
            progress_bar(
                desc=label,
                unit="B",
                total=total,
                initial=have if resumes else 0,
                scale=True,
                shown=bool(label),
            ) as bar,
        ):
            for chunk in reply.iter_content(CHUNK):
                if file.tell() + len(chunk) > most:
                    raise DownloadError(f"{url} sends more than the {most} bytes expected at most")
                file.write(chunk)
                bar.update(len(chunk))
    if size != part.stat().st_size and _is_pointer(part):
        part.unlink()
        raise QuotaError(
            f"{url} answers with a Git LFS pointer instead of the file: the repository's Git LFS budget is "
            "spent; try again next month"
        )


def _is_pointer(part: Path) -> bool:
    """Return whether a file holds the text that stands for another file in a repository with Git LFS."""
    if not part.is_file() or part.stat().st_size > MOST_POINTER_BYTES:
        return False
    return part.read_bytes().startswith(b"version https://git-lfs")


def _check_status(url: str, reply: requests.Response) -> None:
    """Raise ConnectionError for a server error, which is tried again, and others for a refusal."""
    if reply.status_code >= 500:
        raise requests.ConnectionError(f"{url} answers {reply.status_code} {reply.reason}")
    if reply.status_code in (403, 429):
        raise QuotaError(
            f"{url} answers {reply.status_code}: too many requests, or the server's quota (of a repository: "
            "its Git LFS budget) is spent; try again later, or next month"
        )
    reply.raise_for_status()


def _check_redirect(url: str, reply: requests.Response) -> None:
    if reply.is_redirect:
        to = urlsplit(urljoin(reply.url, reply.headers["Location"])).scheme
        scheme = urlsplit(url).scheme
        if to not in ("https", scheme):
            reply.close()
            raise DownloadError(f"{url} redirects from {scheme} to {to}, which is refused")


def unzip(archive: Path, root: Path) -> list[str]:
    """Unpack an archive below ``root``, each file atomically; returns the files' names.

    Raises:
        DownloadError: if the archive is damaged, or holds a name that leads out of ``root``.
    """
    try:
        with zipfile.ZipFile(archive) as pack:
            members = [m for m in pack.infolist() if not m.is_dir()]
            check_disk(root, sum(m.file_size for m in members))
            for member in members:
                _extract(pack, member, root / inside(member.filename))
    except zipfile.BadZipFile as error:
        raise DownloadError(f"{archive} is damaged ({error}); remove it and run the command again") from None
    return [m.filename for m in members]


def _extract(pack: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    """Write one member of an archive to ``target``, atomically."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_path(target) as temporary,
        pack.open(member) as source,
        open(temporary, "wb") as file,
    ):
        shutil.copyfileobj(source, file, CHUNK)


def inside(name: str) -> str:
    """Return the name of an archive's member as a normal relative path.

    Raises:
        DownloadError: if it leads out of the folder that the archive is unpacked into.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise DownloadError(
            f"an archive holds {name!r}, which leads out of its folder; download it from its publisher again"
        )
    return path.as_posix()


def check_disk(
    root: Path, needed: int, remedy: str = "choose a folder on another disk with corpus.root="
) -> None:
    """Raise DownloadError, which ends with a remedy, if the disk of ``root`` has too few free bytes."""
    free = shutil.disk_usage(root).free
    if needed > free:
        lacking = f"{disk_size(needed)} are needed ({disk_size(needed - free)} more)"
        raise DownloadError(f"{root} has {disk_size(free)} free, but {lacking}; {remedy}")
