"""A property of the clock: flashes and beeps that happen together come out together, whatever the container.

Random clips in twelve containers with what happens to real files: offsets, gaps, wrong timestamps, B-frames,
recordings that are joined, timestamps that start again. Every flash comes out within one frame and every
beep within 20 ms of its time, or a note says what could not be known.
"""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deiii.pipeline.media.audio import read_audio
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

FRAME = 1 / FPS
BEEP = 0.02
STORES_GAPS = {"mp4", "mkv", "webm", "flv", "ts"}  # others count frames, or state few timestamps
STORES_OFFSETS = STORES_GAPS | {"mov", "mpg"}
STORES_ORDER = {"mp4", "mov", "mkv", "flv", "ts"}  # a presentation time beside the decoding time
JOINED_BY_CAT = {"ts", "mpg", "flac", "mp3", "ogg", "mkv", "webm"}
B_FRAMES = {"mp4", "mov", "mkv", "flv", "ts", "avi", "mpg"}


@st.composite
def clips(draw):
    """A clip and one fault: (clip, fault, its numbers)."""
    suffix = draw(st.sampled_from(sorted(CONTAINERS)))
    faults = ["none"]
    faults += ["offset"] if suffix in STORES_OFFSETS else []
    faults += ["gaps"] if suffix in STORES_GAPS else []
    faults += ["outliers"] if suffix in STORES_ORDER | {"webm"} else []
    faults += ["joined"] if suffix in JOINED_BY_CAT else []
    faults += ["stamp", "restart", "jump", "one stream"] if suffix == "flv" else []
    fault = draw(st.sampled_from(faults))
    clip = Clip(suffix, b_frames=draw(st.sampled_from([0, 0, 1, 2, 3])) if suffix in B_FRAMES else 0)
    numbers = ()
    if fault == "offset":
        clip.audio_at = draw(st.floats(0.05, 0.44))
    elif fault == "gaps":
        first = draw(st.floats(0.7, 0.9))
        gap = (first, draw(st.floats(first + 0.1, 1.2)))
        which = draw(st.sampled_from(["audio", "video", "both"]))
        clip.audio_gap = gap if which != "video" else None
        clip.video_gap = gap if which != "audio" else None
    elif fault == "outliers":
        places = draw(st.lists(st.integers(1, 76), min_size=1, max_size=4, unique=True))
        clip.outliers = {i: draw(st.floats(0.3, 20.0)) for i in places}
    elif fault == "stamp":
        numbers = draw(st.sampled_from([8, 9])), draw(st.integers(0, 70)), draw(st.floats(0.2, 9.0))
    elif fault in ("restart", "jump", "one stream"):
        numbers = draw(st.floats(1.0, 1.9)), draw(st.floats(0.3, 1.4)), draw(st.sampled_from([8, 9]))
    return clip, fault, numbers


def spoil(data, fault, numbers):
    """The bytes of an FLV file with a fault in its timestamps."""
    data = bytearray(data)
    tags = flv_tags(data)
    if fault == "stamp":
        kind, number, seconds = numbers
        at, _, stamp = [tag for tag in tags if tag[1] == kind][number]
        set_flv_stamp(data, at, stamp + seconds)
        return data
    cut, back, kind = numbers
    # A recorder that starts again begins with a key frame; frames are not reordered across it.
    cut = min(stamp for at, of, stamp in tags if of == 9 and data[at + 11] >> 4 == 1 and stamp >= cut)
    for at, of, stamp in tags:
        if stamp >= cut and (fault != "one stream" or of == kind):
            set_flv_stamp(data, at, stamp + 1000 * back if fault == "jump" else stamp - back)
    return data


def check(case):
    clip, fault, numbers = case
    video = CONTAINERS[clip.suffix][0] is not None
    with tempfile.TemporaryDirectory() as folder:
        times = list(EVENTS)
        if fault == "joined":
            path, second = joined(Path(folder), clip)
            times += [second + time for time in EVENTS]
        else:
            path = write_clip(Path(folder), clip)
            if numbers:
                path.write_bytes(spoil(path.read_bytes(), fault, numbers))
        seen = look_and_listen(path, video)
    assert not video or len(seen.flashes) == len(times), seen
    assert len(seen.beeps) == len(times), seen
    for n, time in enumerate(times):
        # A joined part may begin up to two frames of audio later, for the rest of the encoder's last one.
        late = 0.06 if n >= len(EVENTS) else 0.0
        if video:
            assert time - FRAME <= seen.flashes[n] <= time + late + FRAME, seen
            assert abs(seen.beeps[n] - seen.flashes[n]) <= FRAME + BEEP, seen
        assert time - BEEP <= seen.beeps[n] <= time + late + BEEP, seen
    if fault in ("outliers", "stamp"):
        assert "wrong" in seen.words, seen
    if fault in ("restart", "jump", "one stream") or (fault == "joined" and clip.suffix != "mp3"):
        assert "joined recordings" in seen.words, seen
    if clip.audio_gap:
        assert "audio are missing" in seen.words, seen


COMMON = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=40, derandomize=True, **COMMON)
@given(clips())
def test_flashes_and_beeps_keep_their_times(case):
    check(case)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(max_examples=500, **COMMON)
@given(clips())
def test_flashes_and_beeps_keep_their_times_in_many_clips(case):
    check(case)


@pytest.mark.parametrize(
    ("suffix", "video", "audio"),
    [
        ("flv", "libx264", "aac"),
        ("flv", "flv1", "libmp3lame"),
        ("ts", "libx264", "aac"),
        ("ts", "libx264", "libmp3lame"),
        ("ts", "mpeg2video", "mp2"),
        ("ts", "libx264", "ac3"),
        ("mpg", "mpeg1video", "mp2"),
        ("vob", "mpeg2video", "ac3"),
        ("mkv", "libx264", "libmp3lame"),
        ("mp4", "libx264", "libmp3lame"),
        ("avi", "libx264", "aac"),
        ("avi", "libx264", "libmp3lame"),
        ("avi", "mpeg4", "mp2"),
        ("avi", "mpeg4", "ac3"),
        ("avi", "mpeg4", "pcm_s16le"),
    ],
)
def test_the_delay_of_an_encoder_is_left_out(tmp_path, suffix, video, audio):
    """Also in containers that cannot store it: the silence before the video is no part of the clip."""
    seen = look_and_listen(write_clip(tmp_path, Clip(suffix, codecs=(video, audio))))
    assert seen.flashes == pytest.approx(EVENTS, abs=0.002)
    assert seen.beeps == pytest.approx(EVENTS, abs=0.002)
    assert seen.words == ""


def test_audio_that_leads_by_more_than_an_encoders_delay_stays(tmp_path):
    """The video begins 0.2 s after the audio: nothing is left out, and time 0 is where the audio begins."""
    path = write_clip(tmp_path, Clip("ts", video_gap=(0.0, 0.2)))
    seen = look_and_listen(path)
    assert seen.flashes == pytest.approx([t + 0.021 for t in EVENTS], abs=0.002)
    assert read_audio(path, 16000)[1] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("suffix", ["mp4", "wav"])
def test_what_is_appended_and_not_read_is_noted(tmp_path, suffix):
    path, _ = joined(tmp_path, Clip(suffix))
    seen = look_and_listen(path, has_video=suffix == "mp4")
    assert len(seen.beeps) == len(EVENTS) and "a second recording begins at byte" in seen.words
    assert SECONDS > EVENTS[-1]
