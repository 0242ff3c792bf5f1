"""A local server that misbehaves; each kind of misbehaviour has its own path."""

from __future__ import annotations

import functools
import hashlib
import os
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock

from deiii.data.tools import fetch, weights
from deiii.data.tools.weights import WeightsSource
from tests.faults.workspace import Workspace

CONTENT = os.urandom(1 << 20)
SHA = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers ``/KIND/net.pth`` by the method ``on_KIND``; records the range of each request in ``seen``."""

    protocol_version = "HTTP/1.1"

    def __init__(self, seen: list, *args):
        self.seen = seen
        super().__init__(*args)

    def do_GET(self):
        kind, span = self.path.split("/")[1], self.headers.get("Range")
        self.seen.append(span)
        self.close_connection = True
        getattr(self, f"on_{kind}", self.on_good)(span)

    def send(self, body: bytes, status: int = 200, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def send_range(self, span: str | None, most: int) -> None:
        start = int(span.split("=")[1].rstrip("-")) if span else 0
        body = CONTENT[start:]
        more = {"Content_Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"} if span else {}
        self.send(body[:most], 206 if span else 200, len(body), **more)

    def on_good(self, span):
        self.send(CONTENT)

    def on_broken(self, span):  # breaks after 300 kB each time, can resume
        self.send_range(span, 300_000)

    def on_broken_once(self, span):  # breaks once, cannot resume
        self.send(CONTENT if len(self.seen) > 1 else CONTENT[:500_000], length=len(CONTENT))

    def on_always_broken(self, span):
        self.send(CONTENT[:1000], length=len(CONTENT))

    def on_wrong_range(self, span):  # sends another range than requested
        if not span:
            return self.send(CONTENT[:1000], length=len(CONTENT))
        self.send(CONTENT[500:], 206, Content_Range=f"bytes 500-{len(CONTENT) - 1}/{len(CONTENT)}")

    def on_truncated(self, span):  # the length agrees with the truncated body
        self.send(CONTENT[:-1])

    def on_longer(self, span):
        self.send(CONTENT + b"more")

    def on_changed(self, span):
        self.send(bytes([CONTENT[0] ^ 1]) + CONTENT[1:])

    def on_page(self, span):
        self.send(b"<html>log in</html>")

    def on_empty(self, span):
        self.send(b"")

    def on_busy(self, span):
        self.send(b"", 503) if len(self.seen) < 3 else self.send(CONTENT)

    def on_error(self, span):
        self.send(b"", 500)

    def on_absent(self, span):
        self.send(b"", 404)

    def on_forbidden(self, span):
        self.send(b"", 403)

    def on_silent(self, span):
        time.sleep(3)

    def on_stalls(self, span):
        self.send(CONTENT[:1000], length=len(CONTENT))
        self.wfile.flush()
        time.sleep(3)

    def on_endless(self, span):
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(bytes(1 << 20))
        except OSError:
            pass

    def on_claims(self, span):
        self.send(CONTENT, length=1 << 50)

    def on_bomb(self, span):
        self.send(b"\x1f\x8b" + bytes(1000), Content_Encoding="gzip")

    def on_garbage(self, span):
        self.wfile.write(b"\x00\x01\x02 not HTTP\r\n\r\n")

    def on_moved(self, span):
        self.send(b"", 302, Location="/good/net.pth")

    def on_loop(self, span):
        self.send(b"", 302, Location="/loop/net.pth")

    def on_file(self, span):
        self.send(b"", 302, Location="file:///etc/passwd")

    def on_ftp(self, span):
        self.send(b"", 302, Location="ftp://127.0.0.1/net.pth")

    def on_plain(self, span):
        self.send(b"", 302, Location=f"http://127.0.0.1:{self.server.server_port}/good/net.pth")

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, address):
        pass  # clients disconnect intentionally


@contextmanager
def serving(
    work: Workspace, kind: str, sha256: str = SHA, secure: Path | None = None
) -> Iterator[tuple[list, Path]]:
    """Serve the weights ``net`` from a local server of the given kind; yields its requests and the cache."""
    seen: list = []
    server = Server(("127.0.0.1", 0), functools.partial(Handler, seen))
    if secure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(secure)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    url = f"http{'s' if secure else ''}://127.0.0.1:{server.server_port}/{kind}/net.pth"
    cache = work.folder()
    environment = {"DEIII_CACHE_DIR": str(cache), "DEIII_WEIGHTS_DIR": "", "NO_PROXY": "127.0.0.1"}
    if secure:
        environment["REQUESTS_CA_BUNDLE"] = str(secure)
    try:
        with (
            mock.patch.dict(weights.SOURCES, {"net": WeightsSource(url, sha256)}),
            mock.patch.dict(os.environ, environment),
            mock.patch.object(fetch, "PAUSE_S", 0.01),
            mock.patch.object(fetch, "TIMEOUT_S", 1),
            mock.patch.object(weights, "MOST_BYTES", 4 << 20),
        ):
            yield seen, cache
    finally:
        server.shutdown()
        server.server_close()
