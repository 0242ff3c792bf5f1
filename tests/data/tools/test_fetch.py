"""Fetching a file: resumed where it broke, bounded, never led to another scheme."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from deiii.data.tools import fetch
from deiii.data.tools.fetch import DownloadError, stream

CONTENT = bytes(range(256)) * 3000


@pytest.fixture
def server(monkeypatch):
    """Answers by a function that tests give; returns its address and the ranges it was asked for."""
    monkeypatch.setattr(fetch, "PAUSE_S", 0.0)
    asked: list = []
    answers: list = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.headers.get("Range"))
            answers[0](self, asked[-1])

        def log_message(self, *_):
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}/net.pth", asked, answers
    made.shutdown()
    made.server_close()


def send(handler, body, status=200, length=None, **headers):
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def test_a_broken_connection_is_taken_up_where_it_broke(server, tmp_path):
    url, asked, answers = server

    def broken(handler, span):
        start = int(span[6:-1]) if span else 0
        rest = CONTENT[start:]
        headers = {"Content_Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"} if span else {}
        send(handler, rest[:300_000], 206 if span else 200, len(rest), **headers)

    answers.append(broken)
    stream(url, tmp_path / "f", None, "")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert asked[0] is None and all(int(a[6:-1]) > 0 for a in asked[1:]) and len(asked) > 1


def test_a_server_that_cannot_resume_begins_anew(server, tmp_path):
    url, asked, answers = server
    answers.append(lambda h, span: send(h, CONTENT if span else CONTENT[:300_000], length=len(CONTENT)))
    stream(url, tmp_path / "f", None, "")
    assert (tmp_path / "f").read_bytes() == CONTENT and [bool(a) for a in asked] == [False, True]


def test_the_start_of_an_earlier_longer_version_is_replaced(server, tmp_path):
    url, asked, answers = server
    answers.append(lambda h, span: send(h, CONTENT))
    (tmp_path / "f").write_bytes(CONTENT + b"more")
    stream(url, tmp_path / "f", len(CONTENT), "")
    assert (tmp_path / "f").read_bytes() == CONTENT and asked == [None]


def test_a_kept_part_as_long_as_the_file_of_the_server_does_not_stay_forever(server, tmp_path):
    url, asked, answers = server
    answers.append(lambda h, span: send(h, b"", 416) if span else send(h, CONTENT))
    (tmp_path / "f").write_bytes(b"a page that said no")
    stream(url, tmp_path / "f", len(CONTENT), "")
    assert (tmp_path / "f").read_bytes() == CONTENT and asked == ["bytes=19-", None]
    answers[0] = lambda h, span: send(h, b"", 416) if span else send(h, CONTENT[:999])
    with pytest.raises(OSError, match=f"ended after 999 of {len(CONTENT)} bytes"):
        stream(url, tmp_path / "f", len(CONTENT), "", resume=False)


def test_what_is_longer_than_expected_is_refused(server, tmp_path):
    url, asked, answers = server
    answers.append(lambda h, span: send(h, CONTENT))
    with pytest.raises(DownloadError, match="more than the 1000"):
        stream(url, tmp_path / "f", None, "", most=1000)
    assert len(asked) == 1


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_redirects_to_other_schemes_are_refused(server, tmp_path, to):
    url, asked, answers = server
    answers.append(lambda h, span: send(h, b"", 302, Location=to))
    with pytest.raises(DownloadError, match="refused"):
        stream(url, tmp_path / "f", None, "")
    assert len(asked) == 1


def test_absent_files_are_asked_for_once_and_server_errors_again(server, tmp_path):
    url, asked, answers = server
    answers.append(lambda h, span: send(h, b"", 404))
    with pytest.raises(requests.HTTPError, match="404"):
        stream(url, tmp_path / "f", None, "")
    assert len(asked) == 1
    answers[0] = lambda h, span: send(h, b"", 503) if len(asked) < 3 else send(h, CONTENT)
    stream(url, tmp_path / "f", None, "")
    assert len(asked) == 3 and (tmp_path / "f").read_bytes() == CONTENT
