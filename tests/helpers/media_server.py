"""Web servers on this machine that send media: at the pace of playback, as a camera, or as files."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@contextmanager
def media_server(path: Path, seconds: float, cut_after: float | None = None) -> Iterator[str]:
    """Serve a transport stream of a length in s in real time; yields its URL.

    The first connection is cut after ``cut_after`` s of the stream, however late they are sent; the next one
    goes on there. After the end the server answers 404.
    """
    data = path.read_bytes()
    state = {"at": 0, "cut": None if cut_after is None else int(cut_after / seconds * len(data)) // 188 * 188}

    def answer(request: BaseHTTPRequestHandler) -> None:
        if state["at"] >= len(data):
            request.send_error(404)
            return
        request.send_response(200)
        request.send_header("Content-Type", "video/mp2t")
        request.end_headers()
        began, first = time.monotonic(), state["at"]
        while state["at"] < len(data):
            passed = time.monotonic() - began
            if state["at"] == state["cut"]:
                state["cut"] = None
                return
            due = min(len(data), first + int((passed + 0.1) / seconds * len(data)) // 188 * 188 + 188)
            due = due if state["cut"] is None else min(due, state["cut"])
            request.wfile.write(data[state["at"] : due])
            request.wfile.flush()
            state["at"] = due
            time.sleep(0.02)

    with web_server(answer) as url:
        yield f"{url}/live.ts"


@contextmanager
def web_server(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """Run a web server on this machine whose GET requests a function answers; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                answer(self)
            except OSError:
                return  # the receiver hung up

        def log_message(self, *words) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def jpeg_camera(images: Sequence[bytes], fps: float) -> Iterator[str]:
    """Run a camera that sends JPEG images without timestamps (multipart/x-mixed-replace), each once."""
    state = {"next": 0}

    def answer(request: BaseHTTPRequestHandler) -> None:
        if state["next"] >= len(images):
            request.send_error(404)
            return
        request.send_response(200)
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        request.end_headers()
        began = time.monotonic()
        while state["next"] < len(images):
            time.sleep(max(0.0, began + state["next"] / fps - time.monotonic()))
            image = images[state["next"]]
            request.wfile.write(
                b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n"
                % (len(image), image)
            )
            request.wfile.flush()
            state["next"] += 1

    with web_server(answer) as url:
        yield f"{url}/video"


@contextmanager
def folder_server(folder: Path, cut: int | None = None, ranges: bool = True) -> Iterator[str]:
    """Serve the files of a folder; yields its address.

    Args:
        folder: folder of the files.
        cut: number of bytes after which the first answer that is longer is broken off.
        ranges: whether to offer byte ranges; `http.server` of Python does not.
    """
    state = {"cut": cut}

    def answer(request: BaseHTTPRequestHandler) -> None:
        path = folder / request.path.lstrip("/").partition("?")[0]
        if not path.is_file():
            request.send_error(404)
            return
        data = path.read_bytes()
        wanted = re.match(r"bytes=(\d+)-", request.headers.get("Range", "")) if ranges else None
        first = int(wanted[1]) if wanted else 0
        request.send_response(206 if wanted else 200)
        request.send_header("Content-Length", str(len(data) - first))
        if ranges:
            request.send_header("Accept-Ranges", "bytes")
            request.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        request.end_headers()
        part = data[first:]
        if state["cut"] is not None and len(part) > state["cut"]:
            part, state["cut"] = part[: state["cut"]], None
        request.wfile.write(part)

    with web_server(answer) as url:
        yield url
