"""The trials with clips of another corpus: who is trained on, and with what weight."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.mix_tuning import standardised, validate


@pytest.mark.parametrize("weight", [0.0, 0.2])
def test_the_other_corpus_is_trained_on_with_its_weight_and_never_validated(weight):
    speakers = np.repeat(list("abcxy"), 6)
    own = np.isin(speakers, list("abc"))
    labels = np.tile([0, 1, 2], 10)
    seen = []

    def model(part, weights):
        x, classes, other = part
        assert len(x) == len(classes) == len(weights) and len(other) == 12
        seen.append(sorted(weights))
        return np.eye(3)[np.tile([0, 1, 2], 4)]

    parts = [np.random.default_rng(0).normal(size=(30, 40))]
    (found,) = validate(parts, 0.0, [(np.where(own, 1.0, weight), model)], labels, speakers, own)
    assert seen == [[weight] * (12 if weight else 0) + [1.0] * 6] * 3
    assert found["uar"] == 1.0 and set(found["by_test_speaker"]) == set("abc")


def test_clips_without_a_stage_count_neither_for_its_mean_nor_for_its_deviation():
    x = np.array([[1.0], [3.0], [np.nan], [9.0]])
    assert standardised(x, np.array([0, 1, 2])).tolist() == [[-1.0], [1.0], [0.0], [7.0]]
