"""Tracking: schedule of the detector, cuts, faces that appear and leave, two people."""

import numpy as np

from deiii.pipeline.faces.detectors import TEMPLATE
from deiii.pipeline.faces.face import Face
from deiii.pipeline.faces.speaker import pick_speaker
from deiii.pipeline.faces.tracking import Tracker, overlap
from deiii.pipeline.media.frame import is_cut
from tests.helpers.clipmaker import GROUND, picture


def detector_of(script, calls=None):
    """A detector that answers by the frame's number, written into its corner pixel."""

    def detect(rgb):
        n = int(rgb[0, 0, 0])
        if calls is not None:
            calls.append(n)
        boxes = [np.array([x, y, 60.0, 60.0]) for x, y in script[n]]
        return [Face(b, b[:2] + TEMPLATE * b[2:], 1.0) for b in boxes]

    return detect


def run(script, every=5, grounds=None, calls=None, max_gap=0.3):
    tracker = Tracker(detector_of(script, calls), every, max_gap)
    for n, places in enumerate(script):
        rgb = picture(*places, ground=GROUND if grounds is None else grounds[n])
        rgb[0, 0] = n
        tracker.push(rgb, n / 25)
    return tracker.finish()


def test_the_detector_runs_on_schedule_and_at_changes_only():
    calls = []
    tracks = run([[(80 + n, 40)] for n in range(21)], calls=calls)
    assert len(tracks) == 1 and tracks[0].stop == 21 and all(tracks[0].present)
    assert calls == [0, 5, 10, 15, 20]


def test_tracks_begin_and_end_at_the_exact_frame():
    script = [[] for _ in range(7)] + [[(80, 40)]] * 12 + [[]] * 9
    (track,) = run(script)
    assert (track.start, track.stop) == (7, 19)


def test_two_people_keep_their_identity():
    script = [[(10 + n, 20), (150 - n, 90)] for n in range(20)]
    tracks = run(script)
    assert len(tracks) == 2 and all(len(t.times) == 20 for t in tracks)
    for track in tracks:
        xs = [f.box[0] for f in track.seen if f is not None]
        assert np.all(np.diff(xs) > 0) or np.all(np.diff(xs) < 0)


def test_another_person_does_not_continue_a_track():
    script = [[(20, 20), (160, 80)]] * 12 + [[(160, 80)]] * 12
    tracks = run(script)
    first = pick_speaker(tracks, "first", (160, 240))
    assert len({t.seen[0].box[0] > 100 for t in first}) == 1


def test_a_returning_face_continues_its_track():
    script = [[(80, 40)]] * 10 + [[]] * 15 + [[(120, 60)]] * 10
    assert [(t.start, t.stop) for t in pick_speaker(run(script), "speaker", (160, 240))] == [
        (0, 10),
        (25, 35),
    ]


def test_cut_ends_a_track_at_once():
    bright = np.full_like(GROUND, 230)
    bright[:80] = 20
    grounds = [GROUND] * 8 + [bright] * 8
    tracks = run([[(80, 40)]] * 16, grounds=grounds)
    assert [(t.start, t.stop, t.shot) for t in tracks] == [(0, 8, 0), (8, 16, 1)]


def test_a_fade_is_no_cut():
    scene = np.random.default_rng(0).uniform(0, 160, (32, 32)).astype(np.float32)
    assert not is_cut(scene, 0.5 * scene + 120)
    assert is_cut(scene, np.zeros_like(scene)) and is_cut(scene, scene[::-1, ::-1])


def test_one_and_two_frames():
    assert [len(t.times) for t in run([[(80, 40)]])] == [1]
    assert [len(t.times) for t in run([[(80, 40)]] * 2)] == [2]


def test_overlap():
    box = np.array([0.0, 0, 10, 10])
    assert overlap(box, box) == 1 and overlap(box, box + [5, 0, 0, 0]) == 1 / 3 and not overlap(box, box + 20)
