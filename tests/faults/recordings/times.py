"""14. Times: flashes and beeps come out where they were, or a note says what could not be known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

from deiii.data.cache.outcomes import ClipError
from tests.faults.harness import faults
from tests.faults.workspace import Workspace
from tests.helpers.flash_beep import (
    CONTAINERS,
    EVENTS,
    FPS,
    SECONDS,
    Clip,
    flv_tags,
    joined,
    look_and_listen,
    set_flv_stamp,
    write_clip,
)

times = faults("14 times")
RIGHT = "flashes within one frame, beeps within 22 ms of their times"
NOTED = f"{RIGHT}, and a note"
FRAME = 1 / FPS
BEEP_S = 0.022  # with the delay of an encoder that cannot be told from the first frame's time
REST_S = 0.06  # by which a joined part may begin later, for the rest of its encoder's last frame


def check_times(
    path: Path, word: str | None = "", parts: Sequence[float] = (0.0,), has_video: bool | None = None
) -> str:
    """Check where flashes and beeps of a file come out.

    Args:
        path: the file.
        word: that the notes must contain; ``None`` for any; they must be empty for "".
        parts: where each joined recording begins, s.
        has_video: as the suffix says, if ``None``.
    """
    if has_video is None:
        has_video = CONTAINERS[path.suffix[1:]][0] is not None
    seen = look_and_listen(path, has_video)
    events = [start + event for start in parts for event in EVENTS]
    late = [REST_S if start else 0.0 for start in parts for _ in EVENTS]
    for name, found, frame in (("flashes", seen.flashes, FRAME), ("beeps", seen.beeps, BEEP_S)):
        if name == "flashes" and not has_video:
            continue
        assert len(found) == len(events), f"{len(found)} {name}, not {len(events)}: {found}"
        for time, event, more in zip(found, events, late, strict=True):
            assert -frame - 1e-6 <= time - event <= frame + more, f"{name} at {found}, not {events}"
    assert word is None or (word in seen.words if word else not seen.words), f"notes: {seen.words!r}"
    return seen.words[:90]


def _clip(work: Workspace, clip: Clip, word: str = "") -> str:
    return check_times(write_clip(work.folder(), clip), word)


STAMPED = ("mp4", "mov", "mkv", "webm", "flv", "ts")
OUTLIERS = {
    "one frame 0.4 s": {31: 0.4},
    "one frame 20 s": {40: 20.0},
    "the second frame 3 s": {1: 3.0},
    "two frames apart 2 s": {20: 2.0, 50: 2.0},
    "two frames in a row 1.5 s": {33: 1.5, 34: 1.5},
    "a frame of each second 0.3 to 9 s": {10: 0.3, 37: 5.0, 60: 9.0},
}


@times("{case[0]}: {case[1]} too late", NOTED, cases=list(product(STAMPED, OUTLIERS)),
       short=[("mp4", "one frame 20 s"), ("ts", "two frames apart 2 s")])  # fmt: skip
def outliers(work: Workspace, case: tuple[str, str]) -> str:
    return _clip(work, Clip(case[0], outliers=OUTLIERS[case[1]]), "wrong")


@times("mp4 with {case} B-frames and two wrong timestamps", NOTED, cases=(1, 2, 3))
def outliers_among_b_frames(work: Workspace, case: int) -> str:
    return _clip(work, Clip("mp4", b_frames=case, outliers={25: 4.0, 55: 1.0}), "wrong")


B_FRAMES = [*product(("mp4", "mov", "mkv", "flv", "ts", "mpg"), (2,)), *product(("avi",), (0, 1, 2, 3))]


@times("{case[0]} with {case[1]} B-frames", f"{RIGHT}; AVI has no times of presentation", cases=B_FRAMES,
       short=[("avi", 2)])  # fmt: skip
def b_frames(work: Workspace, case: tuple[str, int]) -> str:
    return _clip(work, Clip(case[0], b_frames=case[1]))


@times("{case}, nothing wrong", f"{RIGHT}, no note", cases=CONTAINERS)
def plain(work: Workspace, case: str) -> str:
    return _clip(work, Clip(case))


DELAYS = (
    ("flv", "flv1", "libmp3lame"), ("ts", "libx264", "libmp3lame"), ("ts", "mpeg2video", "mp2"),
    ("ts", "libx264", "ac3"), ("mkv", "libx264", "libmp3lame"), ("mkv", "libx264", "ac3"),
    ("mp4", "libx264", "libmp3lame"), ("mp4", "libx264", "ac3"), ("mkv", "mpeg4", "mp2"),
)  # fmt: skip


@times("{case[0]} of {case[1]} and {case[2]}: the encoder's delay", f"{RIGHT}, no note", cases=DELAYS)
def delays(work: Workspace, case: tuple[str, str, str]) -> str:
    return _clip(work, Clip(case[0], codecs=case[1:]))


@times("{case[0]}: audio that begins {case[1]} s late", f"{RIGHT}, no note",
       cases=list(product(("mp4", "mov", "mkv", "webm", "flv", "ts", "mpg"), (0.06, 0.43))))  # fmt: skip
def offsets(work: Workspace, case: tuple[str, float]) -> str:
    return _clip(work, Clip(case[0], audio_at=case[1]))


@times("{case[0]}: a gap in the {case[1]}", "audio is filled with silence and noted, video keeps its times",
       cases=list(product(("mp4", "mkv", "webm", "flv", "ts"), ("audio", "video", "both"))))  # fmt: skip
def gaps(work: Workspace, case: tuple[str, str]) -> str:
    gap = (0.8, 1.1)
    clip = Clip(case[0])
    clip.audio_gap = gap if case[1] != "video" else None
    clip.video_gap = gap if case[1] != "audio" else None
    return _clip(work, clip, "audio are missing" if clip.audio_gap else "")


JOINED = [*product(("ts", "mpg", "flac", "ogg", "mkv", "webm"), (2, 3))]


@times("{case[0]}: {case[1]} recordings joined by cat", f"{NOTED}; audio and video go on alike",
       cases=JOINED, short=[("mpg", 3)])  # fmt: skip
def joins(work: Workspace, case: tuple[str, int]) -> str:
    path, second = joined(work.folder(), Clip(case[0]))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] * case[1])
    return check_times(path, "joined recordings", [second * n for n in range(case[1])])


@times("mp3: two recordings joined by cat", "the second one follows the first")
def joined_mp3(work: Workspace) -> str:
    path, second = joined(work.folder(), Clip("mp3"))
    return check_times(path, None, [0.0, second])


UNREAD: dict[str, tuple[str | None, str] | None] = {
    "mp4": None, "mov": None, "flv": None, "wav": None, "aiff": (None, "pcm_s16be"), "m4a": (None, "aac"),
    "caf": (None, "pcm_s16le"), "w64": (None, "pcm_s16le"), "asf": ("mpeg4", "aac"), "3gp": ("mpeg4", "aac"),
}  # fmt: skip


@times("a recording appended to an {case} file, which FFmpeg does not read", "a note with the remedy",
       cases=UNREAD, short={"wav"})  # fmt: skip
def appended(work: Workspace, case: str) -> str:
    clip = Clip(case, codecs=UNREAD[case])
    path, _ = joined(work.folder(), clip)
    half = path.stat().st_size // 2
    video = (clip.codecs or CONTAINERS[case])[0]
    seen = look_and_listen(path, video is not None)
    assert len(seen.beeps) == len(EVENTS), seen
    assert f"a second recording begins at byte {half}; it was not read; join recordings" in seen.words, seen
    return seen.words[:90]


# How the timestamps of an FLV file are changed: of which tags (8 audio, 9 video), and to what.
STAMPS = {
    "one audio packet 2 s late": (8, range(40, 41), 2.0),
    "one audio packet 0.2 s late": (8, range(50, 51), 0.2),
    "one audio packet 9 s late": (8, range(12, 13), 9.0),
    "four audio packets 1 s late": (8, range(60, 64), 1.0),
    "one audio packet 0.5 s early": (8, range(70, 71), -0.5),
    "the second audio packet 5 s late": (8, range(1, 2), 5.0),
    "one video packet 2 s late": (9, range(30, 31), 2.0),
    "one video packet 0.5 s early": (9, range(45, 46), -0.5),
    "three video packets 1 s late": (9, range(40, 43), 1.0),
    "the second video packet 5 s late": (9, range(1, 2), 5.0),
}


@times("flv: {case}", NOTED, cases=STAMPS, short={"one audio packet 2 s late"})
def stamps(work: Workspace, case: str) -> str:
    path = write_clip(work.folder(), Clip("flv"))
    data = bytearray(path.read_bytes())
    kind, numbers, seconds = STAMPS[case]
    tags = [tag for tag in flv_tags(data) if tag[1] == kind]
    for number in numbers:
        at, _, stamp = tags[number]
        set_flv_stamp(data, at, stamp + seconds)
    path.write_bytes(data)
    return check_times(path, "wrong")


# From when on, of which streams, and by how much the timestamps move, s.
MOVES = {
    "both streams go back by 0.5 s": (1.2, (8, 9), -0.5),
    "both streams start again at 0": (1.4, (8, 9), -1.4),
    "both streams jump ahead by 20 minutes": (1.2, (8, 9), 1200.0),
    "both streams jump ahead by 12 s": (1.4, (8, 9), 12.0),
    "the audio alone goes back by 0.6 s": (1.2, (8,), -0.6),
    "the video alone goes back by 0.6 s": (1.2, (9,), -0.6),
}


@times("flv: {case}", NOTED, cases=MOVES)
def moves(work: Workspace, case: str) -> str:
    path = write_clip(work.folder(), Clip("flv"))
    data = bytearray(path.read_bytes())
    start, kinds, seconds = MOVES[case]
    tags = flv_tags(data)
    # A recorder that starts again begins with a key frame.
    cut = min(stamp for at, of, stamp in tags if of == 9 and data[at + 11] >> 4 == 1 and stamp >= start)
    for at, of, stamp in tags:
        if stamp >= cut and of in kinds:
            set_flv_stamp(data, at, stamp + (-cut if seconds == -start else seconds))
    path.write_bytes(data)
    return check_times(path, "joined recordings?")


# New timestamps of audio (8) or video (9) tags: from type, number and timestamp; the word of the note.
REWRITES: dict[str, tuple[Callable[[int, int, float], float], str | None]] = {
    "video jitters by 10 ms": (lambda kind, n, t: t + (0.01 * (-1) ** n if kind == 9 else 0), ""),
    "all timestamps 100 s later": (lambda kind, n, t: t + 100, ""),
    "all timestamps 1 s earlier": (lambda kind, n, t: t - 1, ""),
    "the video's clock is 30 s ahead": (lambda kind, n, t: t + (30 if kind == 9 else 0), "placed at the beg"),
    "the audio's clock is 30 s ahead": (lambda kind, n, t: t + (30 if kind == 8 else 0), "placed at the beg"),
    "the first eight audio packets at 0": (lambda kind, n, t: 0 if kind == 8 and n < 8 else t, "wrong"),
    "the first eight video packets at 0": (lambda kind, n, t: 0 if kind == 9 and n < 8 else t, "wrong"),
    "the first audio packet at 3 s": (lambda kind, n, t: 3 if kind == 8 and n == 0 else t, "wrong"),
    "the first video packet at 3 s": (lambda kind, n, t: 3 if kind == 9 and n == 0 else t, "wrong"),
    "the last video packet at 500 s": (lambda kind, n, t: 500 if kind == 9 and n == 79 else t, None),
    "the last audio packet at 500 s": (lambda kind, n, t: 500 if kind == 8 and t > 3.17 else t, None),
    "all audio timestamps 0": (lambda kind, n, t: 0 if kind == 8 else t, "wrong"),
    "all video timestamps 0": (lambda kind, n, t: 0 if kind == 9 else t, "wrong"),
    "all timestamps 0": (lambda kind, n, t: 0, "wrong"),
    "every tenth video timestamp repeats": (
        lambda kind, n, t: t - 0.04 if kind == 9 and n % 10 == 5 else t, "wrong",
    ),
    "neighbouring audio timestamps exchanged": (
        lambda kind, n, t: t + 0.021 * (-1) ** n if kind == 8 and 9 < n < 70 else t, None,
    ),
    "the audio's clock is 1 % fast": (lambda kind, n, t: 1.01 * t if kind == 8 else t, None),
    "absurd timestamps in both": (
        lambda kind, n, t: t + {(9, 30): -2e6, (8, 30): 2e6}.get((kind, n), 0.0), "wrong",
    ),
}  # fmt: skip


@times("flv: {case}", f"{RIGHT}, and a note where timestamps were not used", cases=REWRITES)
def rewrites(work: Workspace, case: str) -> str:
    path = write_clip(work.folder(), Clip("flv"))
    data = bytearray(path.read_bytes())
    change, word = REWRITES[case]
    count = {8: 0, 9: 0}
    for at, kind, stamp in flv_tags(data):
        set_flv_stamp(data, at, change(kind, count[kind], stamp))
        count[kind] += 1
    path.write_bytes(data)
    return check_times(path, word)


@times("{case}: the video begins 0.7 s after the audio", "whole, nothing is called cut off",
       cases=("mkv", "webm", "mp4", "flv", "ts"))  # fmt: skip
def late_video(work: Workspace, case: str) -> str:
    path = write_clip(work.folder(), Clip(case, video_gap=(0.0, 0.4)))
    seen = look_and_listen(path)
    assert "cut off" not in seen.words and len(seen.flashes) == 3, seen
    apart = [beep - flash for beep, flash in zip(seen.beeps, seen.flashes, strict=True)]
    assert max(map(abs, apart)) <= BEEP_S, apart
    return f"audio and video at most {1000 * max(map(abs, apart)):.0f} ms apart"


CUT: dict[str, tuple[str | None, str] | None] = {
    "mkv": None, "avi": None, "flac": None, "wav": None, "mp3": None, "aiff": (None, "pcm_s16be"),
    "au": (None, "pcm_s16be"), "caf": (None, "pcm_s16le"), "w64": (None, "pcm_s16le"),
}  # fmt: skip


@times("{case[0]} of which the last {case[1]} % are missing",
       "what is there keeps its times; that it is cut off is noted, or it is unreadable",
       cases=list(product(CUT, (30, 50))), short=[("wav", 30)])  # fmt: skip
def cut(work: Workspace, case: tuple[str, int]) -> str:
    clip = Clip(case[0], codecs=CUT[case[0]])
    path = write_clip(work.folder(), clip)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * (100 - case[1]) // 100])
    try:
        seen = look_and_listen(path, (clip.codecs or CONTAINERS[case[0]])[0] is not None)
    except ClipError as error:
        assert "cut off" in error.outcome.reason, error
        return error.outcome.reason
    assert "cut off" in seen.words or "cannot be decoded" in seen.words, seen
    assert all(abs(b - e) <= BEEP_S for b, e in zip(seen.beeps, EVENTS, strict=False)), seen
    return f"{len(seen.beeps)} of 3 beeps of {SECONDS} s"
