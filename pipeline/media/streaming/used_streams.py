"""Which streams of a file with several of a kind are not used, as far as only decoding shows it.

>>> useless_video_streams("two_cameras.mkv")  # doctest: +SKIP
()
"""

from __future__ import annotations

import os
from contextlib import closing, suppress

import av

from deiii.data.cache.outcomes import ClipError
from deiii.pipeline.media.container import T, number_of_recordings, open_media
from deiii.pipeline.media.streaming.audio import settled_reader
from deiii.pipeline.media.video import read_video


def useless_video_streams(path: str | os.PathLike) -> tuple[int, ...]:
    """Return the indices of the streams that `read_video` leaves out because no frame can be decoded.

    Nothing is decoded unless the file has several video streams.

    Raises:
        ClipError: no frame of any stream can be decoded.
    """
    if not _has_several(path, av.VideoStream):
        return ()
    reader = read_video(path)
    with closing(reader.frames()) as frames:
        next(frames, None)
    return tuple(reader.useless)


def useless_audio_streams(path: str | os.PathLike, sample_rate: int) -> tuple[int, ...]:
    """Return the indices of the streams that `read_audio` leaves out: silent ones and undecodable ones.

    Nothing is decoded unless the file has several audio streams.

    Raises:
        ClipError: no stream can be decoded.
    """
    if not _has_several(path, av.AudioStream):
        return ()
    return settled_reader(path, sample_rate).facts.useless


def useless_streams(path: str | os.PathLike, sample_rate: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return `useless_video_streams` and `useless_audio_streams`; nothing where no stream can be decoded."""
    video: tuple[int, ...] = ()
    audio: tuple[int, ...] = ()
    with suppress(ClipError):
        video = useless_video_streams(path)
    with suppress(ClipError):
        audio = useless_audio_streams(path, sample_rate)
    return video, audio


def _has_several(path: str | os.PathLike, kind: type[T]) -> bool:
    with open_media(os.fspath(path)) as container:
        return number_of_recordings(container, kind) > 1
