"""Faces beside the one that is cropped are counted, in whole clips and in files that are read in order."""

from __future__ import annotations

import numpy as np
import pytest

from deiii.data.config.schema import FacesConfig
from deiii.pipeline.faces.face import Face
from deiii.pipeline.faces.speaker import others_note, others_seconds, pick_speaker
from deiii.pipeline.faces.stage import extract_faces, load_detector
from deiii.pipeline.faces.stream import FaceStream
from deiii.pipeline.faces.tracking import Track
from deiii.pipeline.media.video import read_video
from tests.helpers.clipmaker import write
from tests.helpers.two_faces import rendered

CONFIG = FacesConfig(size=32)
STEP = 0.04
FACE = Face(np.array([0.0, 0, 10, 10]), np.zeros((5, 2)), 1.0)


def track(start, frames, absent=()):
    found = Track(0, start)
    for i in range(start, start + frames):
        found.add(i * STEP, None if i in absent else FACE, None, i not in absent)
    return found


def times(n):
    return [i * STEP for i in range(n)]


def test_time_with_another_face_is_counted_once():
    own, one, other = track(0, 100), track(10, 40), track(30, 40)
    every = [own, one, other]
    assert others_seconds(every, [own], times(100)) == pytest.approx(60 * STEP)  # frames 10 to 69
    assert others_seconds([own], [own], times(100)) == 0.0
    assert others_seconds([], [], []) == 0.0


def test_frames_without_the_face_and_short_tracks_do_not_count():
    own, one, short = track(0, 100), track(0, 50, absent=range(10, 30)), track(80, 12)
    assert others_seconds([own, one], [own], times(100)) == pytest.approx(30 * STEP)
    assert others_seconds([own, short], [own], times(100)) == 0.0  # 0.48 s


@pytest.mark.parametrize("border", [1, 37, 50, 99])
def test_blocks_add_up_to_the_whole(border):
    every = [own, *_] = [track(0, 100), track(10, 40), track(60, 30)]
    parts = [
        others_seconds(every, [own], times(100)[:border], 0),
        others_seconds(every, [own], times(100)[border:], border),
    ]
    assert sum(parts) == pytest.approx(others_seconds(every, [own], times(100)))


def test_the_note_begins_at_half_a_second():
    assert others_note(0.49, "speaker") == ""
    assert "another face is visible for 0.5 s" in others_note(0.5, "largest")
    assert "faces.pick=largest" in others_note(0.5, "largest")


def test_another_person_can_be_chosen_after_a_cut_and_the_note_says_so():
    """The larger face is on the left in the first shot, and on the right in the second one."""

    def face(shot, start, left, width):
        found = Track(shot, start)
        box = Face(np.array([left, 10.0, width, width]), np.zeros((5, 2)), 1.0)
        for i in range(start, start + 50):
            found.add(i * STEP, box, None, True)
        return found

    first = [face(0, 0, 10.0, 40.0), face(0, 0, 70.0, 20.0)]
    second = [face(1, 50, 10.0, 20.0), face(1, 50, 70.0, 40.0)]
    assert pick_speaker([*first, *second], "largest", (60, 120)) == [first[0], second[1]]
    assert "again after each cut" in others_note(4.0, "largest")


@pytest.mark.parametrize(("from_frame", "seconds"), [(None, 0.0), (0, 2.4), (40, 0.8)])
def test_stage_and_stream_agree_on_a_second_person(tmp_path, from_frame, seconds):
    one, other = rendered(14)[0], rendered(16)[0]
    wall = np.full((160, 160, 3), 90, np.uint8)
    side = [wall if from_frame is None or i < from_frame else f for i, f in enumerate(other)]
    path = write(tmp_path / "two.mp4", [np.concatenate(p, axis=1) for p in zip(one, side, strict=False)])
    detector = load_detector(CONFIG)
    notes = extract_faces(path, CONFIG, detector).notes
    assert len(notes) == bool(seconds)
    if seconds:
        found = float(notes[0].split("visible for ")[1].split(" s;")[0])
        assert found == pytest.approx(seconds, abs=0.15)
    stream = FaceStream(CONFIG, detector, block_s=1.0)
    for _ in stream.run(read_video(path).frames()):
        pass
    assert stream.others_s == pytest.approx(seconds, abs=0.15)
