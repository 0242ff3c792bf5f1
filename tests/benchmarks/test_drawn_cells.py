"""Drawn cells: neither input alone has the answer; both together have it, and the numbers in part."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.drawn_cells import CELL, GRID, draw, markdown

STORED = Path(__file__).parents[2] / "docs" / "results" / "drawn-cells-2026-11-26"


def seen(images: int, equal: bool):
    """By image: which texture each cell has and whether it moves, read from the pixels, and the answer."""
    frames, flow, moving = (x.numpy() for x in draw(images, torch.Generator().manual_seed(3), equal))
    cells = [
        (slice(CELL * r, CELL * r + CELL), slice(CELL * c, CELL * c + CELL))
        for r in range(GRID) for c in range(GRID)
    ]  # fmt: skip
    patches = np.stack([frames[:, 0, r, c] for r, c in cells], axis=1)  # [N,K,CELL,CELL]
    upright = np.abs(patches.mean(2)).mean(2) > np.abs(patches.mean(3)).mean(2)  # columns differ
    speed = np.stack([np.linalg.norm(flow[:, :, r, c].mean((2, 3)), axis=1) for r, c in cells], axis=1)
    return np.where(upright, 0, 1), speed > 0.5, moving


@pytest.mark.parametrize("equal", [False, True])
def test_the_cells_of_the_answer_move_and_no_others(equal):
    texture, moves, moving = seen(500, equal)
    np.testing.assert_array_equal(moves, texture == moving[:, None])
    if equal:
        assert (texture.sum(1) == 8).all()


def test_neither_the_textures_nor_the_moving_cells_depend_on_the_answer():
    texture, moves, moving = seen(4000, equal=False)
    for cells in (texture, moves):
        gap = cells[moving == 0].mean(0) - cells[moving == 1].mean(0)
        assert np.abs(gap).max() < 4.5 / np.sqrt(len(moving))  # 4.5 sd of a difference of shares


def test_numbers_of_cells_tell_the_answer_unless_they_are_equal():
    """Numbers are unequal in 1 - C(16,8) / 2^16 = 0.804 of the images; half of the rest is guessed."""
    texture, moves, moving = seen(4000, equal=False)
    guess = np.where(moves.sum(1) == texture.sum(1), 1, 0)
    unequal = texture.sum(1) != 8
    assert (guess == moving)[unequal].all()
    assert unequal.mean() == pytest.approx(0.804, abs=0.03)
    assert np.mean(guess == moving) == pytest.approx(0.902, abs=0.03)


@pytest.mark.parametrize("name", ["cells", "equal", "hidden", "hidden_equal"])
def test_the_stored_table_is_that_of_the_stored_figures(name):
    result = json.loads((STORED / f"{name}.json").read_text())
    assert (STORED / f"{name}.md").read_text() == markdown(result)


def test_the_stored_effect_of_attention_is_the_difference_of_the_seeds():
    result = json.loads((STORED / "cells.json").read_text())
    full, other = (np.array(result["accuracy"][v]["equal"]) for v in ("full", "concatenation"))
    gap = result["full_minus_concatenation"]["equal"]
    assert gap["mean"] == pytest.approx((full - other).mean())
    half = 2.776 * (full - other).std(ddof=1) / np.sqrt(5)  # the t quantile of 4 degrees of freedom
    assert gap["interval"] == pytest.approx([gap["mean"] - half, gap["mean"] + half], abs=1e-4)
