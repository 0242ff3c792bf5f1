"""A file that is played as a live source: its frames and its audio with the times of preprocessing.

>>> for time_s, item in played("clip.mp4", True, True):                # doctest: +SKIP
...     print(time_s, type(item).__name__)
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import av
import av.error

from deiii.data.cache.outcomes import ClipError
from deiii.pipeline.media.audio import mixed_blocks
from deiii.pipeline.media.frame import DecodedFrame
from deiii.pipeline.media.samples.track import AudioTrack, Block
from deiii.pipeline.media.streaming.audio import LONGEST_S
from deiii.pipeline.media.streaming.mono import ToMono
from deiii.pipeline.media.video import read_video

T = TypeVar("T")


def played(
    path: str,
    video: bool,
    audio: bool,
    useless_audio: Sequence[int] = (),
    report: Callable[[str], None] = lambda text: None,
) -> Iterator[tuple[float, DecodedFrame | Block]]:
    """Yield the video frames and the audio of a file in the order of their times in s.

    Video frames are those of `read_video`. Audio has the times of `read_audio` and one sample rate; its
    channels are averaged.

    Args:
        path: the media file.
        video, audio: whether they are wanted.
        useless_audio: indices of audio streams to leave out.
        report: receives a line for each defect, and a line where a stream ends because of an error.

    Raises:
        ClipError: nothing of any wanted stream can be decoded.
    """
    errors: list[ClipError] = []
    each: list[Iterator[tuple[float, DecodedFrame | Block]]] = []
    if video:
        each.append(_until_error(_video(path, report), "video", errors, report))
    if audio:
        each.append(_until_error(_audio(path, useless_audio, report), "audio", errors, report))
    some = False
    for item in heapq.merge(*each, key=_time):
        some = True
        yield item
    if not some and errors:
        raise errors[0]


def _time(item: tuple[float, DecodedFrame | Block]) -> float:
    return item[0]


def _until_error(
    items: Iterator[tuple[float, T]], kind: str, errors: list[ClipError], report: Callable[[str], None]
) -> Iterator[tuple[float, T]]:
    """Yield the items of a stream; an error ends this stream, and the other one goes on."""
    try:
        yield from items
    except ClipError as error:
        errors.append(error)
        report(f"the {kind} ends: {error.outcome.reason}")
    except (av.error.FFmpegError, OSError) as error:
        if isinstance(error, MemoryError):  # PyAV's MemoryError is an FFmpegError, too
            raise
        report(f"the {kind} ends: {getattr(error, 'strerror', None) or error}")


def _video(path: str, report: Callable[[str], None]) -> Iterator[tuple[float, DecodedFrame]]:
    reader = read_video(path, most_s=LONGEST_S)
    for frame, time in reader.frames():
        yield time, frame
    for note in reader.notes:
        report(note)


def _audio(path: str, useless: Sequence[int], report: Callable[[str], None]) -> Iterator[tuple[float, Block]]:
    track = AudioTrack(most_s=LONGEST_S)
    to_mono = ToMono()
    for block, time in mixed_blocks(path, {}, useless, track):
        parts = track.place(block, time)
        piece = track.pieces[-1]
        at = piece.start + (piece.total - sum(map(len, parts))) / piece.rate
        for samples in filter(len, parts):  # a part may be empty: AudioTrack.place
            frame = av.AudioFrame.from_ndarray(samples[None], "flt", "mono")
            frame.sample_rate = block.rate
            for part in to_mono.convert(frame):
                yield at, Block(part, to_mono.rate)
            at += len(samples) / block.rate
    for note in track.notes:
        report(note)
