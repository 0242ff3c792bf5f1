"""Joined recordings of unlike streams: other sample rates, and streams that one of the recordings lacks."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from deiii.data.cache.outcomes import Status
from deiii.pipeline.media.formats.links import HEAD, SEGMENT, recordings
from deiii.pipeline.media.survey import joined_parts, survey
from deiii.pipeline.media.video import read_video
from tests.helpers.clipmaker import outcome_of
from tests.helpers.flash_beep import EVENTS, SECONDS, Clip, look_and_listen, write_clip


def recording(folder: Path, suffix: str, codec: str, rate: int) -> bytes:
    """Beeps at `EVENTS` in a file without timestamps."""
    time = np.arange(round(SECONDS * rate)) / rate
    wave = 0.5 * sum(((time >= e) & (time < e + 0.12)) * np.sin(2000 * np.pi * time) for e in EVENTS)
    with av.open(str(folder / f"part.{suffix}"), "w") as out:
        stream = out.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), format="flt", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        size = stream.codec_context.frame_size or 4096
        form = stream.codec_context.format.name
        for piece in av.AudioResampler(form, "mono", rate, frame_size=size).resample(frame):
            out.mux(stream.encode(piece))
        out.mux(stream.encode())
    return (folder / f"part.{suffix}").read_bytes()


@pytest.mark.parametrize(
    ("suffix", "codec", "rates"),
    [
        ("flac", "flac", (48_000, 44_100)),  # FFmpeg's decoder does not go on with longer frames
        ("aac", "aac", (48_000, 44_100)),
        ("aac", "aac", (32_000, 48_000)),
        ("mp3", "libmp3lame", (48_000, 44_100)),
        ("ac3", "ac3", (32_000, 48_000)),
    ],
)
def test_files_without_timestamps_may_change_their_sample_rate(tmp_path, suffix, codec, rates):
    """FFmpeg counts their frames, all of them at the first rate."""
    path = tmp_path / f"joined.{suffix}"
    path.write_bytes(b"".join(recording(tmp_path, suffix, codec, rate) for rate in rates))
    seen = look_and_listen(path, has_video=False)
    assert len(seen.beeps) == 2 * len(EVENTS)
    one, two = seen.beeps[: len(EVENTS)], seen.beeps[len(EVENTS) :]
    assert np.diff(one) == pytest.approx(np.diff(EVENTS), abs=0.004)
    assert np.diff(two) == pytest.approx(np.diff(EVENTS), abs=0.004)
    assert two[0] - one[0] == pytest.approx(SECONDS, abs=0.08)  # the silence that the encoders add
    assert "the sample rate of the audio changes" in seen.words


@pytest.fixture(scope="module")
def transport(tmp_path_factory):
    """MPEG-TS with video and audio (PIDs 256 and 257), with each of them alone, and with other PIDs."""
    folder = tmp_path_factory.mktemp("ts")
    both = write_clip(folder, Clip("ts"))
    found = {"both": both.read_bytes()}
    kinds = {"video": (["video"], 256), "audio": (["audio"], 257), "audio at 256": (["audio"], 256)}
    for name, (wanted, first) in {**kinds, "other": (["video", "audio"], 512)}.items():
        target = folder / "one.ts"
        numbers = {"mpegts_start_pid": str(first)}
        with av.open(str(both)) as source, av.open(str(target), "w", options=numbers) as out:
            copies = {
                stream.index: out.add_stream_from_template(stream)
                for stream in source.streams
                if stream.type in wanted
            }
            for packet in source.demux():
                if packet.size and packet.stream_index in copies:
                    packet.stream = copies[packet.stream_index]
                    out.mux(packet)
        found[name] = target.read_bytes()
    return found


@pytest.mark.parametrize(
    ("parts", "visible", "audible"),
    [
        (("video", "both"), (0, 1), (1,)),
        (("audio", "both"), (1,), (0, 1)),
        (("audio", "both", "audio"), (1,), (0, 1, 2)),
        (("both", "video"), (0, 1), (0,)),
        (("both", "audio"), (0,), (0, 1)),
    ],
    ids=lambda value: " + ".join(map(str, value)),
)
def test_a_stream_that_one_recording_lacks_has_the_times_of_the_others(
    tmp_path, transport, parts, visible, audible
):
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(transport[part] for part in parts))
    seen = look_and_listen(path)
    assert len(seen.flashes) == len(visible) * len(EVENTS) and len(seen.beeps) == len(audible) * len(EVENTS)
    assert seen.flashes == pytest.approx([SECONDS * n + e for n in visible for e in EVENTS], abs=0.08)
    assert seen.beeps == pytest.approx([SECONDS * n + e for n in audible for e in EVENTS], abs=0.08)
    for n in set(visible) & set(audible):
        flashes = seen.flashes[visible.index(n) * len(EVENTS) :][: len(EVENTS)]
        beeps = seen.beeps[audible.index(n) * len(EVENTS) :][: len(EVENTS)]
        assert beeps == pytest.approx(flashes, abs=0.025)


def test_a_stream_that_turns_from_video_into_audio_keeps_its_first_part(tmp_path, transport):
    path = tmp_path / "joined.ts"
    path.write_bytes(transport["both"] + transport["audio at 256"])
    seen = look_and_listen(path)
    assert seen.flashes == pytest.approx(EVENTS, abs=0.001) and len(seen.beeps) == len(EVENTS)
    assert "packets of the" in seen.words and "cannot be decoded" in seen.words
    path.write_bytes(transport["audio at 256"] + transport["both"])
    assert outcome_of(lambda file: list(read_video(file)), path).status is Status.NO_VIDEO
    assert look_and_listen(path, has_video=False).beeps[: len(EVENTS)] == pytest.approx(EVENTS, abs=0.03)


def test_streams_with_other_numbers_are_named(tmp_path, transport):
    """FFmpeg takes them for further tracks of one recording; one track of each kind is read."""
    path = tmp_path / "joined.ts"
    for parts in (("both", "other"), ("other", "both")):
        path.write_bytes(b"".join(transport[part] for part in parts))
        seen = look_and_listen(path)
        assert seen.words.count("streams of another recording begin near byte") == 2  # of video and of audio
        assert seen.flashes == pytest.approx(EVENTS, abs=0.001) and seen.beeps == pytest.approx(
            EVENTS, abs=0.03
        )
    path.write_bytes(transport["both"])
    assert "another recording" not in look_and_listen(path).words


MATROSKA = {
    "aac": Clip("mkv"),
    "opus": Clip("webm"),
    "late": Clip("mkv", audio_at=0.3),
    "pcm": Clip("mkv", codecs=("mpeg4", "pcm_s16le")),
    "audio": Clip("mkv", codecs=(None, "aac")),
}


@pytest.mark.parametrize(
    "names",
    [("aac", "aac"), ("aac", "opus"), ("opus", "late", "pcm"), ("pcm", "audio", "aac")],
    ids=" + ".join,
)
def test_recordings_of_matroska_have_codecs_of_their_own(tmp_path, names):
    path = tmp_path / "joined.mkv"
    path.write_bytes(b"".join(write_clip(tmp_path, MATROSKA[name]).read_bytes() for name in names))
    begins = [part.begin for part in joined_parts(str(path))]
    assert begins == pytest.approx([n * SECONDS for n in range(len(names))], abs=0.08)
    seen = look_and_listen(path)
    visible = [
        begin + e for begin, name in zip(begins, names, strict=True) for e in EVENTS if name != "audio"
    ]
    assert seen.flashes == pytest.approx(visible, abs=0.01)
    assert seen.beeps == pytest.approx([begin + e for begin in begins for e in EVENTS], abs=0.03)
    lags = [min(seen.beeps, key=lambda beep: abs(beep - flash)) - flash for flash in seen.flashes]
    assert lags == pytest.approx([0.0] * len(lags), abs=0.012)
    assert f"the file holds {len(names)} joined recordings" in seen.words


def test_documents_of_unknown_size_and_bytes_between_them(tmp_path):
    """As recorders write them that cannot go back; ids of the header may be in their content by chance."""
    data = write_clip(tmp_path, Clip("webm")).read_bytes()
    at = data.find(SEGMENT) + len(SEGMENT)
    live = data[:at] + b"\x01" + b"\xff" * 7 + data[at + 8 :]
    path = tmp_path / "joined.webm"
    for parts, starts in (
        ((data,), [0]),
        ((live,), [0]),
        ((live, data), [0, len(live)]),
        ((data, b"\0" * 999, live), [0, len(data) + 999]),
        ((data, HEAD + b"x" * 99), [0]),
    ):
        path.write_bytes(b"".join(parts))
        assert [link.start for link in recordings(str(path))] == starts
    assert recordings(str(tmp_path)) == recordings(str(tmp_path / "gone")) == []


@pytest.mark.parametrize("late", [0.0, 0.012, 0.028])
@pytest.mark.parametrize("lengths", [(10, 10), (16, 16), (20, 20), (30, 60)])
def test_short_recordings_are_not_interleaved(tmp_path, lengths, late):
    """The timestamps of the second one start again, within a frame of the first ones or equal to them."""
    path = tmp_path / "joined.ts"
    path.write_bytes(transport_of(tmp_path, lengths[0]) + transport_of(tmp_path, lengths[1], late))
    np.testing.assert_allclose(
        [time for _, time in read_video(path)], np.arange(sum(lengths)) / 25, atol=1e-4
    )
    assert survey(str(path)).video.step == pytest.approx(0.04, abs=1e-6)


def transport_of(folder: Path, frames: int, late: float = 0.0) -> bytes:
    """Return MPEG-TS of grey frames at 25 per second, whose timestamps are ``late`` s later than usual."""
    path = folder / "part.ts"
    with av.open(str(path), "w", options={"output_ts_offset": str(late)}) as out:
        stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path.read_bytes()
