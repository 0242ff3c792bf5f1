"""Intervals against formulas, and their coverage where speakers differ as those of RAVDESS do.

The simulation in short: `speakers` take their true accuracies from a beta distribution with the mean 0.598
and the deviation 0.110, those of the 24 actors in docs/results/ravdess-audio-2026-11-24; each has 60 clips,
as there. An interval covers where it holds the mean of all speakers that could have been taken, 0.598.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from deiii.model.evaluation.results import attribute_figures
from deiii.model.intervals import (
    CCC_LIMITS,
    OVER_SPEAKERS,
    estimate,
    holm,
    interval_kind,
    kind_of_interval,
    mean_interval,
    speaker_interval,
    unequal_counts,
)
from deiii.model.metrics import ccc, class_intervals

MEAN, DEVIATION, CLIPS = 0.598, 0.110, 60
CONCENTRATION = MEAN * (1 - MEAN) / DEVIATION**2 - 1


def accuracy(right):
    return lambda rows: float(right[rows].mean())


def owners(people, clips=CLIPS):
    return np.repeat([f"s{i:02d}" for i in range(people)], clips)


def bootstrap(speakers, right, rng, rounds=300):
    """The percentile bootstrap over speakers, which this project used before."""
    means = right.reshape(len(set(speakers)), -1).mean(axis=1)
    resampled = means[rng.integers(len(means), size=(rounds, len(means)))].mean(axis=1)
    return np.quantile(resampled, [0.025, 0.975])


@pytest.mark.parametrize(("people", "of_bootstrap"), [(4, 0.82), (5, 0.85), (24, 0.92)])
def test_intervals_over_speakers_cover_what_they_promise(people, of_bootstrap):
    rng, rounds = np.random.default_rng(people), 600
    speakers = owners(people)
    covered = np.zeros(2)
    for _ in range(rounds):
        true = rng.beta(MEAN * CONCENTRATION, (1 - MEAN) * CONCENTRATION, people)
        right = (rng.random(len(speakers)) < np.repeat(true, CLIPS)).astype(float)
        found = speaker_interval(speakers, accuracy(right)), bootstrap(speakers, right, rng)
        covered += [low <= MEAN <= high for low, high in found]
    mine, before = covered / rounds
    assert 0.93 <= mine <= 0.985  # 600 rounds tell 0.95 to 0.018 at two deviations
    assert before == pytest.approx(of_bootstrap, abs=0.05) and before < mine


@pytest.mark.slow
@pytest.mark.parametrize("people", [3, 4, 5, 8, 12, 24])
def test_intervals_over_speakers_cover_in_the_long_form(people):
    rng, rounds = np.random.default_rng(people), 4000
    speakers = owners(people)
    covered = 0
    for _ in range(rounds):
        true = rng.beta(MEAN * CONCENTRATION, (1 - MEAN) * CONCENTRATION, people)
        right = (rng.random(len(speakers)) < np.repeat(true, CLIPS)).astype(float)
        low, high = speaker_interval(speakers, accuracy(right))
        covered += low <= MEAN <= high
    assert covered / rounds >= 0.94 and (people < 5 or covered / rounds <= 0.965)


@pytest.mark.parametrize(("mean", "deviation"), [(0.97, 0.04), (0.995, 0.008)])
def test_intervals_near_the_border_cover(mean, deviation):
    """Where a plain t interval of five speakers covers 0.81 and 0.66."""
    rng, rounds, people = np.random.default_rng(0), 500, 5
    speakers, concentration = owners(people), mean * (1 - mean) / deviation**2 - 1
    covered = 0
    for _ in range(rounds):
        true = rng.beta(mean * concentration, (1 - mean) * concentration, people)
        right = (rng.random(len(speakers)) < np.repeat(true, CLIPS)).astype(float)
        low, high = speaker_interval(speakers, accuracy(right))
        assert 0 <= low <= right.mean() <= high <= 1
        covered += low <= mean <= high
    assert covered / rounds >= 0.93


@pytest.mark.parametrize(
    ("of_seeds", "of_people"), [(0.2, 0.02), (0.02, 0.15), (0.1, 0.1)], ids=["seeds", "speakers", "both"]
)
def test_intervals_over_seeds_and_speakers_cover(of_seeds, of_people):
    """Whatever dominates; a bootstrap over both covered 0.84 where seeds dominate."""
    rng, rounds, seeds, people, clips = np.random.default_rng(1), 250, 5, 5, 24
    speakers, gap = owners(people, clips), -0.3
    covered = 0
    for _ in range(rounds):
        true = gap + rng.normal(0, of_seeds, (seeds, 1)) + rng.normal(0, of_people, (1, people))
        worse = rng.random((seeds, len(speakers))) < np.repeat(np.clip(-true, 0, 1), clips, axis=1)
        found = estimate(speakers, lambda rows, x=worse: (-x[:, rows].mean(axis=1)).tolist())
        covered += found.low <= gap <= found.high
    assert 0.92 <= covered / rounds


@pytest.mark.parametrize(("seeds", "least", "most"), [(2, 0.85, 0.91), (3, 0.91, 0.95), (5, 0.92, 0.97)])
def test_intervals_over_two_seeds_are_too_narrow_where_seeds_differ(seeds, least, most):
    """Tables of normal deviates: the variances are 3 for seeds, 3 for speakers and 1 for the rest."""
    rng, rounds, people, covered = np.random.default_rng(2), 1000, 24, 0
    for _ in range(rounds):
        table = rng.normal(0, 3**0.5, (seeds, 1)) + rng.normal(0, 3**0.5, (1, people))
        table += rng.normal(0, 1, (seeds, people))
        found = estimate([str(n) for n in range(people)], lambda rows, x=table: x[:, rows].mean(axis=1))
        covered += found.low <= 0 <= found.high
    assert least <= covered / rounds <= most
    assert ("too narrow" in interval_kind(seeds)) == (seeds == 2)


def test_a_balanced_accuracy_has_the_t_interval_in_wilsons_form():
    rng, people = np.random.default_rng(0), 6
    right = (rng.random(people * CLIPS) < np.repeat(rng.uniform(0.4, 0.9, people), CLIPS)).astype(float)
    means = right.reshape(people, CLIPS).mean(axis=1)
    p, error, t = means.mean(), stats.sem(means), stats.t.ppf(0.975, people - 1)
    low, high = speaker_interval(owners(people), accuracy(right))
    for border in (low, high):  # what Wilson's interval is: (p - border)^2 = t^2 border (1 - border) / n
        n = p * (1 - p) / error**2
        assert (p - border) ** 2 == pytest.approx(t**2 * border * (1 - border) / n)
    assert estimate(owners(people), lambda rows: [float(right[rows].mean())]).interval == pytest.approx(
        stats.t.interval(0.95, people - 1, p, error)
    )


def test_everything_right_is_not_certain():
    low, high = speaker_interval(owners(5, 24), lambda rows: 1.0)
    assert high == 1.0 and low == pytest.approx(120 / (120 + stats.t.ppf(0.975, 4) ** 2))
    low, high = speaker_interval(owners(5, 24), lambda rows: 0.0)
    assert low == 0.0 and 0.03 < high < 0.1
    assert speaker_interval(owners(5, 24), lambda rows: 1.0, CCC_LIMITS)[0] < 0.95
    # three predictions of each clip are not three clips
    found = estimate(owners(5, 72), lambda rows: [1.0], (0.0, 1.0), clips=120)
    assert found.low == pytest.approx(0.9397, abs=1e-3)
    equal = estimate(owners(5, 24), lambda rows: [0.0])
    assert equal.low < 0 < equal.high and equal.p == 1


def test_fewer_than_three_speakers_and_undefined_figures_have_none():
    right = np.ones(20)
    assert speaker_interval(["a"] * 10 + ["b"] * 10, accuracy(right)) is None
    assert speaker_interval(["a"] * 20, accuracy(right)) is None
    assert speaker_interval(owners(5, 4), lambda rows: None) is None
    assert speaker_interval(owners(5, 4), lambda rows: None if len(rows) < 20 else 0.5) is None
    assert class_intervals(np.zeros(4, int), np.zeros(4, int), list("aabb"), 2)["uar_ci"] is None


def test_speakers_count_not_clips():
    """All clips of a speaker are right, or all wrong: a hundred clips each say no more than one."""
    few, many = (
        speaker_interval(owners(4, n), accuracy(np.repeat([1.0, 0.0, 1.0, 0.0], n))) for n in (1, 100)
    )
    assert few == pytest.approx(many)
    assert many[0] < 0.2 and many[1] > 0.8


def test_the_interval_of_a_ccc_covers():
    rng, rounds, people, clips = np.random.default_rng(0), 300, 6, 30
    speakers, covered = owners(people, clips), 0
    for _ in range(rounds):
        truth = rng.normal(0, 1, len(speakers))
        guess = truth + rng.normal(0, 0.7, len(speakers)) + np.repeat(rng.normal(0, 0.3, people), clips)
        low, high = speaker_interval(speakers, lambda r, t=truth, g=guess: ccc(t[r], g[r]), CCC_LIMITS)
        covered += low <= 2 / (1 + 1 + 0.7**2 + 0.3**2) <= high  # 2 cov / (var + var), of all speakers
    assert covered / rounds >= 0.93


def test_rounding_at_a_limit_does_not_widen_an_interval():
    """A CCC of 1 - 1e-18 is 1 in one half of the speakers and 1 - 1e-16 in the other: it had -1 to 1."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=60)
    speakers = owners(6, 10)
    for noise in (0.0, 1e-9, 1e-7):
        guess = truth + noise * rng.normal(size=60)
        found = speaker_interval(speakers, lambda rows, g=guess: ccc(truth[rows], g[rows]), CCC_LIMITS)
        assert found == pytest.approx([0.8016, 1], abs=1e-3)


def test_the_interval_of_a_mean_is_that_of_scipy():
    values = np.array([0.61, 0.58, 0.66, 0.71, 0.60])
    wanted = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    assert mean_interval(values) == pytest.approx(list(wanted))
    assert mean_interval(values[:2]) is None


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_between_none_and_bonferroni(p):
    adjusted = holm(p)
    assert all(a <= b <= min(1, len(p) * a) + 1e-12 for a, b in zip(p, adjusted, strict=True))
    order = np.argsort(p, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()
    assert adjusted[order[0]] == min(1.0, len(p) * min(p))


COUNTS = (2, 5, 11, 24, 55, 128)


def test_intervals_cover_less_where_a_few_speakers_have_most_clips():
    """What `unequal_counts` says: equal counts keep what they promise, very unequal ones do not."""
    rng, rounds, covered = np.random.default_rng(0), 1500, {}
    for counts in (COUNTS, (37,) * 6):
        speakers, inside = np.repeat(np.arange(6), counts), 0
        for _ in range(rounds):
            shares = rng.beta(9.4, 6.27, 6)  # mean 0.6, standard deviation 0.12
            right = (rng.random(len(speakers)) < shares[speakers]).astype(float)
            low, high = speaker_interval(speakers, accuracy(right))
            inside += low <= 0.6 <= high
        covered[counts] = inside / rounds
    assert covered[(37,) * 6] >= 0.94 > 0.93 > covered[COUNTS] > 0.88
    assert unequal_counts(COUNTS) and not unequal_counts((37,) * 6)


@pytest.mark.parametrize(
    ("clips", "told"),
    [
        (COUNTS, True),
        ((1, 1, 1, 1, 1, 100), True),
        ((0, 0, 0, 5), True),
        ((2, 128, 128, 128, 128, 128), False),
        ((8, 12, 18, 27, 41, 64), False),
        ((30,) * 24, False),
        ((1, 100), False),
        ((), False),
        ((0, 0, 0), False),
    ],
)
def test_the_report_tells_very_unequal_counts(clips, told):
    speakers = {str(i): {"clips": n} for i, n in enumerate(clips)}
    metrics = {"interval": OVER_SPEAKERS, "test": {"per_speaker": speakers}}
    assert ("too narrow" in kind_of_interval(metrics)) == told
    assert kind_of_interval(metrics).startswith(OVER_SPEAKERS)


def test_predictions_without_a_truth_and_their_speakers_do_not_count():
    """Intervals with them are those without them, also where they are too many or make up a third speaker."""
    rng = np.random.default_rng(5)
    truth, speakers = rng.normal(size=80), owners(4, 20)
    guess = truth + rng.normal(size=80)
    more, unrated = np.r_[truth, np.full(400, np.nan)], np.r_[guess, rng.normal(size=400)]
    several = [*speakers, *(f"unrated {n}" for n in np.repeat(np.arange(20), 20))]
    assert attribute_figures("valence", more, unrated, several) == attribute_figures(
        "valence", truth, guess, speakers
    )
    two = attribute_figures("valence", np.r_[truth[:40], np.nan], np.r_[guess[:40], 0], [*speakers[:40], "x"])
    assert two["ccc_valence_ci"] is None
