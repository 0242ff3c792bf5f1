"""Downloads from a local server: resumed, verified, unpacked safely, nothing fetched twice."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from deiii.__main__ import main
from deiii.data.corpora import download as module
from deiii.data.corpora.download import CorpusSource, download, source_of
from deiii.data.tools import fetch
from deiii.data.tools.fetch import DownloadError

VIDEO = bytes(range(256)) * 800


def packed(names: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"CREMA-D-master/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def pointer(content: bytes) -> bytes:
    oid = hashlib.sha256(content).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n".encode()


class Server:
    """Serves ``files`` by path; answers ranges; ``cut`` says after how many bytes a reply breaks off."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.cut: dict[str, list[int]] = {}
        self.hits: list[tuple[str, str]] = []
        self.refused: dict[str, int] = {}
        self.ranges = True
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                wanted = self.headers.get("Range") or ""
                server.hits.append((self.path, wanted))
                if self.path in server.refused:
                    self.send_error(server.refused[self.path])
                    return
                if self.path not in server.files:
                    self.send_error(404)
                    return
                body = server.files[self.path]
                begin = int(re.findall(r"\d+", wanted)[0]) if wanted and server.ranges else 0
                self.send_response(206 if begin else 200)
                if begin:
                    self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
                self.send_header("Content-Length", str(len(body) - begin))
                self.end_headers()
                cuts = server.cut.get(self.path)
                self.wfile.write(body[begin : begin + cuts.pop(0)] if cuts else body[begin:])

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server(monkeypatch):
    one = Server()
    monkeypatch.setattr(fetch, "PAUSE_S", 0.0)
    yield one
    one.http.shutdown()
    one.http.server_close()


@pytest.fixture
def ravdess(server, monkeypatch):
    """Two archives of the record; returns what they hold by path under the root."""
    held = {}
    listing = []
    for actor in (1, 2):
        name, path = (
            f"Video_Speech_Actor_{actor:02d}.zip",
            f"Actor_{actor:02d}/01-01-03-01-01-01-{actor:02d}.mp4",
        )
        held[path] = VIDEO + bytes([actor])
        server.files[f"/{name}"] = body = packed({path: held[path]})
        checksum = f"md5:{hashlib.md5(body).hexdigest()}"
        listing.append({"key": name, "size": len(body), "checksum": checksum,
                        "links": {"self": f"{server.url}/{name}"}})  # fmt: skip
    listing.append({"key": "other.zip", "size": 1, "checksum": "md5:0", "links": {"self": "/"}})
    server.files["/record"] = json.dumps({"files": listing}).encode()
    source = module.SOURCES["ravdess"]
    monkeypatch.setitem(module.SOURCES, "ravdess",
                        CorpusSource(f"{server.url}/record", source.parts, source.licence))  # fmt: skip
    return held


def tree(root) -> dict[str, bytes]:
    hidden = ("downloaded.json",)
    return {
        p.relative_to(root).as_posix(): p.read_bytes()
        for p in root.rglob("*")
        if p.is_file() and p.name not in hidden
    }


def test_archives_are_fetched_verified_unpacked_and_removed(server, ravdess, tmp_path):
    assert download("ravdess", tmp_path, progress=False) == 2
    assert tree(tmp_path) == ravdess
    server.hits.clear()
    assert download("ravdess", tmp_path, progress=False) == 0
    assert [path for path, _ in server.hits] == ["/record"]


def test_a_broken_connection_goes_on_where_it_broke(server, ravdess, tmp_path):
    server.cut["/Video_Speech_Actor_01.zip"] = [70_000, 70_000]
    assert download("ravdess", tmp_path, progress=False) == 2
    asked = [r for path, r in server.hits if path == "/Video_Speech_Actor_01.zip"]
    assert asked == ["", "bytes=65536-", "bytes=131072-"] and tree(tmp_path) == ravdess


def test_a_stopped_download_goes_on_in_the_next_run(server, ravdess, tmp_path):
    server.cut["/Video_Speech_Actor_02.zip"] = [90_000] + [0] * fetch.ATTEMPTS
    with pytest.raises(DownloadError, match="run the same command again"):
        download("ravdess", tmp_path, progress=False)
    assert list(tree(tmp_path).keys() & ravdess.keys()) == ["Actor_01/01-01-03-01-01-01-01.mp4"]
    server.hits.clear()
    server.cut.clear()
    assert download("ravdess", tmp_path, progress=False) == 1
    assert server.hits[1:] == [("/Video_Speech_Actor_02.zip", "bytes=65536-")] and tree(tmp_path) == ravdess


def test_a_server_without_ranges_starts_over(server, ravdess, tmp_path):
    server.ranges = False
    server.cut["/Video_Speech_Actor_01.zip"] = [70_000]
    assert download("ravdess", tmp_path, progress=False) == 2
    assert tree(tmp_path) == ravdess


def test_a_wrong_checksum_keeps_nothing(server, ravdess, tmp_path):
    body = bytearray(server.files["/Video_Speech_Actor_01.zip"])
    body[500] ^= 1
    server.files["/Video_Speech_Actor_01.zip"] = bytes(body)
    with pytest.raises(DownloadError, match="another checksum"):
        download("ravdess", tmp_path, progress=False)
    assert not tree(tmp_path)


def test_names_that_lead_out_are_not_unpacked(tmp_path):
    (tmp_path / "bad.zip").write_bytes(packed({"../out.mp4": b"x"}))
    (tmp_path / "root").mkdir()
    with pytest.raises(DownloadError, match="leads out"):
        fetch.unzip(tmp_path / "bad.zip", tmp_path / "root")
    assert not (tmp_path / "out.mp4").exists()


@pytest.fixture
def crema(server, monkeypatch):
    clips = {f"VideoFlash/{a}_DFA_ANG_XX.flv": VIDEO + str(a).encode() for a in (1001, 1002, 1003)}
    tables = {"processedResults/summaryTable.csv": b"FileName\n", "LICENSE.txt": b"ODbL"}
    files = {p: pointer(c) for p, c in clips.items()} | tables
    files |= {"AudioWAV/x.wav": pointer(b"w"), "analysis.R": b"no"}
    server.files["/archive"] = tarred(files)
    server.files |= {f"/media/{p}": c for p, c in clips.items()}
    source = module.SOURCES["crema_d"]
    monkeypatch.setitem(
        module.SOURCES, "crema_d",
        CorpusSource(f"{server.url}/archive", source.parts, source.licence,
                     (f"{server.url}/media/{{path}}", f"{server.url}/second/{{path}}"), "git://mirror"),
    )  # fmt: skip
    return clips | tables


def test_pointers_become_media(server, crema, tmp_path):
    assert download("crema_d", tmp_path, progress=False) == 3
    assert tree(tmp_path) == crema
    (tmp_path / "VideoFlash/1002_DFA_ANG_XX.flv").unlink()
    (tmp_path / "VideoFlash/1003_DFA_ANG_XX.flv").write_bytes(VIDEO + b"1004")  # right size, wrong bytes
    server.hits.clear()
    download("crema_d", tmp_path, progress=False)
    assert tree(tmp_path) == crema
    assert sorted(p for p, _ in server.hits if "media" in p) == [
        "/media/VideoFlash/1002_DFA_ANG_XX.flv",
        "/media/VideoFlash/1003_DFA_ANG_XX.flv",
    ]


def test_media_that_are_not_what_their_pointer_says_are_refused(server, crema, tmp_path):
    server.files["/media/VideoFlash/1002_DFA_ANG_XX.flv"] = VIDEO + b"1009"
    with pytest.raises(DownloadError, match="another checksum"):
        download("crema_d", tmp_path, progress=False)
    assert not (tmp_path / "VideoFlash/1002_DFA_ANG_XX.flv").exists()


def test_licence_comes_first_and_must_be_accepted(server, ravdess, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("builtins.input", lambda words: "n")
    assert main(["download", "ravdess", f"corpus.root={tmp_path}"]) == 1
    printed = capsys.readouterr()
    assert "CC BY-NC-SA 4.0" in printed.out and "nothing was downloaded" in printed.err and not server.hits
    assert main(["download", "ravdess", f"corpus.root={tmp_path}", "--accept-licence"]) == 0
    assert "deiii preprocess ravdess corpus.root=" in capsys.readouterr().out and server.hits


def test_what_cannot_be_downloaded_says_where_it_comes_from(capsys, tmp_path):
    assert main(["download", "msp_improv"]) == 1
    assert "signing its licence" in capsys.readouterr().err
    assert main(["download", "iemocap"]) == 1
    assert "ravdess, crema_d" in capsys.readouterr().err
    with pytest.raises(DownloadError, match="video-speech"):
        download("ravdess", tmp_path, part="speech")


def test_a_full_disk_is_told_before_anything_is_fetched(server, ravdess, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(DownloadError, match="another disk"):
        download("ravdess", tmp_path, progress=False)
    assert [path for path, _ in server.hits] == ["/record"]


CLIPS = [f"/VideoFlash/{n}_DFA_ANG_XX.flv" for n in (1001, 1002, 1003)]


def spend(server, how, folder="/media"):
    """Let a server's address answer as one whose Git LFS budget is spent."""
    for path in CLIPS:
        if how == "pointer":
            server.files[f"{folder}{path}"] = pointer(server.files[f"/media{path}"])
        else:
            server.refused[f"{folder}{path}"] = how


@pytest.mark.parametrize("how", [403, 429, "pointer"])
def test_a_spent_budget_leads_to_the_second_address(how, server, crema, tmp_path, caplog):
    server.files |= {f"/second{path}": server.files[f"/media{path}"] for path in CLIPS}
    spend(server, how)
    assert download("crema_d", tmp_path, progress=False) == 3
    for path in CLIPS:
        assert (tmp_path / path[1:]).read_bytes() == server.files[f"/second{path}"]
    (said,) = {record.getMessage() for record in caplog.records}
    assert "Git LFS budget" in said and "; going on with 127.0.0.1" in said


@pytest.mark.parametrize("how", [403, 429, "pointer"])
def test_where_every_budget_is_spent_one_line_says_so(how, server, crema, tmp_path, capsys):
    server.files |= {f"/second{path}": server.files[f"/media{path}"] for path in CLIPS}
    spend(server, how)
    spend(server, how, "/second") if how != "pointer" else server.files.update(
        {f"/second{path}": server.files[f"/media{path}"] for path in CLIPS}
    )
    words = ["download", "crema_d", f"corpus.root={tmp_path}", "--accept-licence"]
    assert main(words) == 1
    err = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(err) == 1 and "Git LFS budget" in err[0] and "git clone git://mirror" in err[0]
    assert not list((tmp_path / "VideoFlash").glob("*.flv"))
    server.refused.clear()
    server.files |= {f"/media{path}": server.files[f"/second{path}"] for path in CLIPS}


def test_other_errors_do_not_change_the_address(server, crema, tmp_path):
    server.files |= {f"/second{path}": server.files[f"/media{path}"] for path in CLIPS}
    del server.files[f"/media{CLIPS[0]}"]  # answers 404
    with pytest.raises(DownloadError, match="404"):
        download("crema_d", tmp_path, progress=False)
    assert not any(path.startswith("/second") for path, _ in server.hits)


def test_a_file_that_begins_like_a_pointer_is_a_file(server, tmp_path):
    server.files["/a"] = pointer(b"x")
    fetch.stream(f"{server.url}/a", tmp_path / "a", len(server.files["/a"]), "")
    assert (tmp_path / "a").read_bytes() == server.files["/a"]


def test_the_second_address_is_that_which_the_author_names():
    assert module.SOURCES["crema_d"].media[1].startswith("https://gitlab.com/cs-cooper-lab/crema-d-mirror/")


def test_a_suggestion_ends_its_sentence():
    with pytest.raises(DownloadError, match=r"'ravdes'; did you mean 'ravdess'\? deiii can download"):
        source_of("ravdes")
