"""GStreamer's RTSP server, an implementation that is independent of FFmpeg.

On Debian: apt install gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good gstreamer1.0-plugins-bad
gstreamer1.0-plugins-ugly.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

IMPORTS = """
import sys
import gi
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
"""
SERVE = (
    IMPORTS
    + """
Gst.init(None)
server = GstRtspServer.RTSPServer.new()
server.set_service("0")
factory = GstRtspServer.RTSPMediaFactory.new()
factory.set_launch(sys.argv[1])
factory.set_shared(True)
server.get_mount_points().add_factory("/live", factory)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
"""
)


@contextmanager
def gstreamer(launch: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """Yield the server's process and the address of what ``launch`` describes; skip where there is none."""
    python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
    if subprocess.run([python, "-c", IMPORTS], capture_output=True).returncode:
        pytest.skip("GStreamer's RTSP server is not installed: apt install gir1.2-gst-rtsp-server-1.0")
    words = [python, "-c", SERVE, launch]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = process.stdout.readline().strip()
            assert port, "the server did not start; its errors are above"
            yield process, f"rtsp://127.0.0.1:{port}/live"
        finally:
            process.kill()
