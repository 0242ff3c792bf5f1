"""The labels of the synthetic corpus: balanced and independent for every speaker, in every part of a split.

All tests use plans only; `test_synthetic_cues` checks that clips show what their plans say.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import chi2_contingency
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deiii.data.config.schema import SplitConfig, SyntheticConfig
from deiii.data.corpora.clips import Clip, Corpus
from deiii.data.corpora.protocol import PARTS
from deiii.data.corpora.splits import make_split, number_of_folds
from deiii.data.corpora.synthetic.plan import classes, clip_count, plan_clip
from deiii.data.corpora.synthetic.tasks import SYNC

BITS = ("appearance", "motion", "voice")
CUES = SyntheticConfig()  # the demo's: 24 speakers, 3 clips of each of 8 classes
LONG_SYNC = SyntheticConfig(task="sync", clips_per_class=16)  # the ablation's


def plans_of(config):
    return [plan_clip(config, n) for n in range(clip_count(config))]


@pytest.fixture(scope="module")
def cues():
    return plans_of(CUES)


@pytest.fixture(scope="module")
def sync():
    return plans_of(LONG_SYNC)


def as_corpus(plans, config):
    clips = tuple(Clip(p.id, f"{p.id}.mp4", p.speaker.name, p.label) for p in plans)
    return Corpus("synthetic", ".", classes(config.task), clips)


@pytest.mark.parametrize("fold", range(5))
def test_every_part_of_every_split_has_every_combination_of_bits_equally_often(cues, fold):
    corpus = as_corpus(cues, CUES)
    assert number_of_folds(corpus, SplitConfig()) == 5
    split, plan = make_split(corpus, SplitConfig(fold=fold)), {p.id: p for p in cues}
    for part in PARTS:
        ids = getattr(split, part)
        table = np.zeros((2, 2, 2), int)
        for i in ids:
            table[tuple(getattr(plan[i], bit) for bit in BITS)] += 1
        assert table.min() == table.max() == len(ids) / 8  # so any two bits and all three are independent


def test_every_speaker_has_every_combination_equally_often(cues, sync):
    for plans, names in ((cues, classes("cues")), (sync, SYNC)):
        for speaker in {p.speaker.name for p in plans}:
            counts = [sum(p.speaker.name == speaker and p.label == n for p in plans) for n in names]
            assert min(counts) == max(counts)


def test_what_sync_does_not_ask_is_independent_of_the_answer(sync):
    answer = np.array([p.label == "matched" for p in sync])
    for bit in ("appearance", "voice"):
        other = np.array([getattr(p, bit) for p in sync])
        table = [[np.sum((answer == a) & (other == b)) for b in (0, 1)] for a in (False, True)]
        assert chi2_contingency(table).pvalue > 0.001
    assert {p.motion for p in sync} == {0}


def nuisances(p):
    """All that a plan draws beside the cues: where, how large, how loud, how noisy, how compressed, when."""
    return [
        p.seconds, p.gain_db, p.hum_db, p.noise, p.light, p.quantiser, p.valence, p.arousal,
        *p.centre.mean(0), *p.centre.std(0), p.scale.mean(), p.scale.std(), p.roll.mean(), p.roll.std(),
        len(p.bursts), *p.bursts[0], p.bursts[-1, 1], np.diff(p.bursts, axis=1).mean(),
        p.opening.mean(), p.opening.std(), np.abs(np.diff(p.opening)).mean(), (p.opening > 0.1).mean(),
        p.pitch.mean() / p.speaker.pitch,
    ]  # fmt: skip


def at_chance(rows, target, speakers):
    """Whether a logistic regression stays within what fair coins give (z = 3.3) on unseen speakers."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, C=0.1))
    found = cross_val_score(model, rows, target, groups=speakers, cv=GroupKFold(4)).mean()
    return found < 0.5 + 3.3 * 0.5 / np.sqrt(len(target)), found


@pytest.mark.parametrize("bit", BITS)
def test_nuisances_are_at_chance_on_cues(cues, bit):
    rows, speakers = [nuisances(p) for p in cues], [p.speaker.name for p in cues]
    fine, found = at_chance(rows, [getattr(p, bit) for p in cues], speakers)
    assert fine, found


def test_nuisances_are_at_chance_on_sync(sync):
    rows, speakers = [nuisances(p) for p in sync], [p.speaker.name for p in sync]
    fine, found = at_chance(rows, [p.label == "matched" for p in sync], speakers)
    assert fine, found


def test_the_check_would_find_a_shortcut(sync):
    """Two decibels more of loudness in matched clips is found."""
    rows = [nuisances(p) for p in sync]
    for row, p in zip(rows, sync, strict=True):
        row[1] += 2.0 * (p.label == "matched")
    fine, found = at_chance(rows, [p.label == "matched" for p in sync], [p.speaker.name for p in sync])
    assert not fine and found > 0.55


def test_continuous_labels_are_independent_of_the_class_and_of_each_other(cues):
    values = np.array([[p.valence, p.arousal] for p in cues])
    assert np.abs(values).max() <= 1 and values.std(0).min() > 0.5
    columns = [values[:, 0], values[:, 1], *(np.array([getattr(p, b) for p in cues]) for b in BITS)]
    for a, b in itertools.combinations(columns, 2):
        if a is columns[0] or a is columns[1]:
            assert abs(np.corrcoef(a, b)[0, 1]) < 3.3 / np.sqrt(len(cues))
