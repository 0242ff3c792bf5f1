"""Cut segments out of a recording in one pass, on the clock of `read_video` and `read_audio`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deiii.data.cache.outcomes import ClipError, Outcome, Status
from deiii.data.tools.counts import counted
from deiii.pipeline.cut.clip_file import ClipFile
from deiii.pipeline.cut.segments import Segment
from deiii.pipeline.media.streaming.audio import LONGEST_S, settled_reader
from deiii.pipeline.media.video import read_video
from deiii.pipeline.media.writing.copies import audio_rate

EDGE_S = 0.0005  # times of tables are rounded to ms: a frame may lie before the begin by this much
AHEAD_S = 0.5  # s by which audio is read before the video frame of the same time
FRAME_S = 0.04  # length of the only frame of a video
SHORT_S = 0.1  # a clip that is shorter than its segment by more than this is reported

Cut = tuple[Path | None, Outcome]  # the file of a segment, if there is one


def cut_recording(
    path: Path,
    segments: Sequence[Segment],
    folder: Path,
    crf: float | None,
    progress: Callable[[float], object] = lambda _: None,
) -> dict[str, Cut]:
    """Write a file for each segment of a recording.

    A file holds the video frames and audio samples whose times are in its segment; their times count from the
    begin of the segment. Audio is one channel of float32 at the rate of the recording, as `read_audio`
    returns it; video is upright, with square pixels and 8 bits.

    Args:
        path: the recording.
        segments: its segments, which may overlap.
        folder: the folder to write into; a clip is called after `Segment.name`.
        crf: constant rate factor, the quality of the video; ``None`` without loss.
        progress: is called with the time in s up to which the recording was read.

    Returns:
        path (``.mov``, or ``.wav`` where no video frame is in the segment; ``None`` without a file) and
        outcome of each segment, keyed by its name. The reason of ``ok_partial`` states what is missing.

    Raises:
        EncoderError: FFmpeg has no H.264 encoder.
        OSError: a file cannot be written; finished segments stay.

    >>> cut_recording(Path("interview.mp4"), segments, Path("clips"), 12)      # doctest: +SKIP
    """
    cutter = _Cutter(path, segments, folder, crf)
    left: dict[str, Cut] = {}
    try:
        cutter.run(progress)
    except ClipError as error:  # of the machine: the next run tries again
        left = {s.name: (None, error.outcome) for s in segments}
    finally:
        for clip in cutter.opened:
            clip.discard()
    return left | cutter.results()


@dataclass
class _Extent:
    """Where a stream of a recording begins and ends, s.

    Attributes:
        begin: time of the first frame or sample; infinite before it was read.
        end: end of the last one; infinite unless the stream was read to its end.
    """

    begin: float = math.inf
    end: float = math.inf

    def within(self, segment: Segment) -> tuple[float, float]:
        """Return the part of a segment that the stream covers, s after the segment's begin."""
        return max(0.0, self.begin - segment.begin), min(segment.end, self.end) - segment.begin


class _Audio:
    """The audio of a recording in blocks.

    Attributes:
        rate: sample rate in Hz; ``None`` without audio.
        error: why there is no audio that can be decoded; ``None`` also for a file without an audio stream.
        end: time in s up to which samples were returned; infinite after the last one.
        extent: where the audio begins and ends.
        notes: defects of the audio, complete after the last sample.
    """

    def __init__(self, path: Path):
        self.rate: int | None = None
        self.error: Outcome | None = None
        self.end = math.inf
        self.extent = _Extent()
        self.notes: list[str] = []
        self._blocks: Iterator[np.ndarray] = iter(())
        self._count = 0
        try:
            rate = audio_rate(str(path))
            if rate is None:
                return
            self._reader = settled_reader(path, rate)
        except ClipError as error:
            if error.outcome.status is Status.FAILED:
                raise
            self.error = error.outcome
            return
        self.rate, self._blocks, self.end = rate, iter(self._reader), -math.inf

    def next(self) -> tuple[np.ndarray, int] | None:
        """Return the next samples float32 [n] and the number of the first one; ``None`` at the end."""
        samples = next(self._blocks, None)
        if samples is None or self.rate is None:
            self.extent.end, self.end = self.end, math.inf
            self.notes = self._reader.track.notes
            return None
        first = round(self._reader.track.start * self.rate) + self._count
        self._count += len(samples)
        self.extent.begin = min(self.extent.begin, first / self.rate)
        self.end = (first + len(samples)) / self.rate
        return samples, first


class _Cutter:
    """One pass over a recording.

    Attributes:
        finished: the files of segments that were read to their ends.
        opened: the files that have begun and not ended.
    """

    def __init__(self, path: Path, segments: Sequence[Segment], folder: Path, crf: float | None):
        self.path, self.folder, self.crf = path, folder, crf
        self.finished: list[ClipFile] = []
        self.opened: list[ClipFile] = []
        self._waiting = sorted(segments, key=lambda s: s.begin, reverse=True)
        self._last = max(s.end for s in segments)
        self._no_video: Outcome | None = None
        self._video = _Extent()
        self._video_notes: list[str] = []

    def run(self, progress: Callable[[float], object]) -> None:
        """Read the recording up to the end of the last segment.

        Raises:
            ClipError: of the machine; others are outcomes of the segments.
        """
        self._audio = _Audio(self.path)
        reader = read_video(self.path, most_s=max(self._last, LONGEST_S))
        previous, step = 0.0, FRAME_S
        try:
            for frame, time in reader.frames():
                if math.isfinite(self._video.begin):
                    step = time - previous
                self._video.begin, previous = min(self._video.begin, time), time
                if time >= self._last:
                    break
                self._add_audio(time + AHEAD_S, time)
                self._begin(time + EDGE_S)
                inside = [c for c in self.opened if _is_inside(c.segment, time)]
                rgb = frame.rgb() if inside else np.zeros(0, np.uint8)
                for clip in inside:
                    clip.add_frame(rgb, time, frame.raw.is_corrupt)
                self._finish(time)
                progress(time)
            else:
                self._video.end = previous + step
                self._video_notes = reader.notes
        except ClipError as error:
            if error.outcome.status is Status.FAILED:
                raise
            self._no_video = error.outcome
            self._video.end = previous + step
            if error.outcome.status is not Status.NO_VIDEO:
                self._video_notes = [error.outcome.reason]
        self._add_audio(self._last, math.inf)
        self._begin(self._last)
        self._audio.end = math.inf
        self._finish(math.inf)
        progress(self._last)

    def _begin(self, time: float) -> None:
        """Open the files of the segments that begin at or before a time in s."""
        while self._waiting and self._waiting[-1].begin <= time:
            segment = self._waiting.pop()
            self.opened.append(ClipFile(segment, self.folder / segment.name, self._audio.rate, self.crf))

    def _add_audio(self, time: float, seen: float) -> None:
        """Add the audio before a time in s to the open files; video frames before ``seen`` s were read."""
        rate = self._audio.rate
        while rate is not None and self._audio.end < time and (found := self._audio.next()) is not None:
            samples, first = found
            self._begin(self._audio.end)
            for clip in self.opened:
                low, high = round(clip.segment.begin * rate), round(clip.segment.end * rate)
                part = samples[max(0, low - first) : max(0, high - first)]
                if len(part):
                    clip.add_samples(part, max(first - low, 0), clip.segment.end > seen)
            self._finish(seen)

    def _finish(self, time: float) -> None:
        """Finish the files whose segments end before a time in s, for which all audio was read."""
        for clip in [c for c in self.opened if c.segment.end <= min(time, self._audio.end)]:
            clip.finish()
            self.opened.remove(clip)
            self.finished.append(clip)

    def results(self) -> dict[str, Cut]:
        """Return path and outcome of each segment that was read to its end, keyed by its name."""
        return {clip.segment.name: (clip.path, self._outcome(clip)) for clip in self.finished}

    def _outcome(self, clip: ClipFile) -> Outcome:
        segment, no_audio, no_video = clip.segment, self._audio.error, self._no_video
        if clip.path is None:
            if no_video is not None and self._audio.rate is None:
                # For a file without a video stream, the reason is that of its audio.
                return no_audio if no_audio and no_video.status is Status.NO_VIDEO else no_video
            why = f"the recording ends before this segment begins ({segment.begin:g} s)"
            return Outcome(Status.TOO_SHORT, "; ".join([why, *self._video_notes, *self._audio.notes]), 0.0)
        words = [f"without audio: {no_audio.reason}"] if no_audio else []
        if self._audio.rate is not None and not clip.sounds:
            words.append("without audio: the recording has none in this segment")
        if clip.path.suffix == ".wav" and (no_video is None or no_video.status is not Status.NO_VIDEO):
            why = no_video.reason if no_video else "no video frame of the recording is in this segment"
            words.append(f"without video: {why}")
        share, missing = self._coverage(clip)
        words += missing
        if clip.damaged:
            words.append(f"{clip.damaged} of {counted(clip.frames, 'video frame')} were decoded with damage")
        if not words:
            return Outcome(Status.OK)
        return Outcome(Status.OK_PARTIAL, "; ".join(words), share)

    def _coverage(self, clip: ClipFile) -> tuple[float, list[str]]:
        """Return the share of a segment that its file has, and what is missing of its streams."""
        streams = [("video", self._video, self._video_notes)] if clip.frames else []
        streams += [("audio", self._audio.extent, self._audio.notes)] if clip.sounds else []
        wanted = clip.segment.end - clip.segment.begin
        of_wanted = f"after the begin of this segment of {wanted:.2f} s"
        whole = max(extent.within(clip.segment)[1] for _, extent, _ in streams)
        words = []
        for name, extent, notes in streams:
            begin, end = extent.within(clip.segment)
            if begin > SHORT_S:
                words.append(f"the {name} begins {begin:.2f} s {of_wanted}")
            if end < whole - SHORT_S:
                words.append(f"the {name} ends {end:.2f} s {of_wanted}")
            if end < wanted - SHORT_S:
                words += notes
        if whole < wanted - SHORT_S:
            words.insert(0, f"the recording ends {whole:.2f} s {of_wanted}")
        return min(1.0, whole / wanted), words


def _is_inside(segment: Segment, time: float) -> bool:
    return segment.begin - EDGE_S <= time < segment.end - EDGE_S
