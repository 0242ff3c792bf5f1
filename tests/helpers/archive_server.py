"""A web server for the files of an archive, with ranges, that can break off."""

from __future__ import annotations

import contextlib
import functools
import http.server
import threading


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder, with ranges; breaks off after ``breaks`` bytes of a file where that is set."""

    def __init__(self, folder):
        self.asked: list[tuple[str, str | None]] = []
        self.breaks: int | None = None
        super().__init__(("127.0.0.1", 0), functools.partial(Handler, folder))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def serving(folder):
    """Serve a folder during the block."""
    with Server(folder) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield running
        finally:
            running.shutdown()
            thread.join()


class Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, folder, *args):
        self.folder = folder
        super().__init__(*args)

    def do_GET(self):
        span = self.headers.get("Range")
        self.server.asked.append((self.path, span))
        path = self.folder / self.path.lstrip("/")
        if not path.is_file():
            return self.send_error(404)
        data = path.read_bytes()
        start = int(span.split("=")[1].rstrip("-")) if span else 0
        self.send_response(206 if span else 200)
        self.send_header("Content-Length", str(len(data) - start))
        if span:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        most = None if self.path.endswith(".json") or self.server.breaks is None else self.server.breaks
        self.wfile.write(data[start:][:most])
        self.close_connection = True

    def log_message(self, *args):
        pass
