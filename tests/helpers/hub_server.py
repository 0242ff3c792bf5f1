"""A stand-in of the Hugging Face Hub's HTTP API on this machine: repositories, commits, files.

It answers the requests by which huggingface_hub creates a repository, uploads a folder and downloads a
snapshot. Files are sent within the commit; large-file storage is not needed for them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote


class Hub:
    """The repositories of the stand-in: by name, the files of each commit in order.

    Attributes:
        commits: list of (commit, files by path), keyed by repository.
        private: whether it was created as private, keyed by repository.
        requests: method and path of every request.
        token: what a writing request must carry.
    """

    def __init__(self, token: str):
        self.commits: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.private: dict[str, bool] = {}
        self.requests: list[str] = []
        self.token = token

    def files(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Return the commit and files of a revision; ``None`` where there is none."""
        commits = self.commits.get(repository, [])
        if revision == "main" and commits:
            return commits[-1]
        return next((c for c in commits if c[0] == revision), None)

    def commit(self, repository: str, changes: dict[str, bytes]) -> str:
        """Add a commit; returns its name."""
        before = self.commits[repository][-1][1] if self.commits.get(repository) else {}
        number = f"{repository} {len(self.commits.get(repository, []))}"
        name = hashlib.sha1(number.encode()).hexdigest()
        self.commits.setdefault(repository, []).append((name, {**before, **changes}))
        return name


@contextmanager
def running_hub(token: str = "hf_test") -> Iterator[tuple[str, Hub]]:
    """Yield the address of a running stand-in, and its repositories."""
    hub = Hub(token)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._read()

    def do_HEAD(self) -> None:
        self._read()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append(f"POST {self.path}")
        if self.path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self._error(401, "Invalid username or password.")
        if self.path == "/api/repos/create":
            wanted = json.loads(body)
            name = f"{wanted.get('organization') or 'user'}/{wanted['name']}"
            if name in self.hub.commits:
                return self._error(409, "You already created this model repo")
            self.hub.private[name] = bool(wanted.get("private")) or wanted.get("visibility") == "private"
            self.hub.commits[name] = [(hashlib.sha1(name.encode()).hexdigest(), {".gitattributes": b""})]
            return self._json({"url": f"{self._address()}/{name}", "name": name, "id": name})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/(.+)", self.path):
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]
            return self._json({"files": files})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/([^?]+)(\?.*)?", self.path):
            changes = {}
            for line in body.splitlines():
                item = json.loads(line)
                if item["key"] == "file":
                    changes[item["value"]["path"]] = base64.b64decode(item["value"]["content"])
            name = self.hub.commit(found[1], changes)
            url = f"{self._address()}/{found[1]}/commit/{name}"
            return self._json({"success": True, "commitOid": name, "commitUrl": url, "hookOutput": ""})
        return self._error(404, f"no such path {self.path}")

    def _read(self) -> None:
        path = unquote(self.path.partition("?")[0])
        self.hub.requests.append(f"{self.command} {path}")
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?(?:/.*)?", path):
            at = self.hub.files(found[1], found[3] or "main")
            if at is None:
                return self._missing("RevisionNotFound" if found[1] in self.hub.commits else "RepoNotFound")
            if found[2] == "tree":
                return self._json([
                    {"type": "file", "oid": hashlib.sha1(x).hexdigest(), "size": len(x), "path": name}
                    for name, x in at[1].items()
                ])  # fmt: skip
            siblings = [{"rfilename": name, "size": len(x)} for name, x in at[1].items()]
            return self._json({
                "id": found[1], "modelId": found[1], "sha": at[0], "siblings": siblings, "private": False,
                "tags": [], "downloads": 0, "likes": 0,
            })  # fmt: skip
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            at = self.hub.files(found[1], found[2])
            if at is None or found[3] not in at[1]:
                return self._missing("EntryNotFound" if at else "RepoNotFound")
            content = at[1][found[3]]
            headers = {"X-Repo-Commit": at[0], "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
            return self._send(200, content, "application/octet-stream", headers)
        return self._error(404, f"no such path {path}")

    def _address(self) -> str:
        return f"http://{self.headers['Host']}"

    def _missing(self, code: str) -> None:
        self._send(404, b'{"error":"not found"}', "application/json", {"X-Error-Code": code})

    def _error(self, status: int, text: str) -> None:
        self._send(status, json.dumps({"error": text}).encode(), "application/json")

    def _json(self, tree: object) -> None:
        self._send(200, json.dumps(tree).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
