"""Long recordings for tests: a short real clip, encoded once and repeated by copying its packets."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import av
import numpy as np

from deiii.pipeline.media.audio import read_audio
from deiii.pipeline.media.video import read_video
from tests.helpers.clipmaker import write

FPS, RATE = 25, 16000


def repeated(source: str, target: Path, seconds: float, longest: int | None = None) -> Path:
    """Write an mp4 file that repeats a clip for ``seconds`` s; video and audio copies end together.

    Args:
        source: a clip with video of 25 fps and audio.
        target: the file to write.
        seconds: its length.
        longest: bound of the longer side in px.
    """
    once = target.with_name(f"{target.stem}-once.mp4")
    frames = [rgb for rgb, _ in read_video(source, longest)]
    samples, _, _ = read_audio(source, RATE)
    period = round(len(frames) / FPS * RATE) // 1024 * 1024
    samples = np.pad(samples, (0, max(0, period - len(samples))))[:period]
    write(once, frames, audio=samples, rate=RATE, options={"bf": "0"}, crf="20")
    with av.open(str(once)) as copy, av.open(str(target), "w") as out:
        streams = [copy.streams.video[0], copy.streams.audio[0]]
        copies = {s.index: out.add_stream_from_template(s) for s in streams}
        for packet in _interleaved(once, streams, seconds):
            packet.stream = copies[packet.stream_index]
            out.mux(packet)
    return target


def _interleaved(once: Path, streams: list, seconds: float) -> Iterator[av.Packet]:
    """Yield packets of copies in sequence; each stream's times rise by the durations of its packets."""
    base = {s.index: s.time_base for s in streams}
    at = {s.index: 0 for s in streams}
    for _ in count():
        with av.open(str(once)) as copy:
            for packet in copy.demux():
                if not packet.size:
                    continue
                index = packet.stream_index
                if at[index] * base[index] >= seconds:
                    continue
                packet.pts = packet.dts = at[index]
                packet.time_base = base[index]
                at[index] += packet.duration
                yield packet
        if all(at[i] * base[i] >= seconds for i in at):
            return
