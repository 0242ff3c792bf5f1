"""Streams: which one is used, and what changes in the middle of one."""

import errno
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
import pytest
from av.stream import Disposition

from deiii.data.cache.outcomes import ClipError, Status
from deiii.pipeline.media import container, lengths
from deiii.pipeline.media.audio import read_audio
from deiii.pipeline.media.streaming.audio import settled_reader
from deiii.pipeline.media.survey import survey
from deiii.pipeline.media.video import read_video
from deiii.pipeline.media.writing.video_writer import VideoWriter
from tests.helpers.clipmaker import level, numbered, outcome_of, tone, write
from tests.helpers.tracks import audio_frames, audio_part, write_tracks


def tracks(path, audio=(), video=()):
    """Write audio tracks (samples [c,n], layout, default) and video tracks (frames, default)."""
    marked = [(samples, layout, "default" if default else "") for samples, layout, default in audio]
    return write_tracks(path, marked, [(frames, "default" if default else "") for frames, default in video])


QUIET, LOUD = 0.1 * tone(1.0)[None], tone(1.0)[None]


@pytest.mark.parametrize("suffix", ["mkv", "mov"])
@pytest.mark.parametrize(
    ("audio", "used"),
    [
        ([(QUIET, "mono", False), (LOUD, "mono", True)], "number 2 was used, the default one"),
        ([(LOUD, "mono", True), (QUIET, "mono", False)], "number 1 was used, the default one"),
        ([(QUIET, "mono", True), (np.repeat(LOUD, 2, 0), "stereo", True)], "number 2 was used, the best one"),
    ],
)
def test_audio_tracks(tmp_path, audio, used, suffix):
    remarks = []
    samples, _, _ = read_audio(tracks(tmp_path / f"a.{suffix}", audio), 16000, None, remarks)
    assert np.abs(samples).max() == pytest.approx(0.3, abs=0.01)
    assert remarks == [f"the file has 2 audio streams; {used}"]


def test_a_silent_default_track_gives_way_to_one_with_sound(tmp_path):
    silent = 0 * LOUD
    remarks = []
    path = tracks(tmp_path / "a.mkv", [(silent, "mono", True), (LOUD, "mono", False)])
    samples, _, _ = read_audio(path, 16000, None, remarks)
    assert np.abs(samples).max() == pytest.approx(0.3, abs=0.01)
    assert remarks == [
        "the file has 2 audio streams; number 1 has no usable audio; number 2 was used, the best one"
    ]
    path = tracks(tmp_path / "b.mkv", [(silent, "mono", False), (silent, "mono", True)])
    remarks.clear()
    assert not read_audio(path, 16000, None, remarks)[0].any()
    assert remarks == ["the file has 2 audio streams; number 2 was used, the default one"]


def float_tracks(path, *tracks):
    """Write audio tracks float32 [n] of 16 kHz that keep values that are not finite."""
    with av.open(str(path), "w") as out:
        streams = [out.add_stream("pcm_f32le", rate=16000, layout="mono") for _ in tracks]
        for stream, samples in zip(streams, tracks, strict=True):
            frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="flt", layout="mono")
            frame.sample_rate, frame.pts = 16000, 0
            out.mux([*stream.encode(frame), *stream.encode()])
    return str(path)


def test_a_damaged_track_gives_way_to_one_that_can_be_decoded(tmp_path):
    damaged = LOUD[0].copy()
    damaged[5000] = np.nan
    for name, used, parts in (
        ("a", "number 1 has no usable audio; number 2", [damaged, LOUD[0]]),
        ("b", "number 1, 2 has no usable audio; number 3", [0 * LOUD[0], damaged, LOUD[0]]),
    ):
        path = float_tracks(tmp_path / f"{name}.mkv", *parts)
        remarks = []
        samples, _, _ = read_audio(path, 16000, None, remarks)
        assert np.abs(samples).max() == pytest.approx(0.3, abs=0.01)
        assert remarks == [f"the file has {len(parts)} audio streams; {used} was used, the best one"]
        assert np.array_equal(np.concatenate(list(settled_reader(path, 16000))), samples)
    for parts in ([damaged, damaged], [damaged, 0 * LOUD[0]]):
        path = float_tracks(tmp_path / "c.mkv", *parts)
        assert outcome_of(lambda path=path: read_audio(path, 16000)).status is Status.UNREADABLE
        with pytest.raises(ClipError):
            settled_reader(path, 16000)


def test_a_track_with_an_impossible_header_is_not_used(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        streams = [out.add_stream("aac", rate=48000, layout="mono") for _ in range(2)]
        for stream in streams:
            for frame in audio_frames(np.tile(LOUD, 3), "mono", 48000):
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
    media = bytearray((tmp_path / "a.mp4").read_bytes())
    at = media.find(b"\x05\x80\x80\x80", media.find(b"esds")) + 5
    media[at : at + 2] = b"\x11\x80"  # no channels
    (tmp_path / "a.mp4").write_bytes(media)
    assert np.abs(read_audio(tmp_path / "a.mp4", 16000)[0]).max() > 0.2


@pytest.mark.parametrize(("defaults", "used"), [((False, True), 2), ((True, False), 1), ((False, False), 2)])
def test_video_tracks(tmp_path, defaults, used):
    small, large = numbered(5, 48, 64), numbered(7, 96, 128)
    reader = read_video(tracks(tmp_path / "v.mkv", (), zip((small, large), defaults, strict=True)))
    assert len(list(reader)) == (5, 7)[used - 1]
    assert f"number {used} was used" in reader.remarks[0]


def video_tracks(path, *tracks, damaged=(), after=0):
    """Write video tracks of frames; in the damaged ones (their positions), packets hold zeros.

    The first packets, ``after`` in number, are left as they are.
    """
    with av.open(str(path), "w") as out:
        streams = []
        for frames in tracks:
            stream = out.add_stream("libx264", rate=25, options={"crf": "12"})
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = "yuv420p"
            streams.append(stream)
        for position, (stream, frames) in enumerate(zip(streams, tracks, strict=True)):
            encoded = [
                p for f in frames for p in stream.encode(av.VideoFrame.from_ndarray(f, format="rgb24"))
            ]
            for number, packet in enumerate([*encoded, *stream.encode()]):
                if position in damaged and number >= after:
                    zeros = av.Packet(bytes(packet.size))
                    zeros.stream, zeros.pts, zeros.dts = stream, packet.pts, packet.dts
                    zeros.time_base = packet.time_base
                    packet = zeros
                out.mux(packet)
    return str(path)


def test_a_damaged_video_track_gives_way_to_one_that_can_be_decoded(tmp_path):
    large, small = numbered(12, 96, 128), numbered(7, 48, 64)
    whole = list(read_video(video_tracks(tmp_path / "a.mkv", small)))
    reader = read_video(video_tracks(tmp_path / "b.mkv", large, small, damaged=(0,)))
    for _ in range(2):  # reading again yields the same
        frames = list(reader)
        assert [time for _, time in frames] == [time for _, time in whole]
        assert all(np.array_equal(a, b) for (a, _), (b, _) in zip(frames, whole, strict=True))
        used = "number 1 has no usable video; number 2 was used, the best one"
        assert (reader.remarks, reader.notes) == ([f"the file has 2 video streams; {used}"], [])
    reader = read_video(video_tracks(tmp_path / "c.mkv", large, large, small, damaged=(0, 1)))
    assert len(list(reader)) == 7
    assert "number 1, 2 has no usable video; number 3 was used" in reader.remarks[0]


def test_a_file_of_damaged_video_tracks_is_unreadable(tmp_path):
    path = video_tracks(tmp_path / "a.mkv", numbered(9, 96, 128), numbered(7), damaged=(0, 1))
    assert outcome_of(read_video, path).reason == "no frame of the video can be decoded"


def test_a_video_track_that_is_damaged_in_part_is_kept(tmp_path):
    """The choice does not depend on how much of the first track was lost, only on whether it has a frame."""
    path = video_tracks(tmp_path / "a.mkv", numbered(12, 96, 128), numbered(7), damaged=(0,), after=3)
    reader = read_video(path)
    frames = list(reader)
    assert 0 < len(frames) < 12 and frames[0][0].shape == (96, 128, 3)
    assert "number 1 was used, the best one" in reader.remarks[0] and reader.notes


def test_a_video_track_with_an_impossible_header_is_not_used(tmp_path, monkeypatch):
    path = video_tracks(tmp_path / "a.mkv", numbered(9, 96, 128), numbered(7))
    monkeypatch.setattr(container, "MAX_PIXELS", 96 * 128 - 1)
    reader = read_video(path)
    assert len(list(reader)) == 7 and "number 1 has no usable video" in reader.remarks[0]
    monkeypatch.setattr(container, "MAX_PIXELS", 48 * 64 - 1)
    assert "frames of 128x96 px: it is damaged" in outcome_of(read_video, path).reason


def test_cover_art_is_no_video(tmp_path):
    path = tmp_path / "cover.m4a"
    with av.open(str(path), "w", format="mp4") as out:
        audio = out.add_stream("aac", rate=16000, layout="mono")
        art = out.add_stream("mjpeg", rate=25)
        art.width, art.height, art.pix_fmt, art.disposition = 64, 48, "yuvj420p", Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(numbered(1)[0], format="rgb24")
        out.mux(art.encode(picture))
        out.mux(art.encode())
        for frame in audio_frames(LOUD):
            out.mux(audio.encode(frame))
        out.mux(audio.encode())
    assert outcome_of(read_video, path).status is Status.NO_VIDEO
    assert np.abs(read_audio(path, 16000)[0]).max() > 0.2


def stream_of(folder, name, **content):
    """The bytes of an MPEG transport stream."""
    return Path(write(folder / f"{name}.ts", **content)).read_bytes()


def test_frame_sizes_that_change_keep_their_shape(tmp_path):
    """A square on frames of 128x96, then of 60x96 px: it stays square, and the canvas stays 128x96."""
    frames = []
    for width in (128, 60):
        frame = np.full((96, width, 3), 40, np.uint8)
        frame[30:62, 14:46] = 220
        frames.append(frame)
    data = b"".join(stream_of(tmp_path, str(i), frames=[f] * 10) for i, f in enumerate(frames))
    (tmp_path / "c.ts").write_bytes(data)
    reader = read_video(tmp_path / "c.ts")
    seen = list(reader.frames())
    assert len(seen) == 20 and {f.shape for f, _ in seen} == {(96, 128)}
    assert "10 of 60x96 px" in "; ".join(reader.remarks)
    first, last = seen[0][0].rgb(), seen[-1][0].rgb()
    assert last.shape == (96, 128, 3) and last[:, :30].max() == 0 and last[:, -30:].max() == 0
    for rgb in (first, last):
        bright = rgb.mean(axis=-1) > 130
        assert bright.any(axis=0).sum() == pytest.approx(32, abs=2) == bright.any(axis=1).sum()
    np.testing.assert_array_equal(seen[-1][0].part(40, 20, 80, 60), last[20:60, 40:80])
    assert seen[-1][0].rgb(64).shape == (48, 64, 3)


def test_rates_and_channels_that_change(tmp_path):
    kinds = [(48000, "mono"), (48000, "stereo"), (32000, "stereo")]
    parts = [audio_part(tmp_path / f"{i}.ts", "mp2", *kind) for i, kind in enumerate(kinds)]
    (tmp_path / "c.ts").write_bytes(b"".join(parts))
    remarks = []
    samples, _, _ = read_audio(tmp_path / "c.ts", 16000, None, remarks)
    loud = np.flatnonzero(np.abs(samples) > 0.1)
    onsets = loud[np.diff(loud, prepend=-9999) > 1600] / 16000
    assert np.diff(onsets) == pytest.approx([1.0, 1.0], abs=0.06)
    words = "; ".join(remarks)
    assert "number of audio channels changes (1, 2)" in words and "48000, 32000" in words


@pytest.mark.parametrize(
    ("height", "width", "sar"), [(48, 64, "40/41"), (48, 64, "512/513"), (50, 66, "99/65")]
)
@pytest.mark.parametrize("longest", [None, 40])
def test_odd_displayed_widths(tmp_path, height, width, sar, longest):
    path = write(tmp_path / "o.mp4", numbered(3, height, width), sar=sar)
    displayed = round(width * float(Fraction(sar)))
    frames = [rgb for rgb, _ in read_video(path, longest)]
    assert [level(rgb) for rgb in frames] == [0, 1, 2]
    if longest is None:
        assert frames[0].shape == (height, displayed, 3)
    else:
        assert max(frames[0].shape) == longest
    frame, _ = next(read_video(path).frames())
    np.testing.assert_array_equal(frame.part(5, 7, 30, 31), frame.rgb()[7:31, 5:30])


@pytest.mark.parametrize("size", [(47, 63), (1, 1), (33, 2)])
def test_odd_stored_sizes(tmp_path, size):
    path = write(tmp_path / "o.mkv", numbered(3, *size), codec="ffv1", pixels="yuv444p")
    assert [rgb.shape for rgb, _ in read_video(path)] == [(*size, 3)] * 3
    assert next(iter(read_video(path, 32)))[0].size > 0


def test_the_written_video_has_the_audio_that_is_cached(tmp_path):
    """Opposite channels in the second of two tracks: people hear what the stage gets."""
    both = np.concatenate([LOUD, -LOUD])
    source = tracks(tmp_path / "s.mkv", [(0 * LOUD, "mono", False), (both, "stereo", True)])
    with VideoWriter(tmp_path / "out.mp4", 64, 48, audio=source) as video:
        for i, rgb in enumerate(numbered(25)):
            video.add(rgb, i / 25)
    heard, start, _ = read_audio(tmp_path / "out.mp4", 16000)
    assert np.abs(heard).max() == pytest.approx(0.3, abs=0.1) and abs(start) < 0.05


def test_little_memory_does_not_change_what_is_noted(tmp_path, monkeypatch):
    def no_memory(path):
        raise av.error.MemoryError(errno.ENOMEM, "no memory")

    path = tracks(tmp_path / "a.mkv", [(QUIET, "mono", True), (LOUD, "mono", False)])
    monkeypatch.setattr(lengths, "IN_PACKETS", {container.MATROSKA})
    with container.open_media(path) as opened:
        assert lengths.defects_of_length(path, opened, 1.0) == []
        monkeypatch.setattr(lengths, "open_media", no_memory)
        with pytest.raises(MemoryError):
            lengths.defects_of_length(path, opened, 1.0)


@pytest.mark.slow
def test_the_end_of_a_video_with_half_a_million_packets_is_known(tmp_path):
    """The survey ended after 500,000 packets: 5.5 h at 25 frames per second, or 2 h with audio beside it."""
    once, path, count = write(tmp_path / "once.mkv", numbered(1), codec="mpeg4"), tmp_path / "a.mkv", 520_000
    with av.open(str(once)) as one, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(one.streams.video[0])
        packet = next(p for p in one.demux() if p.size)
        content = bytes(packet)
        for n in range(count):
            copy = av.Packet(content)
            copy.pts = copy.dts = n * 40
            copy.time_base, copy.stream, copy.is_keyframe = Fraction(1, 1000), stream, True
            out.mux(copy)
    times = survey(str(path)).video
    assert times.last == pytest.approx((count - 1) / 25)
