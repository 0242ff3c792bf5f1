"""The features of a live source, computed as its frames arrive.

`deiii.pipeline.streaming.file.FileStream` uses the whole file, a live source has its past alone: faces are
smoothed by earlier frames, the floor of the log-mel follows the loudest sound so far, channels are averaged,
and ``logmel.trim_db`` has no effect. Where the video stops or begins late, rows of audio alone follow.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

import numpy as np

from deiii.data.cache.stages import FACES, FLOW, LOGMEL, get_stage, with_upstream
from deiii.data.config.schema import Config
from deiii.pipeline.faces.grid import Grid
from deiii.pipeline.faces.stream import FaceStream
from deiii.pipeline.flow.stream import FlowStream
from deiii.pipeline.logmel.stage import row_seconds
from deiii.pipeline.logmel.stream import Levels, MelStream
from deiii.pipeline.media.frame import DecodedFrame
from deiii.pipeline.media.streaming.address import LiveError
from deiii.pipeline.media.streaming.audio import Resampler
from deiii.pipeline.media.streaming.items import AudioPiece, Picture
from deiii.pipeline.media.streaming.live import LiveReader
from deiii.pipeline.stages.clip import loaded_models
from deiii.pipeline.streaming.file import refuse_unstreamed
from deiii.pipeline.streaming.levels import MelHistory
from deiii.pipeline.streaming.rows import Recent, Rows

EVERY = 4  # frames between two detections at most, because rows wait for the next detection
BEHIND_S = 3.0  # length of the video from which the path of the face is smoothed
AUDIO_PART_S = 0.1  # length of the audio that is resampled at a time
FIRST_RATE = 48_000  # sample rate of the silence with which the log-mel is run before the source is opened
GAP_S = 0.3  # gap in the audio after which the log-mel begins anew
SILENT_S = 2.0  # where one of audio and video stops, the other one waits this long for it


class LiveStream:
    """Features of a live source, in order; see `deiii.model.prediction.windows.moments.Source`.

    Args:
        source: number of a camera, URL or file; see `deiii.pipeline.media.streaming.address.address`.
        config: settings.
        stages: names of the stages to compute.
        keep_pictures: whether `settled_pictures` is called, which returns the video frames.
        report: receives a line where a connection is lost, and where it is there again.

    Attributes:
        reader: reader of the source.
        ready_s: newest row of the video, or of the audio where there is no video or it stops, s.
        ended: whether the source has ended.

    Raises:
        ConfigError: a stage needs the whole recording.
        LiveError: the source cannot be opened, or has none of the streams that the stages read.
    """

    def __init__(
        self,
        source: str,
        config: Config,
        stages: Collection[str],
        keep_pictures: bool = False,
        report: Callable[[str], None] = lambda text: None,
    ):
        self._kept: deque[Picture] | None = deque() if keep_pictures else None
        self.stages = with_upstream(stages)
        refuse_unstreamed(self.stages, config)
        self.config = config
        self.ready_s = 0.0
        self.ended = False
        # Loaded before the source is opened, so that no frame waits for it.
        self._faces = self._flow = None
        if FACES.name in self.stages:
            faces = replace(config.faces, every=min(config.faces.every, EVERY))
            (detector,) = loaded_models(get_stage(FACES.name), config)
            self._faces = FaceStream(faces, detector, ahead_s=0.0, behind_s=BEHIND_S, block_s=0.0)
        if FLOW.name in self.stages:
            self._flow = FlowStream(config.flow, *loaded_models(get_stage(FLOW.name), config))
        self._recent = {name: Recent() for name in self.stages}
        self._arrived: deque[tuple[float, float]] = deque(maxlen=200)  # time and arrival of video frames
        self._warm_up()
        self._history = MelHistory(config.logmel.n_mels)
        self._loudest = -math.inf
        self._resampler: Resampler | None = None
        self._mel: MelStream | None = None
        self._mel_at = self._audio_end = 0.0
        self._settled_s = 0.0  # frames up to here do not wait for audio
        self._rate = 0  # of the audio, Hz; a new connection may have another one
        reads_video = self._faces is not None
        self.reader = LiveReader(source, LOGMEL.name in self.stages, reads_video or keep_pictures, report)
        self.reader.start()
        with_video = reads_video and self.reader.has_video
        if not with_video and not self.reader.has_audio:
            self.reader.close()
            raise LiveError(
                f"live source {self.reader.name} has no audio, and the network reads nothing else; name "
                "another stream"
            )
        self._steps = self._read_video() if with_video else self._read_audio()

    def _warm_up(self) -> None:
        """Compute a log-mel and a flow of no source: the first call imports and compiles for seconds."""
        if LOGMEL.name in self.stages:
            resampler = Resampler(FIRST_RATE, self.config.logmel.sample_rate, AUDIO_PART_S)
            MelStream(self.config.logmel, 1).push(resampler.push(np.zeros(FIRST_RATE, np.float32)))
        if self._flow is not None:
            size = self.config.faces.size
            rows = {"frames": np.zeros((2, size, size, 3), np.uint8), "time": np.array([0, 0.04])}
            FlowStream(self.config.flow, self._flow.engine).push({**rows, "valid": np.ones(2, bool)})

    def close(self) -> None:
        """End the reading."""
        self.reader.close()

    @property
    def end_s(self) -> float:
        """The newest row, s."""
        return self.ready_s

    def advance(self) -> bool:
        """Wait for more rows; False where the source has ended."""
        found = next(self._steps, None)
        self.ended = found is None
        self.ready_s = self.ready_s if found is None else max(self.ready_s, found)
        return not self.ended

    def arrived(self, time_s: float) -> float:
        """Return when the last frame up to a time arrived, s on `time.monotonic`."""
        return next((a for t, a in reversed(self._arrived) if t <= time_s + 1e-6), time.monotonic())

    def arrays(self, begin_s: float, end_s: float) -> dict[str, Rows]:
        """Return, by stage, all rows that are kept, whatever the interval; of faces those with known flow."""
        found = {name: rows for name, recent in self._recent.items() if (rows := recent.rows())}
        if self._flow is not None and (faces := found.pop(FACES.name, None)) and FLOW.name in found:
            complete = np.searchsorted(faces["time"], found[FLOW.name]["time"][-1], side="right")
            if complete:
                found[FACES.name] = {name: values[:complete] for name, values in faces.items()}
        if LOGMEL.name in found:
            floor = self._loudest + self.config.logmel.floor_db
            rows = found[LOGMEL.name]
            found[LOGMEL.name] = {**rows, "logmel": np.maximum(rows["logmel"], floor).astype(np.float16)}
        return found

    def settled_pictures(self) -> list[Picture]:
        """Return the video frames up to the newest known row that were not returned before.

        Where the audio that the network reads does not go on, older frames than the last `SILENT_S` do not
        wait for it.
        """
        found: list[Picture] = []
        while self._kept and self._kept[0].time_s <= max(self.ready_s, self._settled_s) + 1e-6:
            found.append(self._kept.popleft())
        return found

    def forget(self, before_s: float) -> None:
        """Free rows before a time in s."""
        for recent in self._recent.values():
            recent.forget(before_s)

    def levels(self, least: float) -> Levels | None:
        """Return mean and deviation of the mel bands over all audio so far, with the floor that it has now.

        ``None`` without audio.
        """
        return self._history.levels(self._loudest + self.config.logmel.floor_db, least)

    def _read_video(self) -> Iterator[float]:
        if self._faces is None:
            return
        grid: Grid[DecodedFrame] = Grid(self.config.faces.fps)
        unseen_s = 0.0  # length of the audio since the newest video frame
        for item in self.reader:
            if isinstance(item, Picture):
                unseen_s = 0.0
                self._arrived.append((item.time_s, item.arrived))
                self._keep(item)
                for shown in grid.push(item.frame, item.time_s):
                    yield from self._add_faces(self._faces.push(*shown))
            else:
                unseen_s += len(item.samples) / item.rate
                goes_on = self._add_audio(item)
                if goes_on and unseen_s > SILENT_S and not self.reader.frames_wait:
                    self._arrived.append((item.time_s, time.monotonic()))
                    yield self._mel_at  # the video does not go on; the audio does
        for shown in grid.finish():
            yield from self._add_faces(self._faces.push(*shown))
        yield from self._add_faces(self._faces.finish())

    def _add_faces(self, rows: Rows | None) -> Iterator[float]:
        """Keep rows of the faces stage and compute their flow; yields the time of the newest complete row."""
        if rows is None:
            return
        self._recent[FACES.name].add({n: v for n, v in rows.items() if n != "frame"})
        known = rows["time"]
        if self._flow is not None:
            flow = self._flow.push(rows)
            known = np.zeros(0) if flow is None else flow["time"]
            if flow is not None:
                self._recent[FLOW.name].add(flow)
        if len(known):  # the flow of the newest frame needs the next one
            yield float(known[-1])

    def _keep(self, picture: Picture) -> None:
        if self._kept is not None:
            self._kept.append(picture)

    def _read_audio(self) -> Iterator[float]:
        for item in self.reader:
            if isinstance(item, Picture):
                self._keep(item)
                if item.time_s - SILENT_S > max(self._mel_at, self._settled_s):
                    self._settled_s = item.time_s - SILENT_S
                    yield self._mel_at  # the audio has no new row, and `settled_pictures` has new frames
            else:
                self._arrived.append((item.time_s, time.monotonic()))
                if self._add_audio(item):
                    yield self._mel_at

    def _add_audio(self, item: AudioPiece) -> bool:
        """Add audio to the log-mel; after a gap, or at another rate, start a new log-mel.

        Returns whether the log-mel goes on further than before.
        """
        config, before = self.config.logmel, self._mel_at
        goes_on = item.rate == self._rate and abs(item.time_s - self._audio_end) <= GAP_S
        if self._resampler is None or self._mel is None or not goes_on:
            self._rate = item.rate
            self._resampler = Resampler(item.rate, config.sample_rate, AUDIO_PART_S)
            self._mel = MelStream(config, least_rows=1)
            self._mel_at = max(item.time_s, self._mel_at)
            self._audio_end = item.time_s
        self._audio_end += len(item.samples) / item.rate
        rows = self._mel.push(self._resampler.push(item.samples))
        if not len(rows):
            return self._mel_at > before
        time_s = self._mel_at + np.arange(len(rows)) * row_seconds(config)
        self._mel_at = float(time_s[-1]) + row_seconds(config)
        self._recent[LOGMEL.name].add({"logmel": rows, "time": time_s})
        self._loudest = max(self._loudest, float(rows.max()))
        self._history.add(rows)
        return True
