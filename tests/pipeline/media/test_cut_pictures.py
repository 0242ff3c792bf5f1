"""JPEG pictures that end early, in files and from cameras; FFmpeg's decoder does not report them."""

from __future__ import annotations

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from deiii.pipeline.media.decoders.frame_counts import JpegEnds
from deiii.pipeline.media.streaming import live
from deiii.pipeline.media.streaming.damage import NOTE
from deiii.pipeline.media.streaming.live import LiveReader
from deiii.pipeline.media.video import read_video
from tests.helpers.media_server import jpeg_camera

WIDTH, HEIGHT, FRAMES, CUT = 160, 120, 20, (5, 9)


def jpeg(seed: int, height: int = HEIGHT, progressive: bool = False) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), np.uint8)
    image = cv2.resize(coarse, (WIDTH, height), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)])[1].tobytes()


def segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(content) + 2).to_bytes(2, "big") + content


def with_segment(seed: int, content: bytes) -> bytes:
    """Return a picture with a segment and padding; without padding, the mark of its end is enough."""
    return b"\xff\xd8" + segment(0xE1, content) + jpeg(seed)[2:] + bytes(7)


def of_avi(data: bytes, polarity: int = 0) -> bytes:
    """Return a JPEG as AVI stores it: with the mark AVI1, and without Huffman tables."""
    kept, at = b"\xff\xd8" + segment(0xE0, b"AVI1" + bytes((polarity,)) + bytes(9)), 2
    while data[at + 1] != 0xDA:
        size = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] not in (0xE0, 0xC4):
            kept += data[at : at + size]
        at += size
    return kept + data[at:]


def in_fields(seed: int) -> bytes:
    return b"".join(of_avi(jpeg(seed + i, HEIGHT // 2), 1 + i) for i in range(2))


def decoded(data: bytes) -> np.ndarray:
    (frame,) = av.VideoCodecContext.create("mjpeg", "r").decode(av.Packet(data))
    return frame.to_ndarray().astype(int)


def mux(path, pictures, codec="mjpeg") -> str:
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        for number, data in enumerate(pictures):
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 25), True
            packet.pts = packet.dts = number
            packet.duration = 1
            out.mux(packet)
    return str(path)


def some_cut(share: float, make=jpeg) -> list[bytes]:
    whole = [make(i) for i in range(FRAMES)]
    return [data[: round(share * len(data))] if i in CUT else data for i, data in enumerate(whole)]


@pytest.mark.parametrize("suffix", ["avi", "mkv", "mov"])
@pytest.mark.parametrize("share", [0.5, 0.95])
def test_pictures_that_end_early_are_counted_as_damaged(tmp_path, suffix, share):
    reader = read_video(mux(tmp_path / f"a.{suffix}", some_cut(share)))
    assert len(list(reader)) == FRAMES
    assert reader.notes == [f"{len(CUT)} of {FRAMES} frames are damaged"]


def test_the_check_changes_no_frame(tmp_path, monkeypatch):
    path = mux(tmp_path / "a.avi", some_cut(0.5))
    found = [rgb for rgb, _ in read_video(path)]
    monkeypatch.setattr(JpegEnds, "is_cut", lambda *_: False)
    reader = read_video(path)
    expected = [rgb for rgb, _ in reader]
    assert reader.notes == [] and np.array_equal(found, expected) and len(found) == FRAMES


def test_a_packet_without_any_frame_is_counted_once(tmp_path):
    """A picture that ends in its header yields no frame: it is a packet that cannot be decoded."""
    pictures = [jpeg(i)[: 300 if i in CUT else None] for i in range(FRAMES)]
    reader = read_video(mux(tmp_path / "a.avi", pictures))
    assert len(list(reader)) == FRAMES - len(CUT)
    (note,) = reader.notes
    assert note.startswith(f"{len(CUT)} packets of the video stream cannot be decoded")


def test_the_second_of_two_fields_that_ends_early_is_found(tmp_path):
    reader = read_video(mux(tmp_path / "a.avi", some_cut(0.8, in_fields)))
    assert len(list(reader)) == FRAMES
    assert reader.notes == [f"{len(CUT)} of {FRAMES} frames are damaged"]


WHOLE = {
    "usual": jpeg,
    "bytes of padding": lambda i: jpeg(i) + bytes(7),
    "fill bytes": lambda i: jpeg(i) + b"\xff" * 5,
    "padding of a camera's buffer": lambda i: jpeg(i) + bytes(5000),
    "no mark of the end": lambda i: jpeg(i)[:-2],
    "zeros for the mark of the end": lambda i: jpeg(i)[:-2] + bytes(600),
    "progressive": lambda i: jpeg(i, progressive=True),
    "AVI1": lambda i: of_avi(jpeg(i)),
    "AVI1 without the mark of the end": lambda i: of_avi(jpeg(i))[:-2],
    "two fields": in_fields,
    "a small picture in a segment": lambda i: with_segment(i, b"Exif" + jpeg(i)),
    "half of a small picture": lambda i: with_segment(i, jpeg(i)[:500]),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_pictures_raise_no_alarm(tmp_path, name):
    reader = read_video(mux(tmp_path / "a.avi", [WHOLE[name](i) for i in range(FRAMES)]))
    assert len(list(reader)) == FRAMES and reader.notes == []


def test_pictures_of_ffmpegs_own_encoder_raise_no_alarm(tmp_path):
    path = str(tmp_path / "a.avi")
    with av.open(path, "w") as out:
        stream = out.add_stream("mjpeg", rate=25, options={"huffman": "optimal"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj422p"
        for seed in range(FRAMES):
            image = cv2.imdecode(np.frombuffer(jpeg(seed), np.uint8), cv2.IMREAD_COLOR)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        out.mux(stream.encode())
    reader = read_video(path)
    assert len(list(reader)) == FRAMES and reader.notes == []


def test_every_place_of_a_cut_is_judged_by_whether_blocks_are_missing():
    """FFmpeg completes the last block of 16x16 px from few bits, so up to two such blocks may be wrong."""
    whole = jpeg(3)
    scan, expected, ends = whole.index(b"\xff\xda") + 14, decoded(whole), JpegEnds("mjpeg")
    judged = set()
    for at in (*range(scan, len(whole), 97), *range(len(whole) - 12, len(whole) + 1)):
        wrong = np.count_nonzero(decoded(whole[:at]) != expected)
        judged.add(ends.is_cut(whole[:at]))
        assert ends.is_cut(whole[:at]) or wrong < 2 * 16 * 16 * 1.5, at
        assert wrong > 0 or not ends.is_cut(whole[:at]), at
    assert judged == {True, False}


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_pictures_of_a_camera_that_end_early_are_counted_and_reported(monkeypatch, share):
    monkeypatch.setattr(live, "WAITS_S", (0.02, 0.05))
    said: list[str] = []
    with jpeg_camera(some_cut(share), 50.0) as url, LiveReader(url, report=said.append) as reader:
        list(reader)
    cut = 0 if share == 1 else len(CUT)
    assert reader.frames == FRAMES and reader.damage.damaged == cut and reader.damage.missing == 0
    assert len([text for text in said if NOTE in text]) == (cut > 0)
