"""Live sources: the frames come in the order of presentation, with the times that `read_video` gives them."""

from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from deiii.data.cache.outcomes import ClipError
from deiii.pipeline.media.audio import read_audio
from deiii.pipeline.media.streaming.address import LiveError
from deiii.pipeline.media.streaming.live import AudioPiece, LiveReader, Picture
from deiii.pipeline.media.streaming.presentation import Presentation
from deiii.pipeline.media.video import read_video
from tests.helpers.clipmaker import level, numbered
from tests.helpers.clipmaker import write as write_clip
from tests.helpers.media_server import folder_server
from tests.pipeline.media.test_drawn_kinds import KINDS, write

pytestmark = pytest.mark.usefixtures("nothing_is_late")

B_FRAMES: dict[str, Any] = {"b_frames": 3}
MORE: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "H.264 with B-frames in AVI": ("a.avi", "libx264", "libmp3lame", B_FRAMES),
    "MPEG-2 with B-frames in AVI": ("a.avi", "mpeg2video", "mp2", {"b_frames": 2}),
    "Motion JPEG in AVI": ("a.avi", "mjpeg", "pcm_s16le", {"pixels": "yuvj420p"}),
    "H.264 with B-frames in ASF": ("a.asf", "libx264", "libmp3lame", B_FRAMES),
    "MPEG-4 with B-frames in ASF": ("a.asf", "mpeg4", "libmp3lame", {"b_frames": 2}),
    "Windows Media": ("a.wmv", "wmv2", "libmp3lame", {}),
    "MPEG-1 with B-frames in a program stream": ("a.mpg", "mpeg1video", "mp2", {"b_frames": 2}),
    "VOB": ("a.vob", "mpeg2video", "ac3", {"b_frames": 2}),
    "NUT": ("a.nut", "libx264", "aac", B_FRAMES),
}
LEFT = {"DV", "MXF", "ProRes in 10 bits", "PNG with transparency", "grey in 16 bits"}  # without B-frames
FILES = {**{kind: how for kind, how in KINDS.items() if kind not in LEFT}, **MORE}
RAW = {
    "h264": ("libx264", {"bf": "3", "b_strategy": "0"}),
    "hevc": ("libx265", {"x265-params": "bframes=3:log-level=none"}),
    "m4v": ("mpeg4", {"bf": "2"}),
}


class AtOnce(threading.Event):
    """An event that nobody waits for: a file is played as fast as it is decoded."""

    def wait(self, timeout: float | None = None) -> bool:
        return self.is_set()


def played(path: str | Path) -> tuple[LiveReader, list[Picture], list[AudioPiece]]:
    reader = LiveReader(str(path))
    reader._stopped = AtOnce()
    with reader:
        items = list(reader)
    pictures = [item for item in items if isinstance(item, Picture)]
    return reader, pictures, [item for item in items if isinstance(item, AudioPiece)]


def has_the_frames_of_preprocessing(path: str | Path) -> list[AudioPiece]:
    """The frames and their times are those of `read_video`; returns the audio."""
    wanted = list(read_video(path))
    reader, pictures, pieces = played(path)
    assert reader.dropped == 0 and reader.frames == len(pictures) == len(wanted)
    assert [p.time_s for p in pictures] == [time for _, time in wanted]
    assert all(np.array_equal(p.frame.rgb(), rgb) for p, (rgb, _) in zip(pictures, wanted, strict=True))
    return pieces


@pytest.mark.parametrize("kind", FILES)
def test_a_file_in_real_time_has_the_frames_of_preprocessing(tmp_path, kind):
    name, video, audio, how = FILES[kind]
    path = write(tmp_path / name, video, audio, **how)
    pieces = has_the_frames_of_preprocessing(path)
    samples, start, _ = read_audio(path, pieces[0].rate)
    assert pieces[0].time_s == pytest.approx(start, abs=1e-6)
    assert sum(len(piece.samples) for piece in pieces) == pytest.approx(len(samples), abs=2)


@pytest.mark.parametrize("suffix", RAW)
def test_an_elementary_stream_is_played_at_its_frame_rate(tmp_path, suffix):
    """It has no timestamps: all frames came at once, one of them with the time of another one."""
    codec, options = RAW[suffix]
    path = write_clip(tmp_path / f"a.{suffix}", numbered(25), codec=codec, options=options)
    has_the_frames_of_preprocessing(path)


def packed(path: Path, n: int = 12) -> Path:
    """Write MPEG-4 as DivX packed it into AVI: P and B in one chunk, then a chunk without a frame."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=25, options={"bf": "1", "b_strategy": "0"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        packets = []
        for i, rgb in enumerate(numbered(n)):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            packets += stream.encode(frame)
        chunks = [bytes(packet) for packet in [*packets, *stream.encode()]]
        vop, mark = b"\x00\x00\x01\xb6", b"\x00\x00\x01\xb2DivX503b1393p"
        at = chunks[0].index(vop)
        chunks[0] = chunks[0][:at] + mark + chunks[0][at:]
        for i in range(1, len(chunks)):
            if chunks[i][chunks[i].index(vop) + 4] >> 6 == 2:  # a B-frame
                chunks[i - 1] += chunks[i]
                chunks[i] = vop + bytes([0b01010000, 0b01011111])  # vop_coded is 0
        for i, chunk in enumerate(chunks):
            packet = av.Packet(chunk)
            packet.pts = packet.dts = i
            packet.time_base, packet.is_keyframe, packet.stream = Fraction(1, 25), i == 0, stream
            out.mux(packet)
    return path


def test_packed_b_frames(tmp_path):
    path = packed(tmp_path / "a.avi")
    found = [level(rgb) for rgb, _ in read_video(path)]
    assert found == sorted(found) and len(found) >= 11
    has_the_frames_of_preprocessing(path)


def test_interlaced_frames_have_no_combs(tmp_path):
    still = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    fields = [np.roll(still, 4 * i, axis=1) for i in range(24)]
    frames = [
        np.where(np.arange(96)[:, None, None] % 2, b, a)
        for a, b in zip(fields[::2], fields[1::2], strict=True)
    ]
    options = {"flags": "+ildct+ilme", "x264-params": "tff=1:bframes=0"}
    path = write_clip(tmp_path / "a.ts", frames, options=options)
    reader = read_video(path)
    wanted = [rgb for rgb, _ in reader]
    assert "12 of 12 frames are interlaced" in " ".join(reader.remarks)
    has_the_frames_of_preprocessing(path)
    with folder_server(tmp_path) as url:
        _, pictures, _ = played(f"{url}/a.ts")
    assert len(pictures) == 12
    assert all(np.array_equal(p.frame.rgb(), rgb) for p, rgb in zip(pictures, wanted, strict=True))


@pytest.mark.parametrize(
    ("name", "codec", "b_frames"),
    [
        ("a.avi", "libx264", 0), ("a.avi", "libx264", 1), ("a.avi", "libx264", 3),
        ("a.avi", "mpeg4", 0), ("a.avi", "mpeg4", 1), ("a.avi", "mpeg4", 3),
        ("a.asf", "libx264", 1), ("a.asf", "mpeg4", 0), ("a.asf", "mpeg4", 2),
    ],
)  # fmt: skip
def test_a_recording_on_a_server_comes_in_the_order_of_presentation(tmp_path, name, codec, b_frames):
    """Half of the frames had the times of others and were left out."""
    path = write(tmp_path / name, codec, "mp2" if name == "a.avi" else "libmp3lame", b_frames=b_frames)
    wanted = list(read_video(path))
    with folder_server(tmp_path) as url:
        reader, pictures, _ = played(f"{url}/{name}")
    assert reader.frames == len(pictures) == len(wanted)
    assert all(np.array_equal(p.frame.rgb(), rgb) for p, (rgb, _) in zip(pictures, wanted, strict=True))
    times = [p.time_s - pictures[0].time_s for p in pictures]
    assert times == pytest.approx([time - wanted[0][1] for _, time in wanted], abs=1e-6)


def test_a_container_that_turns_out_to_be_in_decoding_order_is_sorted():
    """Frames do not wait for each other: each gets its timestamp when the decoder returns it."""
    order = Presentation(in_decoding_order=False)
    for i in range(4):  # frames that the decoder keeps
        order.sent(i / 25)
    stamps = []
    for i, own in enumerate([0, 2, 3, 1, 5, 6, 4]):
        stamps.append(order.stamp(own / 25, own == 0))
        order.sent((4 + i) / 25)
    assert stamps[:3] == [0, 2 / 25, 3 / 25]
    assert stamps[3:] == [i / 25 for i in (3, 4, 5, 6)]


@pytest.mark.parametrize("in_decoding_order", [False, True])
def test_packets_without_a_frame_move_the_times_up_to_the_next_key_frame_at_most(in_decoding_order):
    order, found = Presentation(in_decoding_order), []
    for i in range(20):
        order.sent(i / 25)
        if i not in (3, 4):  # lost on the way
            found.append((i, order.stamp(i / 25, i % 10 == 0)))
    late = [i for i, stamp in found if stamp != i / 25]
    assert late == (list(range(5, 10)) if in_decoding_order else [])


def test_a_file_of_which_nothing_can_be_decoded_is_an_error(tmp_path):
    path = tmp_path / "a.mp4"
    data = bytearray(Path(write_clip(path, numbered(5))).read_bytes())
    at, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    data[at:end] = b"\xff" * (end - at)
    path.write_bytes(data)
    with pytest.raises(ClipError):
        list(read_video(path))
    with pytest.raises(LiveError, match=r"a\.mp4 cannot be played: no frame of the video can be decoded"):
        played(path)


def test_a_title_that_is_not_utf_8_is_no_reason_to_refuse_a_file(tmp_path):
    path = write(tmp_path / "a.avi", "mpeg4", "mp2", tags={"title": "Gruesse"})
    path.write_bytes(path.read_bytes().replace(b"Gruesse", b"Gr\xfc\xdfe.."))
    has_the_frames_of_preprocessing(path)


def test_a_file_that_is_no_recording_is_not_taken_for_a_camera(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(bytes(5000))
    with pytest.raises(LiveError, match="damaged, cut off or no recording") as caught:
        played(path)
    assert "camera" not in str(caught.value)


def test_a_gap_of_whole_seconds_in_the_audio_is_played(tmp_path):
    """A last part of the silence without samples ended the playing with an error of NumPy."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for first in (0, 1600, 3200 + 2 * 16_000):
            frame = av.AudioFrame.from_ndarray(
                np.full((1, 1600), 9000, np.int16), format="s16", layout="mono"
            )
            frame.sample_rate, frame.pts, frame.time_base = 16_000, first, Fraction(1, 16_000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    _, _, pieces = played(path)
    samples, _, _ = read_audio(path, 16_000)
    assert np.array_equal(np.concatenate([piece.samples for piece in pieces]), samples)
    assert pieces[-1].time_s == pytest.approx(2.2)


def test_an_animation_that_preprocessing_refuses_is_played(tmp_path):
    path = write_clip(tmp_path / "a.gif", numbered(5), codec="gif", pixels="rgb8", fps=25)
    with pytest.raises(ClipError, match="image"):
        list(read_video(path))
    assert len(played(path)[1]) == 5
