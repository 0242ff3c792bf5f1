"""The task told: audio and frames both tell the bit, grey frames do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from deiii.data.corpora.synthetic.face import render_frames
from deiii.data.corpora.synthetic.plan import plan_clip
from deiii.data.corpora.synthetic.voice import SAMPLE_RATE
from tests.helpers.synthetic_tasks import answers, check_equal_luminance, redness, settings, unseen, upright


def cheek_redness(plan, frames, k):
    """Redness of the cheeks in frame k against that between the brows."""
    red = redness(upright(plan, frames, 64)[k])
    return red[36:46, 10:22].mean() + red[36:46, 42:54].mean() - 2 * red[20:26, 28:36].mean()


def test_sound_and_frames_both_tell_the_bit(files):
    clips = files("told")
    low = []
    for _, _, sound, _ in clips:
        power = np.abs(np.fft.rfft(sound)) ** 2
        hertz = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE)
        low.append(power[(hertz > 600) & (hertz < 1300)].sum() / power[(hertz > 150) & (hertz < 600)].sum())
    assert unseen(clips, np.log(low)[:, None], answers(clips)) >= 0.98
    red = [[cheek_redness(plan, frames, k) for k in (1, 4)] for plan, frames, _, _ in clips]
    assert unseen(clips, red, answers(clips)) >= 0.95


def test_grey_frames_do_not_tell_the_bit():
    """So flow from grey frames does not either."""
    for number in (0, 9):
        plan = plan_clip(settings("told"), number)
        one, two = render_frames(plan), render_frames(replace(plan, blush=-plan.blush))
        assert (one != two).any()
        check_equal_luminance(one, two)
