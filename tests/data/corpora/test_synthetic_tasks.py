"""The tasks order, binding and told: clips, nuisances and faces, which are the same for all three.

What tells the answer of one task is in `test_synthetic_order`, `test_synthetic_binding` and
`test_synthetic_told`. Exact statements are shown with twins: two plans with opposite answers whose clips
agree in the input that must not tell them. Statements about distributions are measured with linear probes on
decoded files.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.stats import chi2_contingency

from deiii.data.corpora.synthetic.face import landmarks, render_frames
from deiii.data.corpora.synthetic.make import make
from deiii.data.corpora.synthetic.plan import classes, plan_clip
from deiii.data.corpora.synthetic.skin import LUMA
from deiii.data.tools.processes.made_folders import LOCK
from tests.helpers.synthetic_tasks import CHANCE, TASKS, answers, plans_of, settings, unseen


@pytest.mark.parametrize("task", TASKS)
def test_every_speaker_has_both_answers_equally_often(task):
    config = settings(task)
    counts = Counter((p.speaker.name, p.label) for p in plans_of(config))
    assert len(classes(task)) == 2 and len(counts) == 24
    assert set(counts.values()) == {4}


@pytest.mark.parametrize("task", TASKS)
def test_the_answer_is_independent_of_the_coins_of_other_tasks(task):
    plans = plans_of(settings(task, speakers=24, clips_per_class=10))
    answer = [p.label == plans[0].label for p in plans]
    for bit in ("appearance", "voice"):
        other = [getattr(p, bit) for p in plans]
        table = np.zeros((2, 2))
        np.add.at(table, (np.array(answer, int), other), 1)
        assert chi2_contingency(table).pvalue > 0.001
    assert {p.motion for p in plans} == {0}


def planned(p):
    """All that a plan draws beside what tells the answer."""
    return [
        p.gain_db, p.hum_db, p.noise, p.light, p.quantiser, p.valence, p.arousal, *p.centre.mean(0),
        *p.centre.std(0), p.scale.mean(), p.roll.mean(), *p.bursts[0], *p.bursts[-1], len(p.bursts),
        p.pitch[0] / p.speaker.pitch, p.pitch[-1] / p.speaker.pitch, p.slope[0], p.slope[-1],
        p.opening.mean(), p.opening.std(), p.opening[: len(p.opening) // 2].mean(),
    ]  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_planned_nuisances_do_not_tell_the_answer(task):
    clips = [(p,) for p in plans_of(settings(task, speakers=24, clips_per_class=12))]
    found = unseen(clips, [planned(c[0]) for c in clips], answers(clips))
    assert found < 0.5 + 3.3 * 0.5 / np.sqrt(len(clips)), found


def measured(clip):
    """File size, levels, brightness, noise: what a file shows beside its content."""
    _, frames, sound, size = clip
    grey = frames.astype(np.float32) @ LUMA
    corner = grey[:, :16, :16]
    seen = [grey.mean(), grey.std(), corner.std((1, 2)).mean(), corner.std(0).mean()]
    return [size, np.log(sound.std()), *seen, *planned(clip[0])]


@pytest.mark.parametrize("task", TASKS)
def test_nuisances_of_files_do_not_tell_the_answer(files, task):
    clips = files(task)
    assert unseen(clips, [measured(c) for c in clips], answers(clips)) < CHANCE


@pytest.mark.parametrize("task", TASKS)
def test_the_cascade_finds_the_faces(task):
    config = settings(task, speakers=100, clips_per_class=1, size=192)
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    found = []
    for person in range(100):
        plan = plan_clip(config, 2 * person + person % 2)
        nose = landmarks(plan)[3, 2]
        grey = cv2.cvtColor(render_frames(replace(plan, roll=plan.roll[:4]))[3], cv2.COLOR_RGB2GRAY)
        boxes = cascade.detectMultiScale(grey, 1.1, 5, minSize=(60, 60))
        found.append(any(x < nose[0] < x + w and y < nose[1] < y + h for x, y, w, h in boxes))
    assert np.mean(found) >= 0.95


@pytest.mark.parametrize("task", TASKS)
def test_equal_settings_give_equal_bytes(task, tmp_path):
    config = settings(task, speakers=1, clips_per_class=1)
    for name, workers in (("one", 1), ("two", 2)):
        make(tmp_path / name, config, workers=workers, progress=False)
    found = (p for p in (tmp_path / "one").rglob("*.*") if p.name != LOCK)
    files = sorted(p.relative_to(tmp_path / "one") for p in found)
    assert len(files) == 4  # two clips, their table, the description
    for path in files:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()
