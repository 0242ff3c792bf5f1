"""The task order: two syllables are apart, their order is heard, and nothing else tells it."""

from __future__ import annotations

import librosa
import numpy as np
import pytest

from deiii.data.corpora.synthetic.plan import check
from deiii.data.corpora.synthetic.tasks import ORDER_EDGE, ORDER_GRID, SHORTEST_ORDER
from deiii.data.corpora.synthetic.voice import SAMPLE_RATE
from tests.helpers.synthetic_tasks import CHANCE, answers, plans_of, settings, unseen, upright


def test_syllables_are_apart_from_each_other_and_from_the_borders():
    for seconds in (1.3, 1.6, 3.0):
        for p in plans_of(settings("order", seconds=seconds)):
            (start, end), (second, last) = p.bursts
            assert second - end >= 0.28
            assert start >= ORDER_EDGE - 1e-9 and last <= p.seconds - ORDER_EDGE + 1e-9
            steps = (second - start) / ORDER_GRID
            assert steps == pytest.approx(round(steps), abs=1e-9)
            assert {*p.vowels.tolist()} == {0, 2}


def test_a_clip_too_short_for_two_syllables_is_refused():
    with pytest.raises(ValueError, match="corpus.synthetic.seconds is in 1.28..60 for .*task=order"):
        check(settings("order", seconds=1.2))
    check(settings("order", seconds=SHORTEST_ORDER))


def test_the_order_is_heard(files):
    """The vowel /i/ has less energy between 600 and 1200 Hz than /a/: compared between the two syllables."""
    right = []
    for plan, _, sound, _ in files("order"):
        level = []
        for start, end in plan.bursts:
            part = sound[int(start * SAMPLE_RATE) : int(end * SAMPLE_RATE)]
            power = np.abs(np.fft.rfft(part)) ** 2
            hertz = np.fft.rfftfreq(len(part), 1 / SAMPLE_RATE)
            level.append(power[(hertz > 600) & (hertz < 1300)].sum() / power.sum())
        right.append((level[0] > level[1]) == (plan.label == "a-i"))
    assert np.mean(right) >= 0.98


def test_statistics_over_time_do_not_tell_the_order(files):
    """Moments over time of the log-mel spectrogram of decoded files, which a bag of windows could use."""
    clips, rows = files("order"), []
    for _, _, sound, _ in clips:
        mel = librosa.feature.melspectrogram(y=sound, sr=SAMPLE_RATE, n_fft=2048, hop_length=960, n_mels=40)
        mel = librosa.power_to_db(mel)
        change = np.diff(mel, axis=1)
        rows.append(np.concatenate([mel.mean(1), mel.std(1), (mel**3).mean(1), change.std(1)]))
    assert unseen(clips, rows, answers(clips), components=30) < CHANCE


def test_the_mouth_does_not_tell_the_order(files):
    clips = files("order")
    rows = [upright(plan, frames, 32)[:, 20:30, 8:24].mean((1, 2, 3)) for plan, frames, _, _ in clips]
    assert unseen(clips, rows, answers(clips)) < CHANCE
