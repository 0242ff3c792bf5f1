"""10. Downloads, from a local server that misbehaves: whole and checked, or nothing kept and said so."""

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
from tests.faults.harness import NotHere, faults
from tests.faults.laboratory import Lab
from tests.faults.processes import ROOT, wait_until

downloads = faults("10 downloads")
NOTHING = "refused with the address and the cure; nothing is kept"
COMES = "comes whole, with the right digest"


def check_nothing(cache: Path) -> str:
    """The download fails in words and leaves nothing."""
    with pytest.raises(WeightsError, match="DEIII_WEIGHTS_DIR") as refused:
        resolve(None, "net")
    assert "net.pth" in str(refused.value)
    assert not list(cache.iterdir()), f"left: {[p.name for p in cache.iterdir()]}"
    return str(refused.value).split("net.pth (")[-1][:90]


def check_comes(cache: Path) -> None:
    path, found = resolve(None, "net")
    assert found == SHA and Path(path).read_bytes() == CONTENT
    assert [p.name for p in cache.iterdir()] == ["net.pth"], [p.name for p in cache.iterdir()]


@downloads("the connection breaks after every 300 kB", f"resumed where it broke; {COMES}", short=True)
def resumed(lab: Lab) -> str:
    with serving(lab, "broken") as (seen, cache):
        check_comes(cache)
        starts = [int(span.split("=")[1].rstrip("-")) for span in seen[1:]]
        assert len(seen) >= 4 and starts == sorted(starts) and starts[0] >= 1 << 17, seen
        return f"{len(seen)} requests, {seen[1:]}"


GOOD = {
    "a connection that breaks once, without resuming": "broken_once",
    "a server that answers with another range": "wrong_range",
    "two answers of 503, then the file": "busy",
    "a redirect": "moved",
}


def _good(name: str, kind: str) -> None:
    @downloads(name, COMES if kind != "wrong_range" else "never a file put together wrongly", short=True)
    def inject(lab: Lab) -> str:
        with serving(lab, kind) as (seen, cache):
            if kind == "wrong_range":
                return check_nothing(cache)
            check_comes(cache)
            return f"{len(seen)} requests"


for _name, _kind in GOOD.items():
    _good(_name, _kind)

BAD = {
    "a connection that breaks every time": "always_broken",
    "a truncated file of honest length": "truncated",
    "a file that goes on": "longer",
    "a wrong digest": "changed",
    "a login page in its place": "page",
    "nothing": "empty",
    "error 500": "error",
    "error 404": "absent",
    "error 403": "forbidden",
    "a server that never answers": "silent",
    "a server that stalls": "stalls",
    "an endless file": "endless",
    "a claimed petabyte": "claims",
    "a gzip bomb's encoding": "bomb",
    "bytes that are no HTTP": "garbage",
    "redirects in a circle": "loop",
    "a redirect to file:///etc/passwd": "file",
    "a redirect to ftp": "ftp",
}


def _bad(name: str, kind: str) -> None:
    @downloads(name, NOTHING, short=kind not in ("silent", "stalls"))
    def inject(lab: Lab) -> str:
        for sha256 in (SHA, SHA[:8]) if kind in ("truncated", "changed", "page") else (SHA,):
            with serving(lab, kind, sha256) as (_, cache):
                told = check_nothing(cache)
        return told


for _name, _kind in BAD.items():
    _bad(_name, _kind)


@downloads("a redirect from https to http", NOTHING)
def downgraded(lab: Lab) -> str:
    pem = lab.folder() / "cert.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=127.0.0.1".split()
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(pem), "-out", str(pem) + ".crt"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        raise NotHere("openssl is not here to make a certificate") from None
    pem.write_text(pem.read_text() + Path(str(pem) + ".crt").read_text())
    with serving(lab, "good", secure=pem) as (_, cache):
        check_comes(cache)
    with serving(lab, "plain", secure=pem) as (_, cache):
        told = check_nothing(cache)
        assert "https to http" in told, told
        return told


@downloads("nobody at the address", NOTHING, short=True)
def nobody(lab: Lab) -> str:
    with serving(lab, "good") as (_, cache):
        with mock.patch.dict(weights.SOURCES, {"net": WeightsSource("http://127.0.0.1:9/net.pth", SHA)}):
            return check_nothing(cache)


@downloads("four downloads of one file at once", COMES)
def at_once(lab: Lab) -> None:
    with serving(lab, "broken") as (_, cache):
        found: list = []
        threads = [threading.Thread(target=lambda: found.append(resolve(None, "net"))) for _ in range(4)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        assert len(found) == 4 and {f[1] for f in found} == {SHA}
        check_comes(cache)


FETCHING = """
import sys
from deiii.data.tools import fetch, weights
from deiii.data.tools.weights import WeightsSource, resolve
weights.SOURCES["net"] = WeightsSource(sys.argv[1], sys.argv[2])
print(resolve(None, "net"))
"""


@downloads("SIGKILL in the middle of a download, then again", f"{COMES}; what was left is swept away")
def killed(lab: Lab) -> str:
    with serving(lab, "stalls") as (seen, cache):
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
            os.utime(folder, (0, 0))  # as if it were long ago
        with mock.patch.dict(weights.SOURCES, {"net": WeightsSource(url.replace("stalls", "good"), SHA)}):
            check_comes(cache)
        return f"{len(left)} folder swept"


@downloads("the disk of the download cache is full", NOTHING)
def full(lab: Lab) -> str:
    mount = lab.mount(0.5)
    with serving(lab, "good"), mock.patch.dict(os.environ, {"DEIII_CACHE_DIR": str(mount)}):
        with pytest.raises(WeightsError, match="No space left") as refused:
            resolve(None, "net")
        assert not list(mount.iterdir()), [p.name for p in mount.iterdir()]
        return str(refused.value)[-120:]


@downloads("a damaged file under the name of good weights", "refused with its path and the cure", short=True)
def damaged(lab: Lab) -> str:
    with serving(lab, "good") as (_, cache):
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


def _archive(told: str, name: str) -> None:
    @downloads(f"an archive with a file named by {told}", "refused; nothing leaves the folder", short=True)
    def inject(lab: Lab) -> str:
        folder = lab.folder()
        archive = _zip(folder / "a.zip", name)
        (root := folder / "root").mkdir()
        with pytest.raises(fetch.DownloadError, match="leads out") as refused:
            fetch.unzip(archive, root)
        assert not list(folder.glob("outside*")) and not Path("/tmp/outside.txt").exists()
        return str(refused.value)[:80]


for _told, _name in NAMES.items():
    _archive(_told, _name)


@downloads("an archive that is cut off", "refused with its name", short=True)
def cut_archive(lab: Lab) -> str:
    archive = _zip(lab.folder() / "a.zip", "b.txt", os.urandom(5000))
    archive.write_bytes(archive.read_bytes()[:3000])
    with pytest.raises(fetch.DownloadError, match="a.zip is damaged") as refused:
        fetch.unzip(archive, lab.folder())
    return str(refused.value)[-60:]


@downloads("an archive larger than the disk", "refused before anything is unpacked")
def bomb(lab: Lab) -> str:
    mount = lab.mount(1)
    archive = _zip(lab.folder() / "a.zip", "b.txt", bytes(50 << 20))
    with pytest.raises(fetch.DownloadError, match="free") as refused:
        fetch.unzip(archive, mount)
    assert not list(mount.iterdir())
    return str(refused.value)[-80:]
