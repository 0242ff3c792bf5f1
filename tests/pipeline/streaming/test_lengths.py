"""A file has one length and one choice of streams, whoever reads it: at once, in order or in real time."""

from __future__ import annotations

import numpy as np
import pytest

from deiii.data.tools.row_times import end_of_rows
from deiii.pipeline.media.audio import read_audio
from deiii.pipeline.media.lengths import declared_seconds, declared_size
from deiii.pipeline.media.streaming.live import LiveReader, Picture
from deiii.pipeline.media.video import read_video
from deiii.pipeline.overview.figures import _header
from deiii.pipeline.streaming.file import video_ends
from tests.helpers.clipmaker import level, numbered, tone, write
from tests.helpers.flash_beep import Clip, write_clip
from tests.helpers.tracks import write_tracks

SCREEN = [0.0, 0.04, 0.08, 0.12, 0.16, 3.0]  # a still screen until the last frame


def times_of(path: str) -> list[float]:
    return [time for _, time in read_video(path).frames()]


def long_last_frame(path) -> str:
    """A recording whose header declares 3 s for its last frame."""
    import av

    source = write(path.with_name(f"source-{path.name}"), numbered(10))
    with av.open(source) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = stream
                packet.duration = (
                    packet.duration if packet.pts < 0.35 / packet.time_base else round(3 / packet.time_base)
                )
                new.mux(packet)
    return str(path)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_last_frame_of_any_duration_is_one_row(tmp_path, suffix):
    path = long_last_frame(tmp_path / f"last.{suffix}")
    assert declared_seconds(path) > 3.0
    assert video_ends(path, None) == pytest.approx([end_of_rows(times_of(path))], abs=1e-3)
    assert video_ends(path, 10.0) == pytest.approx([0.4], abs=1e-6)


@pytest.mark.parametrize("fps", [None, 10.0])
def test_frames_of_variable_distance(tmp_path, fps):
    path = write(tmp_path / "screen.mkv", numbered(6), times=SCREEN)
    found = times_of(path)
    rows = found if fps is None else [k / fps for k in range(int(found[-1] * fps + 1e-6) + 1)]
    assert video_ends(path, fps) == pytest.approx([end_of_rows(rows)], abs=1e-3)


def test_a_late_first_timestamp_is_no_length(tmp_path):
    path = write(tmp_path / "cut.mkv", numbered(25), times=[60 + i / 25 for i in range(25)])
    assert declared_seconds(path) == pytest.approx(1.0, abs=0.05)


def test_the_length_is_that_of_the_streams_that_are_read(tmp_path):
    short, long = tone(1.0)[None], tone(8.0)[None]
    tracks = [(short, "mono", "default"), (long, "mono", "comment")]
    path = write_tracks(tmp_path / "comment.mkv", tracks, [(numbered(25), "default")])
    assert declared_seconds(path) == pytest.approx(1.0, abs=0.1)


def test_memory_is_planned_for_the_largest_camera(tmp_path):
    path = write_tracks(tmp_path / "cameras.mkv", [], [(numbered(5), "default"), (numbered(5, 96, 128), "")])
    assert declared_size(path)[0] == pytest.approx(1.5 * 96 * 128 * 25, rel=0.05)


def test_the_overview_names_the_height_of_the_stream_that_is_read(tmp_path):
    path = write_tracks(tmp_path / "cameras.mkv", [], [(numbered(5), ""), (numbered(5, 96, 128), "default")])
    assert _header(path)["height"] == 96


def played(path: str) -> tuple[list[Picture], list]:
    with LiveReader(path) as reader:
        items = list(reader)
    pictures = [item for item in items if isinstance(item, Picture)]
    return pictures, [item for item in items if not isinstance(item, Picture)]


def damaged_first(path) -> str:
    """Two cameras; no frame of the first one, the default, can be decoded."""
    import av

    tracks = [
        (np.concatenate([0 * tone(1.0), tone(0.0)])[None], "mono", "default"),
        (tone(1.0)[None], "mono", ""),
    ]
    source = write_tracks(
        path.with_name(f"whole-{path.name}"), tracks, [(numbered(25), "default"), (numbered(25, 96, 128), "")]
    )
    with av.open(source) as old, av.open(str(path), "w") as new:
        streams = {s.index: new.add_stream_from_template(s) for s in old.streams}
        for s in old.streams:
            streams[s.index].disposition = s.disposition
        for packet in old.demux():
            if packet.size:
                number = packet.stream_index
                if number == 0:
                    other = av.Packet(b"\xff" * packet.size)
                    other.pts, other.dts, other.time_base = packet.pts, packet.dts, packet.time_base
                    other.is_keyframe = packet.is_keyframe
                    packet = other
                packet.stream = streams[number]
                new.mux(packet)
    return str(path)


def test_a_file_in_real_time_has_the_streams_of_preprocessing(tmp_path):
    path = damaged_first(tmp_path / "cameras.mkv")
    wanted = [rgb for rgb, _ in read_video(path)]
    pictures, pieces = played(path)
    assert wanted[0].shape[:2] == (96, 128)
    assert [p.frame.rgb().shape[:2] for p in pictures[:1]] == [(96, 128)]
    assert [level(p.frame.rgb()) for p in pictures[:3]] == [level(rgb) for rgb in wanted[:3]]
    assert max(float(np.abs(piece.samples).max()) for piece in pieces) > 0.1


def test_cover_art_is_no_video_of_a_file_in_real_time(tmp_path):
    import av

    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as out:
        sound = out.add_stream("aac", rate=16000, layout="mono")
        cover = out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(tone(1.0)[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, 0
        packets = cover.encode(av.VideoFrame.from_ndarray(numbered(1)[0], format="rgb24"))
        for packet in [*packets, *cover.encode(), *sound.encode(frame), *sound.encode()]:
            out.mux(packet)
    with LiveReader(str(path)) as reader:
        pieces = list(reader)
    assert not reader.has_video and reader.has_audio and pieces


@pytest.mark.parametrize("suffix", ["ts", "flv", "avi"])
def test_a_file_in_real_time_has_the_times_of_preprocessing(tmp_path, suffix):
    path = str(write_clip(tmp_path, Clip(suffix)))
    pictures, pieces = played(path)
    samples, start, _ = read_audio(path, 16000)
    times = times_of(path)
    assert abs(min(abs(p.time_s - times[0]) for p in pictures)) < 0.002
    assert pieces[0].time_s == pytest.approx(start, abs=0.005)
    end = pieces[-1].time_s + len(pieces[-1].samples) / pieces[-1].rate
    assert end == pytest.approx(start + len(samples) / 16000, abs=0.03)
