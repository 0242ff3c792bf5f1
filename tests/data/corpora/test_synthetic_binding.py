"""The task binding: frames and flow together tell which colour trembles, and neither alone does."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from deiii.data.corpora.synthetic.face import render_frames
from deiii.data.corpora.synthetic.plan import classes, plan_clip
from deiii.data.corpora.synthetic.tasks import CELLS, TREMBLE
from tests.helpers.synthetic_tasks import (
    CHANCE,
    answers,
    check_equal_luminance,
    plans_of,
    redness,
    settings,
    unseen,
    upright,
)


def by_cell(maps):
    """Means of [...,S,S] over `CELLS` x `CELLS` squares, [...,K]."""
    size = maps.shape[-1] // CELLS
    cells = maps.reshape(*maps.shape[:-2], CELLS, size, CELLS, size)
    return cells.mean((-3, -1)).reshape(*maps.shape[:-2], CELLS * CELLS)


def movement(crops):
    """Length of DIS flow between neighbouring grey crops, median over time, by cell: [K]."""
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(crop.astype(np.uint8), cv2.COLOR_RGB2GRAY) for crop in crops]
    flow = [dis.calc(a, b, None) for a, b in zip(grey[:-1], grey[1:], strict=True)]
    return by_cell(np.median(np.linalg.norm(flow, axis=-1), axis=0))


def twin(plan, offset):
    """A plan with the opposite answer whose frames from ``offset`` in steps of two are the same."""
    f = plan.freckles
    moving = int(plan.label == "green")
    alternation = (-1.0) ** (np.arange(len(f.shift)) - offset)[:, None, None]
    still = np.where((f.colour == moving)[:, None], f.shift[offset], 0) + np.zeros_like(f.shift)
    trembling = np.where((f.colour != moving)[:, None], f.shift[offset], 0) * alternation
    return replace(plan, label=classes("binding")[1 - moving], freckles=replace(f, shift=still + trembling))


def recoloured(plan):
    """A plan with the opposite answer in which the same cells move."""
    other = classes("binding")[int(plan.label == "red")]
    return replace(plan, label=other, freckles=replace(plan.freckles, colour=1 - plan.freckles.colour))


@pytest.mark.parametrize("offset", [0, 1])
def test_frames_at_an_even_stride_fit_both_answers(offset):
    """Frames alone therefore give 0.5: their twin with the other answer is as frequent."""
    plan = plan_clip(settings("binding"), 3)
    other = twin(plan, offset)
    assert not np.allclose(other.freckles.shift, plan.freckles.shift)
    one, two = render_frames(plan), render_frames(other)
    np.testing.assert_array_equal(one[offset::2], two[offset::2])
    assert (one[1 - offset :: 2] != two[1 - offset :: 2]).any(axis=(1, 2, 3)).all()


def test_grey_frames_fit_both_answers():
    """Flow from grey frames therefore gives 0.5: the recoloured twin is as frequent, and moves alike."""
    for number in (0, 5, 30):
        plan = plan_clip(settings("binding"), number)
        one, two = render_frames(plan), render_frames(recoloured(plan))
        assert (one != two).any()
        check_equal_luminance(one, two)


def test_each_cell_has_each_colour_half_the_time_and_only_one_colour_moves():
    plans = plans_of(settings("binding"))
    for p in plans:
        f = p.freckles
        assert np.bincount(f.colour).min() >= 3
        moves = np.abs(np.diff(f.shift, axis=0)).sum((0, 2)) > 0
        np.testing.assert_array_equal(moves, f.colour == classes("binding").index(p.label))
        np.testing.assert_allclose(np.linalg.norm(f.shift, axis=-1), TREMBLE)
    share = np.mean([p.freckles.colour for p in plans], axis=0)
    assert np.abs(share - 0.5).max() < 4 * 0.5 / np.sqrt(len(plans))
    # Neither the number of red cells nor that of trembling cells depends on the answer.
    red = np.array([p.freckles.colour.sum() for p in plans])
    answer = np.array([classes("binding").index(p.label) for p in plans])
    moving = np.where(answer == 1, red, 16 - red)
    for count in (red, moving):
        gap = count[answer == 0].mean() - count[answer == 1].mean()
        assert abs(gap) < 4 * 2 * 2 / np.sqrt(len(plans))  # the deviation of a count is at most 2


@pytest.fixture(scope="module")
def seen(files):
    """By clip, how red each cell is in one frame, and how far DIS flow moves in it: two arrays [N,K]."""
    crops = [upright(plan, frames, 96) for plan, frames, _, _ in files("binding")]
    return np.array([by_cell(redness(c[2])) for c in crops]), np.array([movement(c) for c in crops])


def test_frames_and_flow_together_tell_which_colour_trembles(files, seen):
    red, moved = (x - x.mean(1, keepdims=True) for x in seen)
    found = np.where((red * moved).sum(1) > 0, "red", "green")
    assert np.mean(found == answers(files("binding"))) >= 0.95


def test_neither_frames_nor_flow_alone_tell_which_colour_trembles(files, seen):
    clips = files("binding")
    for rows in seen:
        assert unseen(clips, rows, answers(clips)) < CHANCE
        moments = np.stack([rows.mean(1), rows.std(1), rows.max(1), np.median(rows, axis=1)], axis=1)
        assert unseen(clips, moments, answers(clips)) < CHANCE
    pixels = [upright(plan, frames, 32)[2] for plan, frames, _, _ in clips]
    assert unseen(clips, pixels, answers(clips), components=20) < CHANCE


def test_sound_does_not_tell_which_colour_trembles(files):
    clips = files("binding")
    rows = [
        np.log(np.abs(np.fft.rfft(sound[:36000])).reshape(-1)[1:].reshape(40, -1).mean(1))
        for *_, sound, _ in clips
    ]
    assert unseen(clips, rows, answers(clips)) < CHANCE
