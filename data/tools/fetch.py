"""Files from the network: resumed where they stopped, tried again, verified by pooch, unpacked safely."""

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
from deiii.data.tools.progress import progress_bar

CONNECT_S = 10  # without a network, nobody is to wait for minutes before being told so
TIMEOUT_S, ATTEMPTS, PAUSE_S = 30, 5, 1.0  # the pause doubles with every attempt
CHUNK = 1 << 16  # what a broken connection loses at most
MOST_BYTES = 1 << 40  # more than any file of ours has


class DownloadError(RuntimeError):
    """A corpus cannot be fetched; the message says why and what to do."""


def store_of(root: Path, registry: dict[str, str], urls: dict[str, str]) -> pooch.Pooch:
    return pooch.create(root / ".download", base_url="", registry=registry, urls=urls)


def fetch(store: pooch.Pooch, name: str, size: int, words: str = "") -> str:
    """One file through pooch: left alone where its digest is right, verified where it is fetched."""

    def downloader(url: str, output: str, _: pooch.Pooch) -> None:
        part = Path(store.abspath) / f"{name}.part"
        stream(url, part, size, words)
        os.replace(part, output)

    pooch.get_logger().setLevel("ERROR")
    try:
        return store.fetch(name, downloader=downloader)
    except ValueError:
        raise DownloadError(
            f"{name} has another checksum than its publisher states; nothing was kept. Run the command "
            "again; if that does not help, a proxy may be changing it"
        ) from None


def stream(
    url: str, part: Path, size: int | None, words: str, resume: bool = True, most: int = MOST_BYTES
) -> None:
    """Fetch into ``part``, going on where it ends; broken connections and server errors are tried again.

    Redirects may lead to HTTPS, never to anything less safe than ``url``.

    Args:
        size: of the file in bytes, where it is known.
        most: a longer answer is refused.

    Raises:
        DownloadError, requests.RequestException: when that does not help.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    if not resume:
        part.unlink(missing_ok=True)
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE_S * 2 ** (attempt - 1))
        try:
            _stream_once(url, part, size, words, most)
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


def _stream_once(url: str, part: Path, size: int | None, words: str, most: int) -> None:
    have = part.stat().st_size if part.exists() else 0
    if size is not None and have >= size:
        return
    headers = {"Accept-Encoding": "identity"}  # compressed bytes cannot be resumed, and can be bombs
    headers |= {"Range": f"bytes={have}-"} if have else {}
    hooks = {"response": lambda reply, **_: _check_redirect(url, reply)}
    with requests.get(
        url, headers=headers, hooks=hooks, stream=True, timeout=(CONNECT_S, TIMEOUT_S)
    ) as reply:
        if reply.status_code >= 500:
            raise requests.ConnectionError(f"{url} answers {reply.status_code} {reply.reason}")
        if reply.status_code == 429 or reply.status_code == 403:
            raise DownloadError(
                f"{url} answers {reply.status_code}: too many requests, or its quota is used up; try again "
                "later, or clone the repository with Git LFS"
            )
        reply.raise_for_status()
        goes_on = reply.status_code == 206 and reply.headers.get("Content-Range", "").startswith(
            f"bytes {have}-"
        )
        total = size or int(reply.headers.get("Content-Length") or 0) + have or None
        with (
            open(part, "ab" if goes_on else "wb") as file,
            progress_bar(
                desc=words,
                unit="B",
                total=total,
                initial=have if goes_on else 0,
                scale=True,
                shown=bool(words),
            ) as bar,
        ):
            for chunk in reply.iter_content(CHUNK):
                if file.tell() + len(chunk) > most:
                    raise DownloadError(f"{url} sends more than the {most} bytes expected at most")
                file.write(chunk)
                bar.update(len(chunk))


def _check_redirect(url: str, reply: requests.Response) -> None:
    if reply.is_redirect:
        to, scheme = urlsplit(urljoin(reply.url, reply.headers["Location"])).scheme, urlsplit(url).scheme
        if to not in ("https", scheme):
            reply.close()
            raise DownloadError(f"{url} redirects from {scheme} to {to}, which is refused")


def unzip(archive: Path, root: Path) -> list[str]:
    """Unpack an archive under ``root``, each file whole or not at all; returns their names.

    Raises:
        DownloadError: damaged, or with a name that leads out of ``root``.
    """
    try:
        with zipfile.ZipFile(archive) as pack:
            members = [m for m in pack.infolist() if not m.is_dir()]
            check_disk(root, sum(m.file_size for m in members))
            for member in members:
                target = root / inside(member.filename)
                target.parent.mkdir(parents=True, exist_ok=True)
                with atomic_path(target) as temporary, pack.open(member) as source:
                    with open(temporary, "wb") as file:
                        shutil.copyfileobj(source, file, CHUNK)
    except zipfile.BadZipFile as error:
        raise DownloadError(f"{archive} is damaged ({error}); remove it and run the command again") from None
    return [m.filename for m in members]


def inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise DownloadError(
            f"an archive names {name!r}, which leads out of its folder; nothing of it is used"
        )
    return path.as_posix()


def check_disk(root: Path, needed: int) -> None:
    free = shutil.disk_usage(root).free
    if needed > free:
        raise DownloadError(
            f"{root} has {free / 1e9:.1f} GB free where {needed / 1e9:.1f} GB are needed; "
            "name a folder on another disk with ROOT="
        )
