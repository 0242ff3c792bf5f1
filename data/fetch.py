"""One file over HTTP, from servers and networks that fail: resumed, bounded, never led elsewhere.

>>> fetch("https://example.org/net.pth", "net.pth")              # doctest: +SKIP
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from tqdm import tqdm

ATTEMPTS = 4  # in all; what came is kept and only the rest is asked for again
PAUSE_S = 1.0  # before the second attempt, twice that before the third, and so on
TIMEOUT_S = 30  # without a byte
BLOCK = 1 << 18
MOST_BYTES = 8 << 30


class FetchError(OSError):
    """A file cannot be had; the message says why."""


class _Again(Exception):
    """Worth another attempt."""


def fetch(url: str, path: str | Path, most_bytes: int = MOST_BYTES, progress: bool = True) -> None:
    """Download to a file, which is whole when this returns; what it holds is the caller's to check.

    A connection that breaks is taken up where it broke, if the server can (``Range``); server
    errors are tried again. Redirects may lead to HTTPS, never to anything less safe than ``url``.

    Args:
        path: the file; overwritten.
        most_bytes: a longer answer is refused.

    Raises:
        FetchError: after the last attempt, or at once where another would not help.
    """
    path = Path(path)
    path.write_bytes(b"")
    with tqdm(desc=path.name, unit="B", unit_scale=True, disable=not progress, delay=1, leave=False) as bar:
        for attempt in range(ATTEMPTS):
            try:
                _attempt(url, path, most_bytes, bar)
                return
            except _Again as error:
                trouble = error
            except requests.RequestException as error:
                raise FetchError(_plain(error)) from None
            if attempt + 1 < ATTEMPTS:
                time.sleep(PAUSE_S * 2**attempt)
    raise FetchError(f"{trouble}; {ATTEMPTS} attempts failed") from None


def _attempt(url: str, path: Path, most_bytes: int, bar: tqdm) -> None:
    have = path.stat().st_size
    headers = {"Accept-Encoding": "identity"}  # compressed bytes could not be resumed, and can be bombs
    if have:
        headers["Range"] = f"bytes={have}-"
    hooks: Mapping[str, Any] = {"response": lambda answer, **_: _check_redirect(url, answer)}
    try:
        with requests.get(url, stream=True, timeout=TIMEOUT_S, headers=headers, hooks=hooks) as answer:
            if answer.status_code == 416 and have:  # nothing of it is left to send
                return
            if answer.status_code >= 500 or answer.status_code == 429:
                raise _Again(f"the server answers {answer.status_code} {answer.reason}")
            answer.raise_for_status()
            if answer.status_code != 206 or not answer.headers.get("Content-Range", "").startswith(
                f"bytes {have}-"
            ):
                have = 0  # the server begins anew
            _store(answer, path, have, most_bytes, bar)
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise _Again(_plain(error)) from None


def _store(answer: requests.Response, path: Path, have: int, most_bytes: int, bar: tqdm) -> None:
    promised = answer.headers.get("Content-Length", "")
    whole = have + int(promised) if promised.isdigit() else None
    if whole is not None and whole > most_bytes:
        raise FetchError(
            f"the server wants to send {whole} bytes, more than the {most_bytes} expected at most"
        )
    bar.total, bar.n = whole, have
    with open(path, "r+b") as file:
        file.truncate(have)
        file.seek(have)
        for block in answer.iter_content(BLOCK):
            have += len(block)
            if have > most_bytes:
                raise FetchError(f"the server sends more than the {most_bytes} bytes expected at most")
            file.write(block)
            bar.update(len(block))
    if whole is not None and have < whole:
        raise _Again(f"the connection ended after {have} of {whole} bytes")


def _check_redirect(url: str, answer: requests.Response) -> None:
    if not answer.is_redirect:
        return
    to = urlsplit(requests.compat.urljoin(answer.url, answer.headers["Location"]))
    if to.scheme not in ("https", urlsplit(url).scheme):
        raise FetchError(f"the server redirects from {urlsplit(url).scheme} to {to.scheme}, which is refused")


def _plain(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
