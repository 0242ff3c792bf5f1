"""Files of kinds that recorders and editors make, drawn with flashes and beeps at known times."""

from __future__ import annotations

import struct
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from deiii.data.cache.outcomes import Status
from deiii.pipeline.media.audio import read_audio
from deiii.pipeline.media.streaming.audio import AudioReader
from deiii.pipeline.media.video import read_video
from tests.helpers.clipmaker import outcome_of
from tests.helpers.flash_beep import EVENTS, FLASH_S, FPS, SECONDS, look_and_listen

SPEED = {"libx264": {"preset": "ultrafast", "crf": "28"}, "libvpx": {"deadline": "realtime", "cpu-used": "8"}}
# Every frame but those around a flash is left out with a chance of 0.4.
SHOWN = {round(e * FPS) + k for e in EVENTS for k in range(-1, 5)}
LEFT_OUT = {i for i in range(1, 79) if i not in SHOWN and np.random.default_rng(i).random() < 0.4}


def tone(rate: int) -> np.ndarray:
    """Beeps at `EVENTS`, float64 [n]."""
    time = np.arange(round(SECONDS * rate)) / rate
    return 0.5 * sum(((time >= e) & (time < e + FLASH_S)) * np.sin(2000 * np.pi * time) for e in EVENTS)


def write(
    path: Path,
    video: str | None,
    audio: str,
    *,
    rate: int = 48_000,
    layout: str = "mono",
    samples: np.ndarray | None = None,
    left_out: frozenset[int] | set[int] = frozenset(),
    b_frames: int = 0,
    pixels: str = "yuv420p",
    size: tuple[int, int] = (80, 96),
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    audio_options: dict[str, str] | None = None,
    tags: dict[str, str] | None = None,
    late: float = 0.0,
    form: str | None = None,
) -> Path:
    """Write a clip: ``left_out`` frames are missing, all timestamps are ``late`` s."""
    with av.open(str(path), "w", format=form, options=options or {}, container_options=muxer or {}) as out:
        out.metadata.update(tags or {})
        packets: list[av.Packet] = []
        seen: Any = None
        if video:
            seen = out.add_stream(video, rate=FPS, options=SPEED.get(video, {}))
            seen.height, seen.width, seen.pix_fmt = *size, pixels
            seen.gop_size = 12
            if b_frames:
                seen.codec_context.max_b_frames = b_frames
        heard: Any = out.add_stream(audio, rate=rate, layout=layout, options=audio_options or {})
        for i in range(round(SECONDS * FPS)) if video else ():
            light = any(0 <= i / FPS - e + 1e-6 < FLASH_S for e in EVENTS)
            if i not in left_out:
                image = np.full((*size, 3), 230 if light else 20, np.uint8)
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = i, Fraction(1, FPS)
                packets += seen.encode(frame)
        packets += seen.encode() if video else []
        wave = (
            np.tile(tone(rate), (heard.codec_context.layout.nb_channels, 1)) if samples is None else samples
        )
        resampler = av.AudioResampler(format=heard.codec_context.format.name, layout=layout, rate=rate)
        step = heard.codec_context.frame_size or 1024
        for start in range(0, wave.shape[1], step):
            block = wave[:, start : start + step].astype(np.float32)
            block = np.pad(block, ((0, 0), (0, step - block.shape[1])))
            sound = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout=layout)
            sound.sample_rate, sound.time_base, sound.pts = rate, Fraction(1, rate), start
            packets += [p for piece in resampler.resample(sound) for p in heard.encode(piece)]
        packets += heard.encode()
        for packet in packets:
            packet.pts += round(late / packet.time_base)
            packet.dts += round(late / packet.time_base)
        for packet in sorted(packets, key=lambda p: float(p.dts * p.time_base)):
            out.mux(packet)
    return path


WRAP_S = 2**33 / 90_000  # MPEG timestamps have 33 bits
VARIABLE = {"left_out": LEFT_OUT, "b_frames": 2}
KINDS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "variable rate and B-frames in Matroska": ("a.mkv", "libx264", "aac", VARIABLE),
    "variable rate and B-frames in MP4": ("a.mp4", "libx264", "aac", VARIABLE),
    "variable rate and B-frames in TS": ("a.ts", "libx264", "aac", VARIABLE),
    "variable rate and B-frames in FLV": ("a.flv", "libx264", "aac", VARIABLE),
    "frames of no bytes in AVI": ("a.avi", "mpeg4", "pcm_s16le", {"left_out": LEFT_OUT}),
    "frames of no bytes and B-frames in AVI": ("a.avi", "mpeg4", "libmp3lame", VARIABLE),
    "timecode track in QuickTime": ("a.mov", "libx264", "pcm_s16le", {"tags": {"timecode": "01:00:00:00"}}),
    "timecode track in MP4": (
        "a.mp4", "libx264", "aac", {"tags": {"timecode": "10:20:30:12"}, "muxer": {"write_tmcd": "1"}},
    ),
    "33-bit timestamps that wrap in TS": (
        "a.ts", "libx264", "aac", {"options": {"output_ts_offset": str(WRAP_S - 1.5)}, "b_frames": 2},
    ),
    "33-bit timestamps that wrap in PS": (
        "a.mpg", "mpeg1video", "mp2", {"options": {"output_ts_offset": str(WRAP_S - 0.3)}},
    ),
    "packets of 192 bytes": ("a.m2ts", "libx264", "ac3", {"muxer": {"mpegts_m2ts_mode": "1"}}),
    "FLV timestamps beyond 24 bits": ("a.flv", "libx264", "aac", {"options": {"output_ts_offset": "16777"}}),
    "live WebM of unknown length, joined after 5000 s": (
        "a.webm", "libvpx", "libopus", {"muxer": {"live": "1"}, "late": 5000.0},
    ),
    "DV": ("a.dv", "dvvideo", "pcm_s16le", {"layout": "stereo", "size": (576, 720)}),
    "MXF": ("a.mxf", "mpeg2video", "pcm_s16le", {"size": (576, 720)}),
    "ProRes in 10 bits": ("a.mov", "prores_ks", "pcm_s24le", {"pixels": "yuv422p10le"}),
    "PNG with transparency": ("a.mov", "png", "pcm_s16le", {"pixels": "rgba"}),
    "grey in 16 bits": ("a.mkv", "ffv1", "flac", {"pixels": "gray16le"}),
    "uncompressed, upside down": ("a.avi", "rawvideo", "pcm_s16le", {"pixels": "bgr24"}),
    "H.263 in 3GP": ("a.3gp", "h263", "aac", {"size": (144, 176)}),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_flashes_and_beeps_keep_their_times(tmp_path, kind):
    name, video, audio, how = KINDS[kind]
    seen = look_and_listen(write(tmp_path / name, video, audio, **how))
    assert seen.flashes == pytest.approx(EVENTS, abs=0.002)
    assert seen.beeps == pytest.approx(EVENTS, abs=0.005)
    assert "cut off" not in seen.words and "wrong" not in seen.words and "missing" not in seen.words


def test_a_fragmented_mp4_without_an_edit_list_stays_synchronous(tmp_path):
    """It does not say how much silence the encoder added, so that time 0 may be that much earlier."""
    flags = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    seen = look_and_listen(write(tmp_path / "a.mp4", "libx264", "aac", muxer=flags))
    assert seen.flashes == pytest.approx(EVENTS, abs=0.022)
    assert seen.beeps == pytest.approx(seen.flashes, abs=0.002) and seen.words == ""


@pytest.mark.parametrize("at", range(6))
def test_one_voice_among_six_channels_is_heard(tmp_path, at):
    """A microphone that a recorder stored as one channel of 5.1."""
    samples = np.zeros((6, round(SECONDS * 48_000)))
    samples[at] = tone(48_000)
    path = write(tmp_path / "a.mkv", None, "flac", layout="5.1", samples=samples, rate=48_000)
    heard, _, _ = read_audio(path, 16_000)
    loud = np.flatnonzero(np.abs(heard) > 0.03)
    starts = loud[np.diff(loud, prepend=-100_000) > 1600] / 16_000
    assert starts == pytest.approx(EVENTS, abs=0.005)


def wav(folder: Path, declared: int | None = None, riff: int | None = None, tail: bytes = b"") -> Path:
    """A WAV file of 3.2 s at 16 kHz whose header declares other sizes."""
    data = bytearray(write(folder / "a.wav", None, "pcm_s16le", rate=16_000).read_bytes())
    at = data.find(b"data")
    if declared is not None:
        data[at + 4 : at + 8] = struct.pack("<I", declared)
    if riff is not None:
        data[4:8] = struct.pack("<I", riff)
    (folder / "a.wav").write_bytes(bytes(data) + tail)
    return folder / "a.wav"


BYTES = 2 * round(SECONDS * 16_000)
LIST = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"Lavf60.16.100\0"


@pytest.mark.parametrize(
    ("declared", "riff", "tail"),
    [
        (0, None, b""),
        (0, 0, b""),
        (2**32 - 1, 2**32 - 1, b""),
        (BYTES - 1, None, b""),
        (None, 12, b""),
        (None, None, LIST),
        (None, None, LIST * 300),  # chunks after the audio may be long
    ],
)
def test_a_wav_with_other_sizes_is_whole(tmp_path, declared, riff, tail):
    seen = look_and_listen(wav(tmp_path, declared, riff, tail), has_video=False)
    assert seen.beeps == pytest.approx(EVENTS, abs=0.005) and seen.words == ""


def test_a_wav_whose_header_declares_too_little_is_named(tmp_path):
    """FFmpeg reads as much as is declared: what follows must not be lost without a word."""
    seen = look_and_listen(wav(tmp_path, BYTES // 2), has_video=False)
    assert len(seen.beeps) < len(EVENTS)
    assert (
        f"declares {BYTES // 2} bytes of audio, " in seen.words
        and "more follow and were not read" in seen.words
    )


@pytest.mark.parametrize("rate", [16_000, 48_000])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_refused_at_every_rate(tmp_path, rate, value):
    samples = tone(rate)[None].copy()
    samples[0, 5000] = value
    path = write(tmp_path / "a.wav", None, "pcm_f32le", rate=rate, samples=samples)
    for read in (lambda p: read_audio(p, 16_000), lambda p: list(AudioReader(p, 16_000))):
        outcome = outcome_of(read, path)
        assert outcome.status is Status.UNREADABLE and "samples that are not finite" in outcome.reason


@pytest.mark.parametrize("degrees", [45, 135, 225, 315])
def test_a_turn_by_half_a_quarter_goes_to_a_neighbour_and_is_noted(degrees):
    from deiii.pipeline.media.orientation import Orientation

    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = tuple(round(65536 * x) for x in (c, s, 0, -s, c, 0, 0, 0, 16384))
    found, remark = Orientation.of(matrix)
    upright = found.apply(np.arange(6, dtype=np.uint8).reshape(2, 3, 1).repeat(3, 2))[..., 0]
    corners = np.arange(6).reshape(2, 3)
    quarters = [np.rot90(corners, -q) for q in (degrees // 90, degrees // 90 + 1)]
    assert any(upright.shape == q.shape and (upright == q).all() for q in quarters)
    assert "degrees; it was turned to the nearest multiple of 90" in remark


def test_times_rise_in_every_kind(tmp_path):
    for suffix in ("mkv", "avi"):
        codecs = ("mpeg4", "libmp3lame")
        times = [t for _, t in read_video(write(tmp_path / f"a.{suffix}", *codecs, **VARIABLE))]
        assert len(times) == 80 - len(LEFT_OUT)
        assert all(b > a for a, b in pairwise(times))
