"""The audio of a media file as mono samples on the clip's clock."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby, islice
from typing import NamedTuple

import av
import av.error
import numpy as np

from deiii.data.cache.outcomes import ClipError, Status
from deiii.pipeline.media.clock import Clock, clock_remarks
from deiii.pipeline.media.container import (
    MATROSKA,
    MAX_SECONDS,
    MP4,
    audio_stream,
    decode,
    number_of_recordings,
)
from deiii.pipeline.media.formats.links import recordings
from deiii.pipeline.media.formats.ogg import Link
from deiii.pipeline.media.lengths import cut_off, defects_of_length
from deiii.pipeline.media.samples.track import JITTER_S, AudioTrack, Block
from deiii.pipeline.media.survey import JOINED, StreamTimes, joined_parts, open_surveyed

HELD_FRAMES = 48  # decoded frames that may wait for the timestamps of later ones
END_S = 0.2  # most by which packets and header of an Ogg file disagree on the end of its audio
LATE_PAGE_S = (0.05, 1.5)  # a late beginning of Ogg audio that may be a gap in the first page instead
WITHOUT_TIMES = frozenset({"aac", "mp3", "flac", "ac3", "eac3", "dts", "dtshd", "truehd", "mlp", "amr"})
BATCH = 64  # decoded frames that are mixed together

# Containers whose header states the duration of the audio; in others FFmpeg estimates it.
STATES_DURATION = frozenset({MP4, MATROSKA, "flac", "wav"})


def read_audio(
    path: str | os.PathLike,
    sample_rate: int,
    notes: list[str] | None = None,
    remarks: list[str] | None = None,
) -> tuple[np.ndarray, float, float]:
    """Read an audio stream, the default or best one of the file, as mono samples.

    Samples follow the timestamps of the stream (`deiii.pipeline.media.clock`): gaps longer than 30 ms are
    filled with zeros (and noted), overlapping samples are dropped. Channels are averaged; where they cancel
    each other the strongest one is used alone. The number of channels and the sample rate may change in
    mid-stream. Where the stream has no sound or cannot be decoded, another one is used. Resampling uses
    soxr's high-quality filter through librosa.

    Args:
        path: the media file.
        sample_rate: wanted rate in Hz.
        notes: a list to which defects are added that leave the audio usable.
        remarks: a list to which properties are added that were handled without loss.

    Returns:
        ``(samples float32 [n] in about [-1, 1], t0_s float, missing_s float)``: ``t0_s`` is the time
        of the first sample in s on the clock of `deiii.pipeline.media.video.read_video`, ``missing_s``
        is how many seconds were filled with zeros.

    Raises:
        ClipError: no audio can be decoded.

    >>> samples, t0_s, missing_s = read_audio("clip.mp4", 16000)  # doctest: +SKIP
    """
    path = os.fspath(path)
    found = _decode_audible(path)
    if not found.pieces:
        raise ClipError(Status.UNREADABLE, "nothing of the audio stream can be decoded")
    scale, words = found.levels.scale()
    if words:
        found.remarks.append(words)
    if notes is not None:
        notes += found.notes
    if remarks is not None:
        remarks += found.remarks
    samples = found.resampled(sample_rate)
    return (samples / np.float32(scale) if scale != 1.0 else samples), found.start, found.missing


def _decode_audible(path: str) -> AudioTrack:
    """Decode the audio stream of a file, or another one where that has no sound or cannot be decoded."""
    first: AudioTrack | ClipError | None = None
    useless: list[int] = []
    while True:
        found = AudioTrack()
        try:
            found = _decode_mixed(path, useless, found)
            if found.is_audible:
                return found
            first = first or found
        except ClipError as error:
            first = first or error
        if found.index < 0 or len(useless) + 1 >= found.streams:
            break
        useless.append(found.index)
    if isinstance(first, ClipError):
        raise first
    return first


def _decode_mixed(path: str, useless: Sequence[int], track: AudioTrack) -> AudioTrack:
    """Decode an audio stream; where its channels cancel each other, the strongest one alone."""
    found = _decode(path, {}, useless, track)
    picks = found.levels.cancelled()
    if picks:
        found = _decode(path, picks, useless, AudioTrack())
        found.remarks.append(
            "the channels cancel each other (opposite phase); the strongest one was used alone"
        )
    return found


def _decode(path: str, picks: Mapping[int, int], useless: Sequence[int], track: AudioTrack) -> AudioTrack:
    """Decode an audio stream of a file.

    Args:
        path: the media file.
        picks: the number of the one channel to use alone, keyed by the number of channels.
        useless: indices of audio streams to leave out; see `deiii.pipeline.media.container.audio_stream`.
        track: an empty one that is filled and returned; it has the stream's index also after an error.
    """
    for block, time in mixed_blocks(path, picks, useless, track):
        track.add(block, time)
    return track


def mixed_blocks(
    path: str, picks: Mapping[int, int], useless: Sequence[int], track: AudioTrack
) -> Iterator[tuple[Block, float]]:
    """Yield the samples of an audio stream with their times in s; the caller adds each block to ``track``.

    The recordings of an Ogg or Matroska file are placed one behind the other.

    Args:
        path: the media file.
        picks, useless: arguments of `_decode`.
        track: gets the levels of the channels, notes and remarks.
    """
    links = recordings(path)
    if len(links) < 2:
        yield from _blocks(path, picks, useless, track)
    else:
        yield from _chained(path, links, picks, useless, track)
    if not track.pieces:
        return
    rates = [piece.rate for piece in track.pieces]
    if len(rates) > 1:
        track.remarks.append(f"the sample rate of the audio changes ({len(set(rates))} rates in Hz: "
                             f"{', '.join(map(str, dict.fromkeys(rates)))})")  # fmt: skip
    counts = track.levels.channel_counts
    if len(counts) > 1:
        track.remarks.append(
            f"the number of audio channels changes ({', '.join(map(str, counts))}); all were mixed down"
        )
    if track.missing:
        track.notes.append(f"{track.missing:.2f} s of audio are missing and were filled with silence")


def _chained(
    path: str, links: Sequence[Link], picks: Mapping[int, int], useless: Sequence[int], track: AudioTrack
) -> Iterator[tuple[Block, float]]:
    """Yield the samples of all recordings of a file; those that cannot be read are noted."""
    failed: list[tuple[Link, ClipError]] = []
    begins = {part.link: part.begin for part in joined_parts(path)}
    for link in links:
        try:
            yield from _blocks(path, picks, useless, track, link, begins.get(link))
        except ClipError as error:
            if track.pieces and track.seconds > (track.most_s or MAX_SECONDS):
                raise  # too long, whatever the other recordings are
            failed.append((link, error))
    if len(failed) == len(links):
        raise failed[0][1]
    track.remarks.append(f"the file holds {len(links)} {JOINED}")
    track.notes += [
        f"the recording that begins at byte {link.start} was not read: {error.outcome.reason}"
        for link, error in failed
    ]


def _blocks(
    path: str,
    picks: Mapping[int, int],
    useless: Sequence[int],
    track: AudioTrack,
    link: Link | None = None,
    begin: float | None = None,
) -> Iterator[tuple[Block, float]]:
    """Yield the samples of a file, or of one of its recordings.

    The recording begins at ``begin`` s, or where the track ends if that is not given.
    """
    with open_surveyed(path, "audio", useless, link) as opened:
        container, times = opened.container, opened.times
        stream, remark = audio_stream(container, useless)
        if times.audio is None:  # the file changed meanwhile
            raise ClipError(Status.UNREADABLE, "the file changed while it was read")
        track.index, track.streams = stream.index, number_of_recordings(container, av.AudioStream)
        late = _late_page(times.audio) if container.format.name == "ogg" else ""
        track.remarks += [words for words in (remark, times.audio.remark, late) if words]
        if begin is None:
            begin = track.start + track.seconds if track.pieces else 0.0
        end = _declared_end(link, times.audio, begin)
        placed = replace(times.audio, zero=times.audio.zero - begin)
        clock: Clock[Block] = placed.clock(JITTER_S, HELD_FRAMES, reorder=False)
        frames = decode(container, stream, track.notes, opened.packets)
        for block, time in _timed(clock, frames, track, picks, container.format.name in WITHOUT_TIMES):
            early = round((begin - time) * block.rate) if times.audio.primed and time < begin else 0
            last = len(block.samples)
            if time + last / block.rate > end:
                last = max(0, round((end - time) * block.rate))
            if early < last:
                yield Block(block.samples[early:last], block.rate), time + early / block.rate
        if not track.pieces:
            return
        if track.pieces and 0 < (gap := end - track.start - track.seconds) < END_S:
            rate = track.pieces[-1].rate
            yield Block(np.zeros(round(gap * rate), np.float32), rate), track.start + track.seconds
        track.remarks += clock_remarks(clock, "audio")
        track.notes += defects_of_length(path, container, track.seconds)
        if container.format.name in STATES_DURATION and not clock.restarts and clock.end is not None:
            reach = max(t.end or 0.0 for t in (times.video, times.audio) if t)
            short = cut_off(container, stream, clock.end, reach)
            if short:
                track.notes.append(
                    f"the audio ends after {short[0]:.2f} of {short[1]:.2f} s: the file is cut off"
                )


def _late_page(times: StreamTimes) -> str:
    """Note that an Ogg file's audio begins late, or is incomplete: only the end of a page has a timestamp."""
    if times.start is None or not LATE_PAGE_S[0] < times.start < LATE_PAGE_S[1]:
        return ""
    return (
        f"the audio begins {times.start:.1f} s after time 0; in an Ogg file this cannot be distinguished "
        "from missing audio in its first second"
    )


def _declared_end(link: Link | None, times: StreamTimes, begin: float) -> float:
    """Return where a recording of an Ogg file that begins at ``begin`` s ends, s; inf if unknown.

    FFmpeg may leave out some of the last samples of Vorbis, or return more than there are. By themselves they
    are too few to be noticed, but each would move all recordings behind it.
    """
    if link is None or times.end is None or abs(times.end - times.zero - link.seconds) > END_S:
        return math.inf
    return begin + link.seconds


def _timed(
    clock: Clock[Block],
    frames: Iterator[av.AudioFrame],
    track: AudioTrack,
    picks: Mapping[int, int],
    counted: bool,
) -> Iterator[tuple[Block, float]]:
    """Yield the frames' samples, mixed to mono, with the times that the clock gives them.

    Args:
        clock: clock of the stream.
        frames: decoded ones.
        track: gets the levels of the channels.
        picks: argument of `_decode`.
        counted: whether the file has no timestamps; FFmpeg then counts frames, all at the first sample rate.
    """
    rates: set[int] = set()
    for batch in _batches(frames):
        rates.add(batch.rate)
        known = not (counted and len(rates) > 1)
        track.levels.add(batch.channels, batch.is_float)
        pick = picks.get(len(batch.channels))
        mono = batch.channels.mean(axis=0) if pick is None else batch.channels[pick].copy()
        at = 0
        for n, time in zip(batch.lengths, batch.times, strict=True):
            yield from clock.add(
                Block(mono[at : at + n], batch.rate), time if known else None, n / batch.rate
            )
            at += n
    yield from clock.finish()


class _Batch(NamedTuple):
    """Samples float32 [channels,n] of successive frames of one format, and each frame's length and time."""

    channels: np.ndarray
    is_float: bool  # whether the file stores its samples as floats
    rate: int
    lengths: list[int]
    times: list[float | None]


def _batches(frames: Iterator[av.AudioFrame]) -> Iterator[_Batch]:
    """Join the samples of frames of one format: for each alone NumPy's calls take longer than the sums."""
    for (form, _, rate), same in groupby(frames, lambda f: (f.format.name, f.layout.name, f.sample_rate)):
        # Packed samples ("flt"): for planar audio with 8 channels PyAV reads a ninth plane and crashes.
        resampler = av.AudioResampler(format="flt", rate=rate)
        while some := list(islice(same, BATCH)):
            found: list[tuple[np.ndarray, int, float | None]] = []
            for frame in some:
                time = frame.time
                for piece in resampler.resample(frame):
                    count = piece.samples * piece.layout.nb_channels
                    packed = np.frombuffer(memoryview(piece.planes[0]), np.float32, count)
                    found.append((packed.reshape(piece.samples, -1), piece.samples, time))
                    time = None if time is None else time + piece.samples / rate
            if found:
                # Contiguous, because sums over every second value take several times as long.
                channels = np.ascontiguousarray(np.concatenate([packed for packed, *_ in found]).T)
                if form.startswith(("flt", "dbl")) and not np.isfinite(channels).all():
                    raise ClipError(Status.UNREADABLE, "the audio holds samples that are not finite")
                lengths, times = [n for _, n, _ in found], [time for *_, time in found]
                yield _Batch(channels, form.startswith(("flt", "dbl")), rate, lengths, times)
