"""The features of a file of any length, computed in order with bounded memory.

`FileStream` reads video and audio side by side. Faces are tracked, crops are cut and flow is computed once
per video frame; only the rows that windows still need are in memory. The log-mel of the whole file
is in a temporary file, because its floor, and the choice of channels, depend on all of the audio.

>>> with FileStream("long.mp4", config, ["faces", "flow", "logmel"]) as stream:   # doctest: +SKIP
...     while stream.advance():
...         arrays = stream.arrays(stream.ready_s - 2, stream.ready_s)
...         stream.forget(stream.ready_s - 2)
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType

import numpy as np

from deiii.data.cache.outcomes import ClipError, Outcome
from deiii.data.cache.stages import FACES, FLOW, LOGMEL, get_stage, with_upstream
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.tools.row_times import end_of_rows
from deiii.pipeline.faces.mouth import audio_envelope
from deiii.pipeline.faces.people import FacePerson, find_people
from deiii.pipeline.faces.quality import Portrait, StreamedFigures, shows_pose
from deiii.pipeline.faces.speaker import rows_of
from deiii.pipeline.faces.stage import faces_outcome, no_face
from deiii.pipeline.faces.stream import BLOCK_S, FaceStream
from deiii.pipeline.faces.tracking import Track
from deiii.pipeline.flow.stage import flow_outcome
from deiii.pipeline.flow.stream import FlowStream
from deiii.pipeline.logmel.stream import Levels, SpooledLogMel
from deiii.pipeline.media.lengths import declared_size
from deiii.pipeline.media.streaming.audio import LONGEST_S
from deiii.pipeline.media.survey import joined_parts, survey
from deiii.pipeline.media.video import VideoReader, read_video
from deiii.pipeline.stages.clip import inherited, loaded_models
from deiii.pipeline.streaming.rows import DiskRows, Recent, Rows

KEEP_BYTES = 128 * 2**20  # decoded frames that wait for later ones; more are decoded a second time
LOOK_S = 0.5  # between two looks at how much audio has been read
STREAMED = (FACES.name, FLOW.name, LOGMEL.name)
SUMMARY = ("time", "valid", "box", "frame")  # of the faces stage, kept for the whole file: 33 bytes a frame


def refuse_unstreamed(stages: Collection[str], config: Config) -> None:
    """Check that stages can be computed in order with bounded memory.

    Raises:
        ConfigError: a stage of another package or an encoder is needed, or settings need the whole file.
    """
    other = [name for name in stages if name not in STREAMED]
    if other:
        raise ConfigError(
            f"the network reads {', '.join(other)}, which cannot be computed while a recording is read; "
            "use predict, which reads the whole file, on parts of it"
        )
    if FACES.name in stages and config.faces.align == "static":
        raise ConfigError(
            "the network was trained with faces.align=static, which takes one box from the whole file; "
            "use predict on parts of the recording"
        )


def can_stream(stages: Collection[str], config: Config) -> bool:
    """Return whether `refuse_unstreamed` accepts the stages."""
    try:
        refuse_unstreamed(stages, config)
    except ConfigError:
        return False
    return True


class FileStream:
    """Features of one file, in order.

    Args:
        path: any media file.
        config: settings.
        stages: names of the stages to compute; those upstream are also computed.
        keep_flow: a folder for a temporary file with all flow, for an overlay video; ``None`` for none.
        tracks: tracks of the person whose face is cropped, from `deiii.pipeline.faces.people.find_people`; by
            default ``faces.pick`` chooses. The outcome then counts the frames of these tracks alone.

    Attributes:
        ready_s: the rows of all stages up to this time are known, s.
        ended: whether all of the file was read.
        error: why the file cannot be opened; ``None`` where it can.
        portrait: the sharpest crop so far.
        face: sharpness, brightness and direction of the face so far.
        others_s: for how long faces beside the one that ``faces.pick`` chooses were visible so far, s.

    Raises:
        ConfigError: a stage needs the whole file.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        config: Config,
        stages: Collection[str],
        keep_flow: str | os.PathLike[str] | None = None,
        tracks: list[Track] | None = None,
    ):
        self.path, self.config = os.fspath(path), config
        self.stages = with_upstream(stages)
        refuse_unstreamed(self.stages, config)
        self.ready_s = -math.inf
        self.ended = False
        self._recent = {FACES.name: Recent(), FLOW.name: Recent()}
        self._summary: dict[str, list[np.ndarray]] = {name: [] for name in SUMMARY}
        self._flow_valid: list[np.ndarray] = []
        self._kept_flow: dict[str, DiskRows] = {}
        self._keep_flow = keep_flow
        self._tracks = tracks
        self.portrait = Portrait()
        self.face = StreamedFigures(shows_pose(config.faces))
        self.others_s = 0.0
        self._outcomes: dict[str, Outcome] = {}
        self._executor = ThreadPoolExecutor(1)
        self.error: ClipError | None = None
        self._ends: list[float] = []  # end of the video in each recording of the file, s
        # Surveyed here, before both readers do it and keep packets.
        try:
            self._ends = video_ends(self.path, config.faces.fps)
        except ClipError as error:  # each reader gets the same error and records it
            self.error = error
        self._audio: SpooledLogMel | None = None
        self._spool = SpooledLogMel(config.logmel)
        self._spooling: Future[None] | None = None
        if LOGMEL.name in self.stages:
            self._spooling = self._executor.submit(self._spool.compute, self.path)
        self._video = self._read_video() if FACES.name in self.stages else iter(())

    def __enter__(self) -> FileStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the reading and free the temporary file of the audio."""
        close = getattr(self._video, "close", None)
        if close is not None:
            close()
        self._spool.stop()
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._spool.close()

    def expected_s(self) -> float:
        """Return the duration in s according to the packets; 0 if nothing can be read."""
        ends = self._ends[-1:] if self.has_video else []
        audio = self.audio()
        if audio is not None:
            ends.append(audio.end_s)
        return max(ends, default=0.0)

    def wait_for_audio(self, progress: Callable[[float], None]) -> None:
        """Wait until the log-mel is computed; ``progress`` receives the time in s up to which it is."""
        if self._spooling is None:
            return
        while wait([self._spooling], LOOK_S).not_done:
            progress(self._spool.read_s)
        progress(self._spool.read_s)  # also where it was computed before the first look

    def audio(self) -> SpooledLogMel | None:
        """Return the log-mel of the file; waits until it is computed. ``None`` where there is none."""
        if self._spooling is not None and self._audio is None and LOGMEL.name not in self._outcomes:
            try:
                self._spooling.result()
                self._audio = self._spool
                self._outcomes[LOGMEL.name] = self._audio.outcome
            except ClipError as error:
                self._outcomes[LOGMEL.name] = error.outcome
        return self._audio

    @property
    def has_video(self) -> bool:
        """Whether the file has a video stream that is read."""
        return FACES.name in self.stages and bool(self._ends)

    def levels(self, least: float) -> Levels | None:
        """Return mean and deviation of the mel bands over the whole file; ``None`` without audio."""
        audio = self.audio()
        return None if audio is None else audio.levels(least)

    def advance(self) -> bool:
        """Read on until more rows are known; False where the file has ended."""
        if self.ended:
            return False
        self.ready_s = next(self._video, math.inf)
        self.ended = math.isinf(self.ready_s)
        return not self.ended

    def arrays(self, begin_s: float, end_s: float) -> dict[str, Rows]:
        """Return, by stage, the log-mel of [begin, end) in s, and all kept rows of faces and flow."""
        found = {name: rows for name in (FACES.name, FLOW.name) if (rows := self._recent[name].rows())}
        audio = self.audio()
        if audio is not None:
            found[LOGMEL.name] = audio.between(begin_s, end_s)
        return found

    def forget(self, before_s: float) -> None:
        """Free rows before a time in s."""
        for recent in self._recent.values():
            recent.forget(before_s)

    def leave_out_video(self) -> None:
        """Free all video, so that what follows is computed from audio alone."""
        self.forget(math.inf)

    @property
    def end_s(self) -> float:
        """End of the last row, s; exact at the end of the file."""
        ends = [0.0]
        time = self.track()["time"]
        if len(time):
            ends.append(end_of_rows(time))
        audio = self.audio() if self.ended else self._audio
        if audio is not None:
            ends.append(audio.end_s)
        return max(ends)

    def track(self) -> Rows:
        """Return time, box and validity of all rows of the faces stage so far; see `SUMMARY`."""
        shapes = {"box": (0, 4)}
        return {n: np.concatenate(v) if v else np.zeros(shapes.get(n, 0)) for n, v in self._summary.items()}

    def flow(self) -> dict[str, np.ndarray | DiskRows]:
        """Return the fields of the flow stage for an overlay: ``valid``, and those in the temporary file."""
        if not self._flow_valid:
            return {}
        return {"valid": np.concatenate(self._flow_valid), **self._kept_flow}

    def outcomes(self) -> dict[str, Outcome]:
        """Return the outcome of each stage, at the end of the file."""
        self.audio()
        if FLOW.name in self.stages:
            faces = self._outcomes[FACES.name]
            valid = np.concatenate(self._flow_valid) if self._flow_valid else np.zeros(0, bool)
            usable = faces.usable
            self._outcomes[FLOW.name] = flow_outcome(valid) if usable else inherited(FLOW.name, faces).outcome
        return {name: self._outcomes[name] for name in self.stages}

    def _read_video(self) -> Iterator[float]:
        """Compute faces and flow; yields the time in s up to which they are known."""
        config = self.config
        (detector,) = loaded_models(get_stage(FACES.name), config)
        active = config.faces.pick == "active" and self._tracks is None
        audio = audio_envelope(self.path) if active else None
        faces = FaceStream(config.faces, detector, audio=audio, tracks=self._tracks)
        flow = None
        if FLOW.name in self.stages:
            flow = FlowStream(config.flow, *loaded_models(get_stage(FLOW.name), config))
        reader = read_video(self.path, most_s=LONGEST_S)
        try:
            again = None
            if declared_size(self.path)[0] * (faces.ahead_s + BLOCK_S) > KEEP_BYTES:
                again = read_video(self.path, most_s=LONGEST_S).frames()
                reader.longest = 2 * config.faces.detect_size
            for rows in faces.run(reader.frames(), again):
                for name, values in self._summary.items():
                    values.append(rows[name])
                self.face.add(rows)
                self.others_s = faces.others_s
                if self._tracks is not None:
                    self.portrait.add(rows)
                self._recent[FACES.name].add({n: v for n, v in rows.items() if n != "frame"})
                known = rows["time"]
                if flow is not None:
                    known = self._add_flow(flow.push(rows))
                if len(known):
                    yield float(known[-1])
        except ClipError as error:
            self._outcomes[FACES.name] = error.outcome
            return
        if flow is not None:
            self._add_flow(flow.finish())
        self._outcomes[FACES.name] = self._faces_outcome(reader, faces.seen)

    def _add_flow(self, rows: Rows | None) -> np.ndarray:
        """Keep rows of the flow stage; returns their times."""
        if rows is None:
            return np.zeros(0)
        self._recent[FLOW.name].add(rows)
        self._flow_valid.append(rows["valid"])
        if self._keep_flow is not None:
            for name in ("flow", "scale"):
                if name in rows:
                    self._kept_flow.setdefault(name, DiskRows(self._keep_flow)).append(rows[name])
        return rows["time"]

    def _faces_outcome(self, reader: VideoReader, seen: bool) -> Outcome:
        track = self.track()
        if self._tracks is not None:
            own = rows_of(self._tracks, track["frame"])
            track = {name: values[own] for name, values in track.items()}
        valid = track["valid"].astype(bool)
        if not valid.any() or valid.mean() < self.config.faces.min_valid:
            return no_face(valid, seen, self.config.faces)
        return faces_outcome(reader.notes, reader.remarks, reader.share, valid, track["frame"])


def video_ends(path: str, fps: float | None) -> list[float]:
    """Return the end of the last row of video in each recording of a file, s; empty without video.

    The ends come from the packets: nothing is decoded.

    Args:
        path: the media file.
        fps: ``faces.fps``.

    Raises:
        ClipError: the file cannot be opened as media.
    """
    parts = [(part.begin, part.times) for part in joined_parts(path)] or [(0.0, survey(path))]
    return [begin + times.video.end_of_frames(fps) for begin, times in parts if times and times.video]


def people_of_long(
    path: str | Path, config: Config, progress: Callable[[float], None] = lambda done_s: None
) -> list[FacePerson]:
    """Return the people in a file; frames are decoded in order and not kept. Empty without video.

    ``progress`` receives the time of each frame in s when it is done.
    """
    (detector,) = loaded_models(get_stage(FACES.name), config)
    try:
        found = find_people(path, config.faces, detector, keep=False, most_s=LONGEST_S, progress=progress)
        return found.people
    except ClipError:
        return []
