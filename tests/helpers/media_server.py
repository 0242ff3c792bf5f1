"""A web server on this machine that sends a media file at the pace of its playback."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@contextmanager
def media_server(path: Path, seconds: float, cut_after: float | None = None) -> Iterator[str]:
    """Serve a transport stream of a length in s in real time; yields its URL.

    The first connection is cut after ``cut_after`` s; the next one goes on there. After the end there is no
    such page.
    """
    data = path.read_bytes()
    state = {"at": 0, "cut": cut_after, "served": 0}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if state["at"] >= len(data):
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t")
            self.end_headers()
            began, first = time.monotonic(), state["at"]
            while state["at"] < len(data):
                passed = time.monotonic() - began
                if state["cut"] is not None and passed > state["cut"]:
                    state["cut"] = None
                    return
                due = min(len(data), first + int((passed + 0.1) / seconds * len(data)) // 188 * 188 + 188)
                try:
                    self.wfile.write(data[state["at"] : due])
                    self.wfile.flush()
                except OSError:
                    return
                state["at"] = due
                time.sleep(0.02)

        def log_message(self, *words) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/live.ts"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
