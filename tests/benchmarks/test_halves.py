"""The halves of recordings: what a network without the Conformer sees of their order, and the figures."""

from __future__ import annotations

import csv
import io
import lzma
from dataclasses import replace

import numpy as np
import torch

from benchmarks.halves import GAP, HALF, HOPS, NETWORK, as_batch, figures, stretch, write_predictions
from deiii.model.network.deiii import DEIII


def test_a_stretch_holds_both_halves_around_a_gap_of_zeros():
    logmel = np.random.default_rng(0).normal(-30, 9, (HOPS + 20, 6)).astype(np.float32)
    one, two = (stretch(logmel, 7, swap) for swap in (False, True))
    first, second = one[:HALF], one[HALF + GAP :]
    np.testing.assert_array_equal(two[:HALF], second)
    np.testing.assert_array_equal(two[HALF + GAP :], first)
    assert not one[HALF : HALF + GAP].any()
    np.testing.assert_allclose(np.diff(first, axis=0), np.diff(logmel[7 : 7 + HALF], axis=0) / 10, atol=1e-5)
    np.testing.assert_allclose((first + second).mean(0), 0, atol=1e-5)


def test_without_the_conformer_both_orders_have_the_same_scores():
    rng = np.random.default_rng(1)
    logmel = [rng.normal(-30, 9, (HOPS, 12)).astype(np.float32) for _ in range(8)]
    gaps = {}
    for conformer in (False, True):
        torch.manual_seed(0)
        network = DEIII(replace(NETWORK, width=16, conformer=conformer), 2, 0, 12)
        network(
            as_batch([stretch(x, 0, False) for x in logmel], np.zeros(8))
        )  # statistics that are not 0 and 1
        network.eval()
        with torch.no_grad():
            scores = [
                network(as_batch([stretch(x, 0, swap) for x in logmel], np.zeros(8))).fused.logits
                for swap in (False, True)
            ]
        gaps[conformer] = (scores[0] - scores[1]).abs().max().item()
    assert gaps[False] < 5e-6
    assert gaps[True] > 1e-4


def test_figures_and_predictions(tmp_path):
    clips, speaker = list("abcdef"), dict(zip("abcdef", "112233", strict=True))
    sure, guess = np.tile([0.1, 0.9], (6, 1)), np.full((6, 2), 0.4)
    found = {"full": [sure], "no_conformer": [guess]}
    result = figures(clips, speaker, found)
    assert result["full"]["accuracy"] == 1 and result["no_conformer"]["accuracy"] == 0.5
    assert result["full - no_conformer"]["accuracy"] == 0.5
    assert result["full"]["largest_difference_of_orders"] == 0.8
    assert result["no_conformer"]["largest_difference_of_orders"] == 0
    write_predictions(tmp_path / "p.csv.xz", clips, speaker, found, [3])
    rows = list(csv.DictReader(io.StringIO(lzma.decompress((tmp_path / "p.csv.xz").read_bytes()).decode())))
    assert len(rows) == 12 and rows[0]["seed"] == "3" and rows[0]["p_swapped_when_swapped"] == "0.900000"
