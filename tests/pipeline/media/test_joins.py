"""Joins: all streams of a joined recording move by the same amount; one stream's hiccup is none."""

import pytest

from deiii.pipeline.media.joins import JoinFinder, Packet, find_joins

VIDEO, AUDIO = 0.04, 0.02


def recording(video_seconds, audio_seconds, video_at=0.0, audio_at=0.0, order=0):
    """Packets of both streams, interleaved by time."""
    video = [(video_at + VIDEO * i, 0) for i in range(round(video_seconds / VIDEO))]
    audio = [(audio_at + AUDIO * i, 1) for i in range(round(audio_seconds / AUDIO))]
    streams = [], []
    for n, (stamp, stream) in enumerate(sorted(video + audio)):
        streams[stream].append(Packet(order + n, stamp, stamp, (VIDEO, AUDIO)[stream]))
    return streams


def join(first, second):
    return [a + b for a, b in zip(first, second, strict=True)]


def test_whole_recordings_have_no_join():
    assert find_joins(recording(4.0, 4.0), [VIDEO, AUDIO]) == []
    assert find_joins([[], []], [VIDEO, AUDIO]) == []


@pytest.mark.parametrize(("video", "audio"), [(4.0, 4.0), (4.0, 3.52), (3.52, 4.0)])
def test_both_streams_move_by_what_the_longer_one_needs(video, audio):
    streams = join(recording(video, audio), recording(4.0, 4.0, order=1000))
    (found,) = find_joins(streams, [VIDEO, AUDIO])
    assert found.shift == pytest.approx(4.0)
    assert found.ends == pytest.approx((video, audio)) and found.starts == pytest.approx((0.0, 0.0))


def test_three_recordings_have_two_joins():
    streams = join(
        join(recording(4.0, 4.0), recording(4.0, 4.0, order=1000)), recording(4.0, 4.0, order=2000)
    )
    assert [j.shift for j in find_joins(streams, [VIDEO, AUDIO])] == pytest.approx([4.0, 8.0])


def test_a_jump_of_all_streams_is_closed_and_a_pause_is_not():
    far = join(recording(4.0, 4.0), recording(4.0, 4.0, 5000.0, 5000.0, order=1000))
    (found,) = find_joins(far, [VIDEO, AUDIO])
    assert found.shift == pytest.approx(4.0 - 5000.0)
    near = join(recording(4.0, 4.0), recording(4.0, 4.0, 9.0, 9.0, order=1000))
    assert find_joins(near, [VIDEO, AUDIO]) == []


def test_one_stream_that_steps_back_is_no_join():
    video, audio = recording(8.0, 8.0)
    audio = [p._replace(stamp=p.stamp - 2, decoded=p.decoded - 2) if p.stamp >= 4 else p for p in audio]
    assert find_joins([video, audio], [VIDEO, AUDIO]) == []


def test_one_stream_that_jumps_beyond_the_other_has_a_join_of_its_own():
    video, audio = recording(8.0, 8.0)
    audio = [p._replace(stamp=p.stamp + 99, decoded=p.decoded + 99) if p.stamp >= 4 else p for p in audio]
    (found,) = find_joins([video, audio], [VIDEO, AUDIO])
    assert found.shift == pytest.approx(-99.0) and found.ends[0] is None
    assert JoinFinder([found], 0, VIDEO).use(4.0, 4.0) is None
    assert JoinFinder([found], 1, AUDIO, shift=1.0).use(4.0, 103.0) == pytest.approx(-98.0)
