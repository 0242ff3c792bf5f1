"""An RTSP server on this machine, like that of a camera: H.264 and G.711 audio over TCP (RFC 2326, 6184)."""

from __future__ import annotations

import base64
import hashlib
import random
import re
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np

from deiii.pipeline.media.audio import read_audio

LARGEST = 1400  # bytes of an RTP payload
REALM, NONCE = "camera", "a1b2c3"
VIDEO, AUDIO = 96, 0  # payload types


@dataclass
class Camera:
    """The address of a server, and the requests that it received.

    Attributes:
        url: its address, with user and password where they are required.
        asked: method, and transport for SETUP, of every request.
        lost: number of packets of video that were not sent over UDP.
    """

    url: str = ""
    asked: list[str] = field(default_factory=list)
    lost: int = 0


@contextmanager
def rtsp_server(
    path: Path,
    audio: bool = True,
    login: str | None = None,
    cut_after: float | None = None,
    interleaved: bool = True,
    length_s: float | None = None,
    udp_loss: float | None = None,
) -> Iterator[Camera]:
    """Serve a transport stream with H.264 in real time; yields the camera.

    Args:
        path: path of the file.
        audio: whether its audio is sent.
        login: ``user:password`` that are required (Digest).
        cut_after: s of the stream after which the first connection is cut, however late they are sent; the
            next one continues there. After the end, the stream is refused.
        interleaved: whether TCP is offered for the media; if not, every transport is refused.
        length_s: the length in s that is stated, as of a recording; None for a camera, which states none.
        udp_loss: share of the packets of video that are lost, with UDP in place of TCP; None for TCP.
    """
    units, sprop = _video(path)
    packets = [(at, VIDEO, unit, shown) for at, unit, shown in units]
    packets += [(at, AUDIO, samples, at) for at, samples in _audio(path)] if audio else []
    packets.sort(key=lambda packet: packet[0])
    state = {"next": 0, "cut": cut_after}
    camera = Camera()
    lossy = random.Random(0)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            sending = threading.Lock()
            playing = threading.Event()
            while True:
                first = self.rfile.read(1)
                if not first:
                    break
                if first == b"$":  # the receiver's reports
                    _, length = struct.unpack(">BH", self.rfile.read(3))
                    self.rfile.read(length)
                    continue
                request = first + self.rfile.readline()
                headers = {}
                while (line := self.rfile.readline().strip()) != b"":
                    name, _, value = line.decode().partition(":")
                    headers[name.strip().lower()] = value.strip()
                method, target, _ = request.decode().split()
                status, more, body = self.answer(method, target, headers)
                reply = f"RTSP/1.0 {status}\r\nCSeq: {headers.get('cseq', '0')}\r\n"
                reply += "".join(f"{name}: {value}\r\n" for name, value in more.items())
                if body:
                    reply += f"Content-Length: {len(body)}\r\n"
                with sending:
                    self.wfile.write(f"{reply}\r\n{body}".encode())
                if method == "TEARDOWN":
                    break
                if method == "PLAY" and status.startswith("200"):
                    threading.Thread(target=self.send, args=(sending, playing), daemon=True).start()
            playing.set()

        def answer(self, method: str, target: str, headers: dict) -> tuple[str, dict, str]:
            camera.asked.append(f"{method} {headers.get('transport', '')}".strip())
            if method == "OPTIONS":
                return "200 OK", {"Public": "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER"}, ""
            if login is not None and not _right(login, method, headers.get("authorization", "")):
                return "401 Unauthorized", {
                    "WWW-Authenticate": f'Digest realm="{REALM}", nonce="{NONCE}"'
                }, ""  # fmt: skip
            if method == "DESCRIBE":
                if not target.endswith("/live") or state["next"] >= len(packets):
                    return "404 Not Found", {}, ""
                return "200 OK", {"Content-Type": "application/sdp"}, _description(sprop, audio, length_s)
            if method == "SETUP":
                ports = re.search(r"client_port=(\d+)-(\d+)", headers["transport"])
                if udp_loss is not None and ports is not None:
                    self.ports = getattr(self, "ports", {})
                    self.ports[VIDEO if target.endswith("video") else AUDIO] = int(ports[1])
                    here = f"server_port={udp.getsockname()[1]}-{udp.getsockname()[1] + 1}"
                    return "200 OK", {"Transport": f"RTP/AVP;unicast;{ports[0]};{here}", "Session": "1"}, ""
                channels = re.search(r"RTP/AVP/TCP.*interleaved=(\d+)-(\d+)", headers["transport"])
                if udp_loss is not None or not interleaved or channels is None:
                    return "461 Unsupported Transport", {}, ""
                self.channel = getattr(self, "channel", {})
                self.channel[VIDEO if target.endswith("video") else AUDIO] = int(channels[1])
                return "200 OK", {"Transport": channels[0], "Session": "1"}, ""
            return "200 OK", {"Session": "1"}, ""

        def send(self, sending: threading.Lock, stopped: threading.Event) -> None:
            began, first = time.monotonic(), packets[state["next"]][0]
            counts = {VIDEO: 0, AUDIO: 0}
            while state["next"] < len(packets) and not stopped.is_set():
                at, kind, data, shown = packets[state["next"]]
                passed = time.monotonic() - began
                if state["cut"] is not None and at > state["cut"]:
                    state["cut"] = None
                    break
                if at - first > passed:
                    time.sleep(0.01)
                    continue
                clock = round((shown - first + 1) * (90000 if kind == VIDEO else 8000))
                payloads = _payloads(data) if kind == VIDEO else [(data, False)]
                for payload, last in payloads:
                    head = struct.pack(
                        ">BBHII", 0x80, kind | (0x80 if last else 0), counts[kind] & 0xFFFF, clock, kind + 1
                    )
                    counts[kind] += 1
                    packet = head + payload
                    if udp_loss is not None:
                        if kind == AUDIO or lossy.random() >= udp_loss:
                            udp.sendto(packet, ("127.0.0.1", self.ports[kind]))
                        else:
                            camera.lost += 1
                        continue
                    try:
                        with sending:
                            self.wfile.write(
                                struct.pack(">cBH", b"$", self.channel[kind], len(packet)) + packet
                            )
                    except OSError:
                        return
                state["next"] += 1
            with suppress(OSError):
                self.connection.shutdown(2)

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

        def handle_error(self, request, client_address) -> None:
            """Write nothing where a receiver hangs up."""

    with udp, Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        who = f"{login}@" if login is not None else ""
        camera.url = f"rtsp://{who}127.0.0.1:{server.server_address[1]}/live"
        try:
            yield camera
        finally:
            server.shutdown()
            thread.join()


def _video(path: Path) -> tuple[list[tuple[float, bytes, float]], str]:
    """Return times of sending, access units of H.264 and times of display, and the parameter sets."""
    units, sets = [], {}
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        for packet in container.demux(stream):
            if packet.size:
                sent, shown = (float(stamp * packet.time_base) for stamp in (packet.dts, packet.pts))
                units.append((sent, bytes(packet), shown))
                for nal in _nals(bytes(packet)):
                    if nal[0] & 31 in (7, 8):
                        sets.setdefault(nal[0] & 31, nal)
    first = units[0][0]
    sprop = ",".join(base64.b64encode(sets[kind]).decode() for kind in (7, 8))
    return [(sent - first, unit, shown - first) for sent, unit, shown in units], sprop


def _audio(path: Path) -> list[tuple[float, bytes]]:
    """Return times and mu-law samples (G.711) of the audio, 20 ms each."""
    samples, _, _ = read_audio(str(path), 8000)
    level = np.log1p(255 * np.minimum(1, np.abs(samples))) / np.log(256)  # in eight segments of 16 steps
    code = np.minimum(127, np.floor(128 * level)).astype(np.uint8)
    law = ~(code | np.where(samples < 0, 0x80, 0).astype(np.uint8))
    return [(start / 8000, law[start : start + 160].tobytes()) for start in range(0, len(law), 160)]


def _nals(unit: bytes) -> list[bytes]:
    """Return the NAL units of an access unit in the form of Annex B."""
    return [nal.rstrip(b"\0") for nal in re.split(b"\0\0\1", unit)[1:] if nal.rstrip(b"\0")]


def _payloads(unit: bytes) -> Iterator[tuple[bytes, bool]]:
    """Yield RTP payloads of an access unit, and whether each is its last; large NAL units are cut (FU-A)."""
    nals = _nals(unit)
    for number, nal in enumerate(nals, 1):
        if len(nal) <= LARGEST:
            yield nal, number == len(nals)
            continue
        parts = [nal[start : start + LARGEST] for start in range(1, len(nal), LARGEST)]
        for k, part in enumerate(parts):
            ends = k == len(parts) - 1
            mark = (0x80 if k == 0 else 0) | (0x40 if ends else 0) | nal[0] & 31
            yield bytes([nal[0] & 0xE0 | 28, mark]) + part, ends and number == len(nals)


def _description(sprop: str, audio: bool, length_s: float | None) -> str:
    length = [] if length_s is None else [f"a=range:npt=0-{length_s}"]
    lines = [
        "v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=camera", "c=IN IP4 0.0.0.0", "t=0 0", *length, "a=control:*",
        f"m=video 0 RTP/AVP {VIDEO}", f"a=rtpmap:{VIDEO} H264/90000",
        f"a=fmtp:{VIDEO} packetization-mode=1;sprop-parameter-sets={sprop}", "a=control:video",
    ]  # fmt: skip
    lines += ["m=audio 0 RTP/AVP 0", "a=rtpmap:0 PCMU/8000/1", "a=control:audio"] if audio else []
    return "\r\n".join(lines) + "\r\n"


def _right(login: str, method: str, sent: str) -> bool:
    """Return whether user and password of an answer to the Digest challenge (RFC 2617, no qop) are right."""
    fields = dict(re.findall(r'(\w+)="([^"]*)"', sent))
    user, _, password = login.partition(":")
    if fields.get("username") != user:
        return False

    def md5(*words: str) -> str:
        return hashlib.md5(":".join(words).encode(), usedforsecurity=False).hexdigest()

    return fields["response"] == md5(md5(user, REALM, password), NONCE, md5(method, fields["uri"]))
