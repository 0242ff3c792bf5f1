"""Clips in which a white flash and a beep happen at the same known instants, and their faults."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from deiii.pipeline.media.audio import read_audio
from deiii.pipeline.media.video import read_video

FPS, RATE = 25, 48_000
EVENTS = (0.48, 1.28, 2.48)  # s: when a flash and a beep begin
SECONDS = 3.2
FLASH_S = 0.12
# Suffix: video codec (None: audio alone) and audio codec.
CONTAINERS: dict[str, tuple[str | None, str]] = {
    "mp4": ("libx264", "aac"),
    "mov": ("libx264", "pcm_s16le"),
    "mkv": ("libx264", "aac"),
    "webm": ("libvpx", "libopus"),
    "avi": ("libx264", "pcm_s16le"),
    "flv": ("libx264", "aac"),
    "ts": ("libx264", "aac"),
    "mpg": ("mpeg1video", "mp2"),
    "wav": (None, "pcm_s16le"),
    "flac": (None, "flac"),
    "mp3": (None, "libmp3lame"),
    "ogg": (None, "libopus"),
}


@dataclass
class Clip:
    """How a clip is made.

    Attributes:
        suffix: key of `CONTAINERS`.
        audio_at: delay of the start of the audio after that of the video, s.
        b_frames: number of B-frames between two other frames.
        video_gap, audio_gap: start and end of what is left out, s.
        outliers: number of a frame and by how much its presentation time is wrong, s.
        codecs: codecs of video and audio, in place of the suffix's.
    """

    suffix: str
    audio_at: float = 0.0
    b_frames: int = 0
    video_gap: tuple[float, float] | None = None
    audio_gap: tuple[float, float] | None = None
    outliers: dict[int, float] = field(default_factory=dict)
    codecs: tuple[str | None, str] | None = None


def write_clip(folder: Path, clip: Clip, name: str = "clip") -> Path:
    """Write the clip; its flashes and beeps begin at `EVENTS`."""
    path = folder / f"{name}.{clip.suffix}"
    video_codec, audio_codec = clip.codecs or CONTAINERS[clip.suffix]
    with av.open(str(path), "w") as out:
        video: Any = None
        if video_codec:
            options = {
                "libx264": {"preset": "ultrafast", "crf": "28"},
                "libvpx": {"deadline": "realtime", "cpu-used": "8"},
            }
            video = out.add_stream(video_codec, rate=FPS, options=options.get(video_codec, {}))
            video.width, video.height, video.pix_fmt = 96, 80, "yuv420p"
            video.gop_size = 12
            video.codec_context.max_b_frames = clip.b_frames
        audio: Any = out.add_stream(audio_codec, rate=RATE, layout="mono")
        packets = [] if video is None else _video_packets(video, clip)
        packets += _audio_packets(audio, clip)
        packets.sort(key=lambda p: float((p.dts if p.dts is not None else p.pts or 0) * p.time_base))
        for packet in packets:
            out.mux(packet)
    return path


def _video_packets(stream: Any, clip: Clip) -> list[av.Packet]:
    found = []
    for i in range(round(SECONDS * FPS)):
        time = i / FPS
        if clip.video_gap and clip.video_gap[0] <= time < clip.video_gap[1]:
            continue
        light = any(0 <= time - event + 1e-6 < FLASH_S for event in EVENTS)
        frame = av.VideoFrame.from_ndarray(
            np.full((80, 96, 3), 230 if light else 20, np.uint8), format="rgb24"
        )
        frame.pts, frame.time_base = i, Fraction(1, FPS)
        found += stream.encode(frame)
    found += stream.encode()
    shown = sorted(found, key=lambda p: p.pts)
    for number, seconds in clip.outliers.items():
        packet = shown[number]
        packet.pts += round(seconds / packet.time_base)
    return found


def _audio_packets(stream: Any, clip: Clip) -> list[av.Packet]:
    time = np.arange(round((SECONDS - clip.audio_at) * RATE)) / RATE + clip.audio_at
    wave = sum(((time >= e) & (time < e + FLASH_S)) * np.sin(2 * np.pi * 1000 * time) for e in EVENTS)
    found: list[av.Packet] = []
    size = stream.codec_context.frame_size or 1024
    form = stream.codec_context.format.name
    resampler = av.AudioResampler(format=form, layout="mono", rate=RATE)
    for start in range(0, len(wave), size):
        block = (0.5 * wave[None, start : start + size]).astype(np.float32)
        if block.shape[1] < size:
            block = np.pad(block, ((0, 0), (0, size - block.shape[1])))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="flt", layout="mono")
        frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
        frame.pts = start + round(clip.audio_at * RATE)
        for piece in resampler.resample(frame):
            found += stream.encode(piece)
    found += stream.encode()
    if clip.audio_gap:
        first, last = clip.audio_gap
        found = [p for p in found if not first <= float(p.pts * p.time_base) < last]
    return found


def joined(folder: Path, clip: Clip) -> tuple[Path, float]:
    """Write the clip twice into one file, as `cat` does; return it and the begin of the second one, s."""
    data = write_clip(folder, clip).read_bytes()
    path = folder / f"joined.{clip.suffix}"
    path.write_bytes(data + data)
    return path, SECONDS


def flv_tags(data: bytes) -> list[tuple[int, int, float]]:
    """Return place, type and timestamp in s of each tag of an FLV file with audio (8) or video (9)."""
    found, at = [], 13
    while at + 11 < len(data):
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        stamp = int.from_bytes(data[at + 7 : at + 8] + data[at + 4 : at + 7], "big", signed=True)
        configuration = data[at + 12] == 0 and size > 1
        if data[at] in (8, 9) and not configuration:
            found.append((at, data[at], stamp / 1000))
        at += 11 + size + 4
    return found


def set_flv_stamp(data: bytearray, at: int, seconds: float) -> None:
    """Give the tag at a place in an FLV file another timestamp."""
    stamp = round(seconds * 1000).to_bytes(4, "big", signed=True)
    data[at + 4 : at + 7], data[at + 7] = stamp[1:], stamp[0]


@dataclass
class Seen:
    """What is read of a clip: onsets in s, and notes and remarks as text."""

    flashes: list[float]
    beeps: list[float]
    words: str


def look_and_listen(path: Path, has_video: bool = True) -> Seen:
    """Read a clip and find its flashes and beeps."""
    flashes: list[float] = []
    words: list[str] = []
    if has_video:
        reader = read_video(path)
        before = False
        for rgb, time in reader:
            light = rgb.mean() > 128
            if light and not before:
                flashes.append(time)
            before = light
        words += [*reader.notes, *reader.remarks]
    notes: list[str] = []
    samples, start, _ = read_audio(path, 16_000, notes, words)
    loud = np.flatnonzero(np.abs(samples) > 0.15)
    first = loud[np.diff(loud, prepend=-100_000) > 1600]
    return Seen(flashes, [float(start + at / 16_000) for at in first], "; ".join([*words, *notes]))
