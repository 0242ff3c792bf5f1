"""The address of a live source: how FFmpeg opens it, how it is printed, and why it cannot be opened."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import av.error

OPEN_S, READ_S = 10.0, 5.0  # s after which opening and reading give up
SERVERS = ("http://", "https://", "rtsp://", "rtsps://", "rtmp://")  # the address names a host
NETWORK = (*SERVERS, "udp://", "tcp://", "srt://", "rtp://")
PROTOCOLS = "http,https,httpproxy,tcp,tls,crypto,rtsp,rtp,srtp,udp,rtmp,srt"
QUICK = {
    "protocol_whitelist": PROTOCOLS,
    "probesize": "1000000",
    "analyzeduration": "500000",
    "rtsp_flags": "prefer_tcp",  # UDP loses packets, and firewalls drop it; UDP where the camera has no TCP
}
SECRET = re.compile(r"\b(pass\w*?|pwd|token|secret|auth\w*?|\w*key)=[^&;/?#]*", re.IGNORECASE)
HIDDEN = "***"
ENDED = "the server ended it"
GROWN = (
    "the file grew while it was played; what was added may be missing. A file is not followed while it is "
    "written: send the recording as a stream, or predict for the file when it is complete"
)


class LiveError(ValueError):
    """A source cannot be opened, or sends nothing; the message names it, the reason and the remedy."""


@dataclass(frozen=True)
class Address:
    """The address of a live source, as FFmpeg opens it.

    Attributes:
        url: a path, a URL or the name of a device.
        form: FFmpeg's name of the device's kind; ``None`` where FFmpeg detects it.
        is_file: whether it is a file, which is played in real time.
        is_network: whether a lost connection is opened again.
    """

    url: str
    form: str | None = None
    is_file: bool = False
    is_network: bool = False

    def size(self) -> int:
        """Return the size of the file in bytes; 0 for a source that is no file, or is gone."""
        try:
            return os.path.getsize(self.url) if self.is_file else 0
        except OSError:
            return 0

    @property
    def options(self) -> Mapping[str, str]:
        """FFmpeg's options for opening it."""
        if self.is_network:
            # A server of the web may send a recording, whose first packets must not be thrown away.
            web = self.url.lower().startswith("http")
            return dict(QUICK) if web else {**QUICK, "fflags": "nobuffer"}
        return {"protocol_whitelist": "file"} if self.is_file else {}


def address(source: str) -> Address:
    """Return the address for a word of the command line: a camera's number, a URL, a device or a file.

    Raises:
        LiveError: there is no such file, the address names no host or a wrong port, or this system's cameras
            need another word.

    >>> address("RTSP://camera/stream")
    Address(url='rtsp://camera/stream', form=None, is_file=False, is_network=True)
    """
    if source.isdecimal():
        if sys.platform == "linux":
            return Address(f"/dev/video{source}", "v4l2")
        if sys.platform == "darwin":
            return Address(source, "avfoundation")
        raise LiveError(
            f"live source {source}: numbers of cameras are known on Linux and macOS; give a URL or a file"
        )
    if source.startswith("/dev/"):
        return Address(source, "v4l2")
    if source.lower().startswith(NETWORK):
        scheme, separator, rest = source.partition("://")
        url = f"{scheme.lower()}{separator}{rest}"  # FFmpeg accepts schemes in small letters only
        if url.startswith(SERVERS):
            _refuse_host(url)
        return Address(url, is_network=True)
    if os.path.isfile(source):
        return Address(source, is_file=True)
    if "://" in source:
        raise LiveError(
            f"live source {shown(source)}: deiii cannot open addresses that begin with "
            f"{source.partition('://')[0]}://; it opens {', '.join(NETWORK)}"
        )
    raise LiveError(
        f"live source {source}: there is no such file; give the number of a camera (0), a URL (rtsp://, "
        "http://) or a media file"
    )


def _refuse_host(url: str) -> None:
    """Refuse the address of a server without a host, or with a port that is none.

    FFmpeg reports "Invalid argument", or looks for a server on this machine.
    """
    try:
        parts = urlsplit(url)
        host, is_port = parts.hostname, parts.port != 0
    except ValueError:
        host, is_port = "unknown", False
    if not host:
        raise LiveError(
            f"live source {shown(url)}: the address names no host; write it as in rtsp://camera.local:554/stream"
        )
    if not is_port:
        raise LiveError(
            f"live source {shown(url)}: the port is not a number from 1 to 65535; in a password, write %40, "
            "%3A, %2F, %3F and %23 for @, :, /, ? and #, and an IPv6 address in brackets: rtsp://[fd00::1]/stream"
        )


def is_live(source: str) -> bool:
    """Return whether a source is a network stream or a camera, and no file.

    >>> is_live("http://host/live.ts"), is_live("talk.mp4")
    (True, False)
    """
    if os.path.isfile(source):
        return False
    return source.isdecimal() or source.startswith("/dev/video") or source.lower().startswith(NETWORK)


def shown(source: str) -> str:
    """Return a source for messages: without its password and without the values of its query.

    >>> shown("rtsp://anna:p@ss@camera/a?key=1&channel=2")
    'rtsp://anna:***@camera/a?key=***&channel=***'
    """
    scheme, separator, rest = source.partition("://")
    if not separator:
        return source
    # From the first colon to the last @: a password is hidden as well if it has a /, ? or @ that should have
    # been written as %2F, %3F or %40.
    rest = re.sub(r":.*@", f":{HIDDEN}@", rest, count=1)
    place, mark, query = rest.partition("?")
    place = SECRET.sub(rf"\1={HIDDEN}", place)
    query = re.sub(r"=[^&;#]*", f"={HIDDEN}", query)
    return f"{scheme}://{place}{mark}{query}"


def cannot_open(source: str, error: Exception, late: bool = False) -> LiveError:
    """Return the error for a source that FFmpeg cannot open; it names the reason and the remedy.

    Args:
        source: its address.
        error: error of FFmpeg.
        late: whether the time for an answer was over.
    """
    words = f"no answer within {OPEN_S:g} s; check the address, and that nothing blocks the connection"
    return LiveError(f"live source {shown(source)} cannot be opened: {words if late else why(source, error)}")


def nothing_arrived(source: str, lost: str) -> LiveError:
    """Return the error for a source that was opened, but ended before any video frame or audio was decoded.

    Args:
        source: its address.
        lost: why it ended, if that is known.
    """
    words = f"live source {shown(source)} was opened, but gave no video frame and no audio"
    words += f": {lost}" if lost else ""
    if source.lower().startswith("http"):
        return LiveError(
            f"{words}. If it is an MP4 file with its index at the end, use a server that offers byte ranges, "
            "or write the index first: ffmpeg -i IN.mp4 -c copy -movflags +faststart OUT.mp4"
        )
    return LiveError(f"{words}; check with ffplay that it sends something")


def lacks_streams(source: str, found: Sequence[str], wanted: Sequence[str]) -> LiveError:
    """Return the error for a source that has none of the wanted streams, ``video`` and ``audio``."""
    has = " and ".join(found) or "neither video nor audio"
    words = f"{' or '.join(wanted)} is needed: name another stream"
    return LiveError(f"live source {shown(source)} has {has}; {words}")


def why_ended(error: Exception) -> str:
    """Return why a connection ended, for messages.

    >>> why_ended(OSError(5, "Input/output error"))
    'the server ended it'
    """
    if isinstance(error, av.error.ExitError):
        return f"nothing arrived for {READ_S:g} s"
    if getattr(error, "errno", None) == errno.EIO:  # FFmpeg's for a connection that the server closes
        return ENDED
    return getattr(error, "strerror", None) or str(error)


def cut_short(found_s: float, whole_s: float, ended: str = "") -> str:
    """Return why a recording on a server counts as cut short; empty where it ended near its stated length.

    Args:
        found_s: length of what arrived, s.
        whole_s: the stated length, s.
        ended: why the connection ended, if that is known.
    """
    if found_s >= whole_s - max(2.0, 0.1 * whole_s):  # many containers state a length that is estimated
        return ""
    words = f" ({ended})" if ended else ""
    return (
        f"the connection ended {found_s:.1f} s after the beginning of a recording of {whole_s:.1f} s{words}"
    )


def why(source: str, error: Exception) -> str:
    """Return why FFmpeg cannot open or read a source, and what to do about it."""
    network = source.lower().startswith(NETWORK)
    if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
        return (
            "user name or password is missing or wrong; write user:password@ before the host, and in a "
            "password %40, %3A, %2F for @, : and /"
        )
    if isinstance(error, av.error.HTTPNotFoundError):
        return "the server has no stream of this name; check the path of the address"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens at this host and port; is the camera on, is the port right?"
    if isinstance(error, av.error.ProtocolNotFoundError):
        scheme = source.partition("://")[0].lower()
        return (
            f"this version of PyAV was built without {scheme}://; use another address of the camera or "
            "server, such as rtsp:// or http://"
        )
    if network and isinstance(error, av.error.InvalidDataError):
        return "what the server sends is neither video nor audio; is it the address of a web page?"
    words = getattr(error, "strerror", None) or "not a source that FFmpeg can read"
    if network:
        return f"{words}; is the name of the host right, and is the server on?"
    if os.path.isfile(source):
        return f"{words}; the file is damaged, cut off or no recording: play it with ffplay to see which"
    if isinstance(error, FileNotFoundError):
        return "there is no such camera; `ls /dev/video*` lists those of Linux"
    return f"{words}; does another program use the camera? ffplay reports the same"
