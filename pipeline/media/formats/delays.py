"""Where time 0 of a file lies, and the delay of its audio, where the file does not state them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import av

from deiii.pipeline.media.clock import JUMP_S, Clock
from deiii.pipeline.media.container import MATROSKA
from deiii.pipeline.media.joins import Join, Packet, PacketTable

# Encoders put some samples of silence before the audio. These containers do not state how many. Video and the
# audible part are late by this silence, which begins at most this many samples before the video.
PRIMED = frozenset({"flv", "mpegts", "mpeg", MATROSKA})
VORBIS = ("vorbis", "libvorbis")
PRIMING = {"aac": 2112, "mp3": 1152, "mp3float": 1152, "mp2": 1152, "mp2float": 1152, "ac3": 256, "eac3": 256}
PRIMING |= dict.fromkeys(VORBIS, 256)  # a short block, which has no samples; remuxed Ogg begins with it
WRONG_ZERO_S = 0.2  # a file that begins this much after its streams has a wrong first timestamp
ROUNDING_S = 0.002  # largest rounding error of timestamps in ms
# Smallest delay of audio by coding and decoding, in samples, the same for every encoder: the overlap of the
# transforms and the filterbank (LAME's FAQ on MP3: 528 + 1 + 528). AVI cannot state that audio begins before
# the video, so the video does not wait for it.
LEAST_DELAY = {
    "aac": 1024,
    "mp3": 1057,
    "mp3float": 1057,
    "mp2": 481,
    "mp2float": 481,
    "ac3": 256,
    "eac3": 256,
}
# Delay in samples of the audio of mp4 files that name this encoder and declare no delay. Mainconcept's AAC
# encoder, which Adobe's programs use, wrote the videos of RAVDESS: their audio is 1,600 samples later than in
# the recordings of the same takes without video.
UNDECLARED_DELAY = {("mainconcept", "aac"): 1600}


def first_block(
    container: av.container.InputContainer, stream: av.stream.Stream, stamp: float | None, seconds: float
) -> float:
    """Return the duration in s of Vorbis's first packet if timestamps count it, which has no samples.

    FFmpeg does so where a whole recording lies on one page of an Ogg file; else the first packet lies before
    time 0.

    Args:
        container, stream: container and stream of the packet.
        stamp, seconds: timestamp and duration of the first packet, s.
    """
    vorbis = isinstance(stream, av.AudioStream) and stream.codec_context.name in VORBIS
    return seconds if vorbis and container.format.name == "ogg" and stamp == 0 else 0.0


def encoder_delay(stream: av.AudioStream, in_avi: bool) -> float:
    """Return the delay in s that the encoder gave a stream's audio, if the file does not state it."""
    codec = stream.codec_context
    writer = stream.metadata.get("handler_name", "").lstrip("#").split(" ")[0].lower()
    samples = LEAST_DELAY.get(codec.name, 0) if in_avi else UNDECLARED_DELAY.get((writer, codec.name), 0)
    return samples / max(1000, codec.sample_rate)


def offset_and_delay(
    container: av.container.InputContainer,
    stream: av.VideoStream | av.AudioStream,
    packets: Sequence[Packet],
    late: float,
    sorted_times: bool,
    delayed: bool,
) -> tuple[float, float]:
    """Return what to subtract from a stream's timestamps, and how much of it is the encoder's delay, in s.

    Args:
        container: container of the stream.
        stream: the stream.
        packets: its packets.
        late: how late the stream is because its timestamps come from another clock, s; 0 if they do not.
        sorted_times: whether the container stores no order of presentation (AVI).
        delayed: whether an audio encoder's delay counts: the file has video, and its audio begins at time 0.
    """
    if sorted_times and isinstance(stream, av.VideoStream):
        both = ((p.stamp, p.decoded) for p in packets if p.stamp is not None and p.decoded is not None)
        return next((stamp - decoded for stamp, decoded in both), 0.0), 0.0
    if late:
        return late, 0.0
    if packets and (block := first_block(container, stream, packets[0].stamp, packets[0].seconds)):
        return block, 0.0
    if delayed and isinstance(stream, av.AudioStream):
        delay = encoder_delay(stream, sorted_times)
        return delay, delay
    return 0.0, 0.0


def priming_seconds(
    container: av.container.InputContainer,
    streams: Sequence[av.stream.Stream],
    starts: Sequence[float | None],
    zero: float,
    unit: float,
) -> float:
    """Return the length of the silence before the video that the encoder of the audio added, s.

    Args:
        container: container of the streams.
        streams: the video stream and the audio stream to use.
        starts: when each of them begins, s.
        zero: time 0, s.
        unit: unit to which the timestamps were rounded, s; 0 if they were not.
    """
    found = {isinstance(s, av.AudioStream): start for s, start in zip(streams, starts, strict=True)}
    seen, heard = found.get(False), found.get(True)
    if container.format.name not in PRIMED or seen is None or heard is None:
        return 0.0
    audio = next(s.codec_context for s in streams if isinstance(s, av.AudioStream))
    rounding = ROUNDING_S + 0.1 * unit
    most = PRIMING.get(audio.name, 0) / max(1000, audio.sample_rate) + rounding
    return seen - zero if abs(heard - zero) < rounding < seen - zero <= most else 0.0


def time_zero(
    container: av.container.InputContainer, packets: Sequence[Sequence[Packet]], steps: Sequence[float]
) -> float:
    """Return the timestamp in s that is time 0 of the clip.

    It is the container's start, the earliest first timestamp of its streams as FFmpeg reports it; where a
    wrong first timestamp made that too late, it is the earliest start of the streams used.
    """
    zero = (container.start_time or 0) / av.time_base
    first = [list(islice((p for p in found if p.stamp is not None), 64)) for found in packets]
    if all(zero - p.stamp <= WRONG_ZERO_S for found in first for p in found if p.stamp is not None):
        return zero
    starts = []
    for found, step in zip(first, steps, strict=True):
        clock: Clock[None] = Clock(step, max(0.03, 0.6 * step), reorder=True)
        placed = [one for packet in found for one in clock.add(None, packet.stamp, packet.seconds)]
        starts += [time for _, time in placed + clock.finish()]
    return min(starts) if zero - min(starts) > WRONG_ZERO_S else zero


def late_streams(packets: Sequence[PacketTable], zero: float, joins: Sequence[Join]) -> list[float]:
    """Return how late each stream is, in s: a stream that begins long after the end of the other one is late.

    Such streams were stamped by different clocks.
    """
    spans = [span for found in packets if (span := found.span())]
    if len(packets) != 2 or len(spans) != 2 or joins:
        return [0.0] * len(packets)
    starts, ends = zip(*spans, strict=True)
    return [starts[i] - zero if starts[i] - ends[1 - i] > JUMP_S else 0.0 for i in (0, 1)]
