"""The audio of a long file as mono samples, in parts; memory does not grow with its length.

`deiii.pipeline.media.audio.read_audio` decides from the whole recording which stream is used, whether
channels cancel each other, and by what float samples are divided. `AudioReader` takes these facts and checks
them after a pass; `settled_passes` repeats the pass until they are right, which is seldom needed.

>>> for reader in settled_passes("long.mp4", 16000):  # doctest: +SKIP
...     for samples in reader:
...         print(len(samples))
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import soxr  # comes with librosa, which resamples with it

from deiii.data.cache.outcomes import ClipError
from deiii.pipeline.media.audio import mixed_blocks
from deiii.pipeline.media.levels import SILENT_PEAK, PeakMeter
from deiii.pipeline.media.samples.track import AudioTrack

LONGEST_S = 48 * 3600.0  # a longer recording is assumed to have wrong timestamps
BLOCK_S = 1.0  # samples are resampled in blocks of about this length, s
CANCELLED = "the channels cancel each other (opposite phase); the strongest one was used alone"
KEPT_FACTS = 4  # number of files whose facts are kept


@dataclass(frozen=True)
class AudioFacts:
    """Facts on the audio of a recording that depend on all of it.

    Attributes:
        picks: the number of the one channel that is used alone, keyed by the number of channels.
        useless: indices of streams without audio.
        scale: number by which the samples are divided.
        remark: remark on the scale; empty if it is 1.
        last: whether no other stream is to be tried.
    """

    picks: Mapping[int, int] = field(default_factory=dict)
    useless: tuple[int, ...] = ()
    scale: float = 1.0
    remark: str = ""
    last: bool = False


class Resampler:
    """Resample parts of a signal as `deiii.pipeline.media.audio.read_audio` resamples the whole.

    Args:
        source, target: rates in Hz.
        block_s: least length of what is resampled at a time, s.
    """

    def __init__(self, source: int, target: int, block_s: float = BLOCK_S):
        self._ratio = target / source
        self._same = source == target
        self._least = max(1, round(block_s * source))
        self._stream = None if self._same else soxr.ResampleStream(source, target, 1, "float32", "soxr_hq")
        self._held: list[np.ndarray] = []
        self._waiting = 0
        self._taken = 0
        self._given = 0

    def push(self, samples: np.ndarray, last: bool = False) -> np.ndarray:
        """Take samples, float32 [n]; returns those at the target rate that are known by now, float32 [m]."""
        self._held.append(samples)
        self._waiting += len(samples)
        if self._waiting < self._least and not last:
            return samples[:0]
        joined = np.ascontiguousarray(np.concatenate(self._held), np.float32)
        self._held, self._waiting = [], 0
        self._taken += len(joined)
        out = joined if self._stream is None else self._stream.resample_chunk(joined, last=last)
        if last and not self._same:  # librosa returns this number of samples for the whole signal
            wanted = math.ceil(self._taken * self._ratio) - self._given
            out = np.pad(out[:wanted], (0, max(0, wanted - len(out))))
        self._given += len(out)
        return out


class AudioReader:
    """One pass over a file's audio; iterating yields float32 samples without gaps between them.

    The attributes are complete after iteration.

    Args:
        path: the media file.
        sample_rate: wanted rate in Hz.
        facts: facts about the recording.

    Attributes:
        track: notes, remarks, seconds that were filled with silence, and time of the first sample.
        count: how many samples were yielded.
        meter: level meter of their peak.
        sounds: whether any sample is not zero.
    """

    def __init__(self, path: str | os.PathLike, sample_rate: int, facts: AudioFacts | None = None):
        self.path = os.fspath(path)
        self.sample_rate = sample_rate
        self.facts = facts or AudioFacts()
        self.track = AudioTrack(most_s=LONGEST_S)
        self.meter = PeakMeter()
        self.count = 0
        self.sounds = False
        self._failed = False

    def __iter__(self) -> Iterator[np.ndarray]:
        try:
            yield from self._samples()
        except ClipError:
            if not self.facts.useless and (self.facts.last or not self._others):
                raise
            self._failed = True

    @property
    def _others(self) -> tuple[int, ...]:
        """Return the streams not to use in the next pass; empty where this was the last stream to try."""
        facts, track = self.facts, self.track
        more = track.index >= 0 and len(facts.useless) + 1 < track.streams
        return (*facts.useless, track.index) if more else ()

    def _samples(self) -> Iterator[np.ndarray]:
        resampler: Resampler | None = None
        pieces = 0
        for block, time in mixed_blocks(self.path, self.facts.picks, self.facts.useless, self.track):
            parts = self.track.place(block, time)
            if len(self.track.pieces) != pieces:
                if resampler is not None:
                    yield from self._given(resampler.push(np.zeros(0, np.float32), last=True))
                pieces = len(self.track.pieces)
                resampler = Resampler(block.rate, self.sample_rate)
            for samples in parts:
                if resampler is not None:
                    yield from self._given(resampler.push(samples))
        if resampler is not None:
            yield from self._given(resampler.push(np.zeros(0, np.float32), last=True))

    def _given(self, samples: np.ndarray) -> Iterator[np.ndarray]:
        if not len(samples):
            return
        if self.facts.scale != 1.0:
            samples = samples / np.float32(self.facts.scale)
        self.count += len(samples)
        self.sounds = self.sounds or bool(samples.any())
        self.meter.add(samples)
        yield samples

    def better_facts(self) -> AudioFacts | None:
        """Return, after a pass, the facts for another one; ``None`` where this one used the right ones."""
        facts, track = self.facts, self.track
        if self._failed:
            return AudioFacts(useless=self._others, last=not self._others)
        if not facts.picks and (picks := track.levels.cancelled()):
            return replace(facts, picks=picks)
        silent = self.meter.value() < SILENT_PEAK
        if silent and not facts.last:
            if self._others:
                return AudioFacts(useless=self._others)
            return AudioFacts(last=True) if facts.useless else None
        scale, remark = track.levels.scale()
        return replace(facts, scale=scale, remark=remark) if scale != facts.scale else None


_facts: dict[tuple[object, ...], AudioFacts] = {}


def settled_passes(path: str | os.PathLike, sample_rate: int) -> Iterator[AudioReader]:
    """Yield readers of a file's audio; the caller reads each to its end and uses the last one's samples.

    There is one reader unless the recording is unusual. Its facts are kept for as long as the file stays the
    same. Going through a reader raises ClipError where there is no audio to decode.
    """
    state = _state(path)
    facts = _facts.get(state, AudioFacts())
    while True:
        reader = AudioReader(path, sample_rate, facts)
        yield reader
        better = reader.better_facts()
        if better is None:
            break
        facts = better
    _facts[state] = facts
    for old in list(_facts)[:-KEPT_FACTS]:
        _facts.pop(old, None)
    reader.track.remarks += [CANCELLED] if facts.picks else []
    reader.track.remarks += [facts.remark] if facts.remark else []


def settled_reader(path: str | os.PathLike, sample_rate: int) -> AudioReader:
    """Return the reader with the right facts, before its pass; reads the file where they are not known yet.

    Raises:
        ClipError: no audio can be decoded.
    """
    facts = _facts.get(_state(path))
    if facts is None:
        for reader in settled_passes(path, sample_rate):
            for _ in reader:
                pass
        facts = reader.facts  # not of `_facts`: lost where the file changed, or threads read many files
    return AudioReader(path, sample_rate, facts)


def _state(path: str | os.PathLike) -> tuple[object, ...]:
    try:
        found = os.stat(path)
    except OSError:  # the reader reports the error when it opens the file
        return (os.fspath(path),)
    return os.fspath(path), found.st_size, found.st_mtime_ns, found.st_ino
