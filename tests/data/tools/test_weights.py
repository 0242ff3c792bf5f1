"""Named weights: found in order, downloaded once, never used where the digest is wrong."""

import errno
import functools
import hashlib
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from torchvision.models import ResNet18_Weights
from torchvision.models.optical_flow import Raft_Large_Weights, Raft_Small_Weights

from deiii.data.tools import weights
from deiii.data.tools.weights import WeightsError, WeightsSource, digest, known_digest, resolve
from tests.helpers.clipmaker import needs_shared, shared

CONTENT = b"weights " * 1000
SHA = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def __init__(self, hits, *args):
        self.hits = hits
        super().__init__(*args)

    def do_GET(self):
        self.hits.append(self.path)
        kind = self.path.split("/")[1]
        if kind == "moved":
            self.send_response(302)
            self.send_header("Location", "/good/net.pth")
            self.end_headers()
            return
        if kind == "error":
            self.send_error(500)
            return
        body = b"<html>log in</html>" if kind == "page" else CONTENT
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:100] if kind == "short" else body)

    def log_message(self, *args):
        pass


@pytest.fixture
def serve(monkeypatch, tmp_path):
    """Makes "net" a known name whose server answers in the given way; returns the list of requests."""
    hits = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, hits))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("DEIII_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("DEIII_WEIGHTS_DIR", raising=False)
    monkeypatch.setattr("deiii.data.tools.fetch.PAUSE_S", 0.0)

    def start(kind, sha256=SHA):
        url = f"http://127.0.0.1:{server.server_port}/{kind}/net.pth"
        monkeypatch.setitem(weights.SOURCES, "net", WeightsSource(url, sha256))
        return hits

    yield start
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("kind", ["good", "moved"])
@pytest.mark.parametrize("known", [SHA, SHA[:8]], ids=["full", "prefix"])
def test_downloads_once(serve, tmp_path, kind, known):
    hits = serve(kind, known)
    path, sha256 = resolve(None, "net")
    assert sha256 == SHA and open_bytes(path) == CONTENT
    assert os.listdir(tmp_path / "cache") == ["net.pth"]
    (tmp_path / "plain").touch()  # the downloaded file has the mode that the umask gives to any new one
    modes = [os.stat(tmp_path / name).st_mode & 0o777 for name in ("plain", "cache/net.pth")]
    assert modes[0] == modes[1]
    count = len(hits)
    assert resolve("net", "other") == (path, SHA) and len(hits) == count


@pytest.mark.parametrize("kind", ["error", "page", "short"])
@pytest.mark.parametrize("known", [SHA, SHA[:8]], ids=["full", "prefix"])
def test_failed_downloads_leave_nothing(serve, tmp_path, kind, known):
    serve(kind, known)
    with pytest.raises(WeightsError, match=r"net\.pth"):
        resolve(None, "net")
    assert not any(name.startswith("net") for name in os.listdir(tmp_path / "cache"))


def test_no_server(serve, monkeypatch):
    monkeypatch.setitem(weights.SOURCES, "net", WeightsSource("http://127.0.0.1:9/net.pth", SHA))
    with pytest.raises(WeightsError, match="DEIII_WEIGHTS_DIR"):
        resolve(None, "net")


def test_a_folder_that_cannot_be_written_is_named(serve, tmp_path, monkeypatch):
    """The message was "could not download URL ([Errno 13] Permission denied: '/.cache')"."""
    serve("good")
    (tmp_path / "file").touch()
    monkeypatch.setenv("DEIII_CACHE_DIR", str(tmp_path / "file/cache"))
    with pytest.raises(WeightsError) as found:
        resolve(None, "net")
    assert str(found.value) == (
        f"net.pth cannot be stored: {tmp_path}/file/cache: {tmp_path}/file is a file, not a folder; name "
        "another folder (DEIII_CACHE_DIR), or put the file into a folder and set DEIII_WEIGHTS_DIR to that "
        "folder"
    )


def test_a_full_disk_is_not_a_failed_connection(serve, tmp_path, monkeypatch):
    serve("good")

    def full(*words, **more):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("deiii.data.tools.fetch.stream", full)
    with pytest.raises(WeightsError, match=rf"^net.pth cannot be stored: {tmp_path}/cache: no space left "):
        resolve(None, "net")


def test_own_folder_comes_first_and_is_checked(serve, tmp_path, monkeypatch):
    hits = serve("good")
    own = tmp_path / "own"
    own.mkdir()
    monkeypatch.setenv("DEIII_WEIGHTS_DIR", str(own))
    (own / "net.pth").write_bytes(CONTENT)
    assert resolve(None, "net") == (str(own / "net.pth"), SHA) and not hits
    (own / "net.pth").write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match="damaged"):
        resolve(None, "net")


def test_a_path_is_taken_as_it_is(serve, tmp_path):
    serve("good")
    mine = tmp_path / "mine.pth"
    mine.write_bytes(b"own")
    sha = hashlib.sha256(b"own").hexdigest()
    assert resolve(str(mine), "net") == (str(mine), sha)
    assert known_digest(str(mine), "net") == sha
    mine.write_bytes(b"changed")
    assert digest(mine) == hashlib.sha256(b"changed").hexdigest()


def test_unknown_names(serve):
    assert known_digest(None, "Raft_Small_Weights.C_T_V2") == "01064c6d"
    with pytest.raises(WeightsError, match="Raft_Small_Weights.C_T_V2"):
        resolve("raft_tiny", "net")
    with pytest.raises(WeightsError, match="no such weights file"):
        known_digest("/nowhere/net.pth", "net")


@pytest.mark.parametrize("enum", [Raft_Small_Weights, Raft_Large_Weights, ResNet18_Weights])
def test_table_agrees_with_torchvision(enum):
    for member in enum:
        source = weights.SOURCES[str(member)]
        assert source.url == member.url and source.sha256 in source.file
    default = weights.ALIASES[f"{enum.__name__}.DEFAULT"]
    assert weights.SOURCES[default].url == enum.DEFAULT.url


@needs_shared
def test_yunet_digest():
    assert digest(shared(f"weights/{weights.YUNET}")) == weights.SOURCES[weights.YUNET].sha256


def open_bytes(path):
    with open(path, "rb") as file:
        return file.read()
