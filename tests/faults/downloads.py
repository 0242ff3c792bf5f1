"""10. Downloads from a local server that misbehaves: a complete, verified file, or an error and no file."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from unittest import mock

import pytest

from deiii.data.tools import fetch, weights
from deiii.data.tools.weights import WeightsError, WeightsSource, resolve
from tests.faults.download_server import CONTENT, SHA, serving
from tests.faults.harness import NotAvailable, faults
from tests.faults.processes import ROOT, wait_until
from tests.faults.workspace import Workspace

downloads = faults("10 downloads")
NOTHING = "refused with the address and what to do; no file is left"
COMPLETE = "the file is complete and has the right digest"


def check_nothing_left(cache: Path) -> str:
    """The download fails with a message and leaves no file."""
    with pytest.raises(WeightsError, match="DEIII_WEIGHTS_DIR") as refused:
        resolve(None, "net")
    assert "net.pth" in str(refused.value)
    assert not list(cache.iterdir()), f"left: {[p.name for p in cache.iterdir()]}"
    return str(refused.value).split("net.pth (")[-1][:90]


def check_complete(cache: Path) -> None:
    path, found = resolve(None, "net")
    assert found == SHA and Path(path).read_bytes() == CONTENT
    assert [p.name for p in cache.iterdir()] == ["net.pth"], [p.name for p in cache.iterdir()]


@downloads("the connection breaks after every 300 kB", f"continued where it broke; {COMPLETE}", short=True)
def resumed(work: Workspace) -> str:
    with serving(work, "broken") as (seen, cache):
        check_complete(cache)
        starts = [int(span.split("=")[1].rstrip("-")) for span in seen[1:]]
        assert len(seen) >= 4 and starts == sorted(starts) and starts[0] >= 1 << 17, seen
        return f"{len(seen)} requests, {seen[1:]}"


GOOD = {
    "a connection that breaks once, from a server that cannot resume": "broken_once",
    "a server that sends another range than requested": "wrong_range",
    "two answers of 503, then the file": "busy",
    "a redirect": "moved",
}


def _good(name: str, kind: str) -> None:
    @downloads(name, COMPLETE if kind != "wrong_range" else "no file assembled from wrong parts", short=True)
    def inject(work: Workspace) -> str:
        with serving(work, kind) as (seen, cache):
            if kind == "wrong_range":
                return check_nothing_left(cache)
            check_complete(cache)
            return f"{len(seen)} requests"


for _name, _kind in GOOD.items():
    _good(_name, _kind)

BAD = {
    "a connection that breaks every time": "always_broken",
    "a truncated file with its own length": "truncated",
    "a file that is too long": "longer",
    "a wrong digest": "changed",
    "a login page instead of the file": "page",
    "an empty answer": "empty",
    "error 500": "error",
    "error 404": "absent",
    "error 403": "forbidden",
    "a server that never answers": "silent",
    "a server that stalls": "stalls",
    "an endless file": "endless",
    "a claimed petabyte": "claims",
    "the encoding of a gzip bomb": "bomb",
    "bytes that are not HTTP": "garbage",
    "redirects in a circle": "loop",
    "a redirect to file:///etc/passwd": "file",
    "a redirect to ftp": "ftp",
}


def _bad(name: str, kind: str) -> None:
    @downloads(name, NOTHING, short=kind not in ("silent", "stalls"))
    def inject(work: Workspace) -> str:
        for sha256 in (SHA, SHA[:8]) if kind in ("truncated", "changed", "page") else (SHA,):
            with serving(work, kind, sha256) as (_, cache):
                message = check_nothing_left(cache)
        return message


for _name, _kind in BAD.items():
    _bad(_name, _kind)


@downloads("a redirect from https to http", NOTHING)
def downgraded(work: Workspace) -> str:
    pem = work.folder() / "cert.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=127.0.0.1".split()
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(pem), "-out", str(pem) + ".crt"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        raise NotAvailable("no openssl to make a certificate") from None
    pem.write_text(pem.read_text() + Path(str(pem) + ".crt").read_text())
    with serving(work, "good", secure=pem) as (_, cache):
        check_complete(cache)
    with serving(work, "plain", secure=pem) as (_, cache):
        message = check_nothing_left(cache)
        assert "https to http" in message, message
        return message


@downloads("no server at the address", NOTHING, short=True)
def nobody(work: Workspace) -> str:
    with serving(work, "good") as (_, cache):
        with mock.patch.dict(weights.SOURCES, {"net": WeightsSource("http://127.0.0.1:9/net.pth", SHA)}):
            return check_nothing_left(cache)


@downloads("four simultaneous downloads of one file", COMPLETE)
def at_once(work: Workspace) -> None:
    with serving(work, "broken") as (_, cache):
        found: list = []
        threads = [threading.Thread(target=lambda: found.append(resolve(None, "net"))) for _ in range(4)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        assert len(found) == 4 and {f[1] for f in found} == {SHA}
        check_complete(cache)


FETCHING = """
import sys
from deiii.data.tools import fetch, weights
from deiii.data.tools.weights import WeightsSource, resolve
weights.SOURCES["net"] = WeightsSource(sys.argv[1], sys.argv[2])
print(resolve(None, "net"))
"""


@downloads("SIGKILL in the middle of a download, then again", f"{COMPLETE}; leftovers are removed")
def killed(work: Workspace) -> str:
    with serving(work, "stalls") as (seen, cache):
        url = weights.SOURCES["net"].url
        process = subprocess.Popen(
            [sys.executable, "-c", FETCHING, url, SHA], cwd=ROOT, stderr=subprocess.DEVNULL
        )
        wait_until(lambda: len(seen) >= 1)
        time.sleep(0.3)
        process.kill()
        process.wait()
        left = list(cache.glob(".download-*"))
        assert left and not (cache / "net.pth").exists()
        for folder in left:
            os.utime(folder, (0, 0))  # as if it were old
        with mock.patch.dict(weights.SOURCES, {"net": WeightsSource(url.replace("stalls", "good"), SHA)}):
            check_complete(cache)
        return f"{len(left)} folder removed"


@downloads("the disk of the download cache is full", NOTHING)
def full(work: Workspace) -> str:
    mount = work.mount(0.5)
    with serving(work, "good"), mock.patch.dict(os.environ, {"DEIII_CACHE_DIR": str(mount)}):
        with pytest.raises(WeightsError, match="No space left") as refused:
            resolve(None, "net")
        assert not list(mount.iterdir()), [p.name for p in mount.iterdir()]
        return str(refused.value)[-120:]


@downloads(
    "a damaged file under the name of good weights", "refused with its path and what to do", short=True
)
def damaged(work: Workspace) -> str:
    with serving(work, "good") as (_, cache):
        (cache / "net.pth").write_bytes(CONTENT[:-1])
        with pytest.raises(WeightsError, match="damaged") as refused:
            resolve(None, "net")
        return str(refused.value)[-90:]


# Archives


def _zip(path: Path, name: str, content: bytes = b"x" * 100) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as pack:
        pack.writestr("good.txt", b"good")
        pack.writestr(zipfile.ZipInfo(name), content)
    return path


NAMES = {
    "..": "../outside.txt",
    ".. inside a path": "a/../../outside.txt",
    "an absolute path": "/tmp/outside.txt",
    "a Windows path": "..\\outside.txt",
}


def _archive(message: str, name: str) -> None:
    @downloads(f"an archive with a file named by {message}", "refused; nothing leaves the folder", short=True)
    def inject(work: Workspace) -> str:
        folder = work.folder()
        archive = _zip(folder / "a.zip", name)
        (root := folder / "root").mkdir()
        with pytest.raises(fetch.DownloadError, match="leads out") as refused:
            fetch.unzip(archive, root)
        assert not list(folder.glob("outside*")) and not Path("/tmp/outside.txt").exists()
        return str(refused.value)[:80]


for _told, _name in NAMES.items():
    _archive(_told, _name)


@downloads("a truncated archive", "refused by name", short=True)
def cut_archive(work: Workspace) -> str:
    archive = _zip(work.folder() / "a.zip", "b.txt", os.urandom(5000))
    archive.write_bytes(archive.read_bytes()[:3000])
    with pytest.raises(fetch.DownloadError, match="a.zip is damaged") as refused:
        fetch.unzip(archive, work.folder())
    return str(refused.value)[-60:]


@downloads("an archive larger than the disk", "refused before anything is unpacked")
def bomb(work: Workspace) -> str:
    mount = work.mount(1)
    archive = _zip(work.folder() / "a.zip", "b.txt", bytes(50 << 20))
    with pytest.raises(fetch.DownloadError, match="free") as refused:
        fetch.unzip(archive, mount)
    assert not list(mount.iterdir())
    return str(refused.value)[-80:]
