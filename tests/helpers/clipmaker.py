"""Small clips with known content, written for the tests of the media, faces and log-mel stages."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from deiii.data.cache.outcomes import ClipError

SHARED = os.environ.get("DEIII_TEST_DATA")
needs_shared = pytest.mark.skipif(
    not SHARED, reason="set DEIII_TEST_DATA to the folder of real test clips and weights"
)


def shared(name: str) -> str:
    """Return the path of a real input."""
    return str(Path(SHARED or "") / name)


def write(
    path,
    frames=(),
    times=None,
    fps=25,
    audio=None,
    rate=16000,
    audio_at=0.0,
    sar=None,
    codec="libx264",
    audio_codec="aac",
    crf="12",
    options=None,
    pixels="yuv420p",
) -> str:
    """Write RGB frames (at ``times`` in s, else at ``fps``) and mono audio as a media file."""
    with av.open(str(path), "w") as out:
        video = track = None
        if len(frames):
            video = out.add_stream(codec, rate=Fraction(fps))
            video.height, video.width = frames[0].shape[:2]
            video.pix_fmt = pixels
            video.options = ({"crf": crf} if codec == "libx264" else {}) | (options or {})
            video.codec_context.time_base = Fraction(1, 12800)
            if sar:
                video.codec_context.sample_aspect_ratio = Fraction(sar)
        if audio is not None:
            track = out.add_stream(audio_codec, rate=rate, layout="mono")
        for i, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            at = i / fps if times is None else times[i]
            frame.pts, frame.time_base = round(at * 12800), Fraction(1, 12800)
            out.mux(video.encode(frame))
        if video is not None:
            out.mux(video.encode())
        if track is not None:
            for start in range(0, len(audio), 1024):
                part = audio[None, start : start + 1024].astype(np.float32)
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format="fltp", layout="mono")
                frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
                frame.pts = start + round(audio_at * rate)
                out.mux(track.encode(frame))
            out.mux(track.encode())
    return str(path)


def numbered(n: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Return grey frames whose level is 20 + 3 n for number n."""
    return [np.full((height, width, 3), 20 + 3 * i, np.uint8) for i in range(n)]


def level(rgb: np.ndarray) -> int:
    """Return the number of a frame of `numbered`."""
    return round((float(rgb.mean()) - 20) / 3)


def tone(seconds: float, hertz: float = 440.0, rate: int = 16000) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def rotated(path, matrix) -> str:
    """Write another display matrix into the header of a file's video track (tkhd); return the path."""
    path = Path(path)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0: 20 bytes of times and ids, 8+8 reserved, 4 flags
    data[at : at + 36] = b"".join(int(v).to_bytes(4, "big", signed=True) for v in matrix)
    path.write_bytes(data)
    return str(path)


def outcome_of(call, *args):
    """Return the outcome that a call, or going through its result, ends with."""
    with pytest.raises(ClipError) as caught:
        result = call(*args)
        list(result)
    return caught.value.outcome


FACE = cv2.GaussianBlur(np.random.default_rng(3).integers(0, 255, (60, 60, 3), np.uint8), (0, 0), 2)
FACE = cv2.normalize(FACE, None, 0, 255, cv2.NORM_MINMAX)
GROUND = np.full((160, 240, 3), 90, np.uint8)


def picture(*places, ground=GROUND):
    """Return textured squares of 60 px whose top left corners lie at the given places (sub-pixel)."""
    out = ground.copy()
    for x, y in places:
        move = np.float64([[1, 0, x], [0, 1, y]])
        out = cv2.warpAffine(
            FACE, move, (240, 160), dst=out, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT
        )
    return out
