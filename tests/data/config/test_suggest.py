"""Hints for misspelt names."""

from __future__ import annotations

from deiii.data.config.suggest import did_you_mean, nearest

KNOWN = ["faces.size", "flow.batch", "train.lr"]


def test_the_nearest_known_word_is_found():
    assert nearest("faces.siz", KNOWN) == "faces.size"
    assert did_you_mean("flow.bacth", KNOWN) == "; did you mean 'flow.batch'?"


def test_nothing_is_suggested_for_a_word_unlike_all_others():
    assert nearest("zzz", KNOWN) is None and did_you_mean("zzz", KNOWN) == ""
    assert nearest("faces.siz", []) is None


def test_a_higher_cutoff_suggests_less():
    assert nearest("flow.bacthes", KNOWN, cutoff=0.95) is None
