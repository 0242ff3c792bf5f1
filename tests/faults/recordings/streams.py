"""15. Streams: the right track is used, and what changes in mid-stream is handled or noted."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np

from deiii.data.cache.outcomes import Status
from deiii.data.config.schema import LogMelConfig
from deiii.pipeline.logmel.stage import extract_logmel
from deiii.pipeline.media.audio import read_audio
from deiii.pipeline.media.video import read_video
from tests.faults.harness import NotAvailable, faults
from tests.faults.workspace import Workspace
from tests.helpers.clipmaker import numbered, outcome_of, tone, write
from tests.helpers.tracks import Track, audio_part, write_tracks

streams = faults("15 streams")
USED = "the default track, else the best one; a note where there are several"
KEPT = "nothing is lost or stretched; a note"
LOUD, QUIET, SILENT = tone(1.0)[None], 0.1 * tone(1.0)[None], 0 * tone(1.0)[None]
STEREO = np.repeat(LOUD, 2, 0)

# Tracks as (samples, layout, disposition), and words of the note.
TRACKS: dict[str, tuple[list[Track], str]] = {
    "the default one second": ([(QUIET, "mono", ""), (LOUD, "mono", "default")], "the default one"),
    "the default one first": ([(LOUD, "mono", "default"), (QUIET, "mono", "")], "the default one"),
    "two default ones, the better one second": (
        [(QUIET, "mono", "default"), (STEREO, "stereo", "default")], "the best one",
    ),
    "a commentary marked as default": (
        [(QUIET, "mono", "comment,default"), (LOUD, "mono", "")], "number 2 was used",
    ),
    "audio description first": (
        [(QUIET, "mono", "visual_impaired"), (LOUD, "mono", "")], "number 2 was used",
    ),
    "no mark, the stereo one second": ([(QUIET, "mono", ""), (STEREO, "stereo", "")], "the best one"),
    "a silent default one beside an equal one": (
        [(SILENT, "mono", "default"), (LOUD, "mono", "")], "number 1 has no usable audio",
    ),
    "a silent first one without marks": (
        [(SILENT, "mono", ""), (LOUD, "mono", "")], "number 1 has no usable audio",
    ),
    "a silent stereo default one beside a mono one": (
        [(np.repeat(SILENT, 2, 0), "stereo", "default"), (LOUD, "mono", "")], "number 1 has no usable audio",
    ),
    "two silent ones before the one with sound": (
        [(SILENT, "mono", "default"), (SILENT, "mono", ""), (LOUD, "mono", "")], "1, 2 has no usable audio",
    ),
    "an offset without sound as the default one": (
        [(SILENT + 0.05, "mono", "default"), (LOUD, "mono", "")], "number 1 has no usable audio",
    ),
}  # fmt: skip


@streams("audio tracks in {case[0]}: {case[1]}", USED, cases=list(product(("mkv", "mov"), TRACKS)),
         short=[("mov", "a silent default one beside an equal one")])  # fmt: skip
def audio_tracks(work: Workspace, case: tuple[str, str]) -> str:
    tracks, word = TRACKS[case[1]]
    marks = "".join(mark for *_, mark in tracks)
    if case[0] == "mov" and ("comment" in marks or "impaired" in marks or case[1].startswith("no mark")):
        raise NotAvailable("mov has no such mark, and always a default track")
    remarks: list[str] = []
    samples, _, _ = read_audio(write_tracks(work.folder() / f"a.{case[0]}", tracks), 16000, None, remarks)
    assert abs(np.abs(samples).max() - 0.3) < 0.01, f"another track: {np.abs(samples).max()}"
    assert any(word in remark for remark in remarks), remarks
    return remarks[0]


@streams("{case} silent audio tracks and no other", "no_audio, silent", cases=(1, 2))
def all_silent(work: Workspace, case: int) -> str:
    path = write_tracks(work.folder() / "a.mkv", [(SILENT, "mono", "default")] * case)
    outcome = outcome_of(extract_logmel, path, LogMelConfig())
    assert outcome.status is Status.NO_AUDIO and "silent" in outcome.reason, outcome
    return outcome.reason


@streams("a silent default track beside a commentary", "no_audio: a commentary is not a recording")
def silent_and_commentary(work: Workspace) -> str:
    path = write_tracks(work.folder() / "a.mkv", [(SILENT, "mono", "default"), (LOUD, "mono", "comment")])
    outcome = outcome_of(extract_logmel, path, LogMelConfig())
    assert outcome.status is Status.NO_AUDIO, outcome
    return outcome.reason


@streams("video tracks of which {case} is the default one", USED, cases=("the first", "the second", "none"))
def video_tracks(work: Workspace, case: str) -> str:
    small, large = numbered(5, 48, 64), numbered(7, 96, 128)
    marks = ["default" if case == name else "" for name in ("the first", "the second")]
    path = write_tracks(work.folder() / "v.mkv", [], [(small, marks[0]), (large, marks[1])])
    reader = read_video(path)
    assert len(list(reader)) == (5 if case == "the first" else 7)
    return reader.remarks[0]


def _ts(folder: Path, name: str, **content) -> bytes:
    return Path(write(folder / f"{name}.ts", **content)).read_bytes()


def _square(height: int, width: int, sar: Fraction) -> np.ndarray:
    """A frame with a patch that is a square of 32 px where pixels have the ratio ``sar``."""
    frame = np.full((height, width, 3), 40, np.uint8)
    wide = round(32 / float(sar))
    top, left = (height - 32) // 2 // 2 * 2, (width - wide) // 2 // 2 * 2
    frame[top : top + 32, left : left + wide] = 220
    return frame


# Stored height and width and pixel ratio of the first and of the second part.
CHANGES = {
    "smaller": ((96, 128, "1"), (96, 64, "1")),
    "larger": ((64, 96, "1"), (128, 192, "1")),
    "landscape to portrait": ((72, 128, "1"), (128, 72, "1")),
    "pixels become wide (1:1 to 2:1)": ((96, 128, "1"), (96, 64, "2")),
    "pixels become narrow (4:3 to 1:1)": ((96, 96, "4/3"), (96, 128, "1")),
    "pixel ratio alone (1:1 to 16:15)": ((96, 128, "1"), (96, 120, "16/15")),
    "PAL 4:3 to 16:9": ((96, 120, "16/15"), (96, 120, "64/45")),
}


@streams("video frames change: {case}", f"{KEPT} where the displayed size changes", cases=CHANGES,
         short={"PAL 4:3 to 16:9"})  # fmt: skip
def sizes(work: Workspace, case: str) -> str:
    folder = work.folder()
    parts = [
        _ts(folder, str(n), frames=[_square(h, w, Fraction(sar))] * 10, sar=None if sar == "1" else sar)
        for n, (h, w, sar) in enumerate(CHANGES[case])
    ]
    (folder / "c.ts").write_bytes(b"".join(parts))
    reader = read_video(folder / "c.ts")
    seen = [rgb for rgb, _ in reader]
    assert len(seen) == 20 and len({rgb.shape for rgb in seen}) == 1, [rgb.shape for rgb in seen]
    shown = [(h, round(w * Fraction(sar))) for h, w, sar in CHANGES[case]]
    assert abs(seen[0].shape[1] - shown[0][1]) <= 1 and seen[0].shape[0] == shown[0][0], seen[0].shape
    for rgb in (seen[0], seen[-1]):
        bright = rgb.mean(axis=-1) > 130
        width, height = bright.any(axis=0).sum(), bright.any(axis=1).sum()
        assert abs(width - height) <= 3, f"a square became {width}x{height}"
    if shown[0] != shown[1]:
        assert any("frame size changes" in remark for remark in reader.remarks), reader.remarks
    return "; ".join(reader.remarks)[:90]


AUDIO_CHANGES = {
    "mono to stereo": (("mp2", 48000, "mono"), ("mp2", 48000, "stereo")),
    "stereo to mono": (("mp2", 48000, "stereo"), ("mp2", 48000, "mono")),
    "48 to 32 kHz": (("mp2", 48000, "stereo"), ("mp2", 32000, "stereo")),
    "44.1 to 48 kHz": (("mp2", 44100, "mono"), ("mp2", 48000, "mono")),
    "AC-3 5.1 to stereo": (("ac3", 48000, "5.1"), ("ac3", 48000, "stereo")),
    "AC-3 stereo to 5.1": (("ac3", 48000, "stereo"), ("ac3", 48000, "5.1")),
    "AAC mono to stereo": (("aac", 48000, "mono"), ("aac", 48000, "stereo")),
    "AAC 48 to 44.1 kHz": (("aac", 48000, "mono"), ("aac", 44100, "mono")),
    "rate and layout": (("mp2", 32000, "mono"), ("mp2", 48000, "stereo")),
}


@streams("audio changes: {case}", "the sound of both parts, one second apart; a note", cases=AUDIO_CHANGES)
def audio_changes(work: Workspace, case: str) -> str:
    folder = work.folder()
    parts = [audio_part(folder / f"{n}.ts", *kind) for n, kind in enumerate(AUDIO_CHANGES[case])]
    (folder / "c.ts").write_bytes(b"".join(parts))
    remarks: list[str] = []
    samples, _, _ = read_audio(folder / "c.ts", 16000, None, remarks)
    loud = np.flatnonzero(np.abs(samples) > 0.03)  # of six channels one has the tone
    onsets = loud[np.diff(loud, prepend=-9999) > 1600] / 16000
    assert len(onsets) == 2 and abs(np.diff(onsets)[0] - 1.0) < 0.08, onsets
    assert any("changes" in remark for remark in remarks), remarks
    return "; ".join(remarks)[:90]
