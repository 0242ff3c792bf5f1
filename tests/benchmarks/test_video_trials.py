"""Trials of video inputs: known settings, no test speaker is scored, differences are paired by fold."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from benchmarks.video_trials import TRIALS, figures, trial_configs
from deiii.data.config.strict_yaml import ConfigError

SCRATCH = ["configs/emotional_av_scratch.yaml"]


def test_every_run_has_its_folder_and_its_settings(tmp_path):
    configs = trial_configs(SCRATCH, TRIALS, [0, 3], tmp_path)
    assert list(configs) == [(name, fold) for name in TRIALS for fold in (0, 3)]
    assert len({config.train.run for config in configs.values()}) == len(configs)
    assert all(config.split.fold == fold for (_, fold), config in configs.items())
    first = next(iter(configs.values()))
    for (name, _), config in configs.items():
        same = config.model == first.model and config.loader == first.loader
        assert same == (not TRIALS[name]), name
    # The folder of a trial does not depend on the others, so that a later command finds its runs.
    last = list(TRIALS)[-1]
    alone = trial_configs(SCRATCH, {last: TRIALS[last]}, [3], tmp_path)
    assert alone[last, 3] == configs[last, 3]


@pytest.mark.parametrize("words", [["train.monitor=uar"], ["split.val_share=0"]])
def test_settings_that_would_choose_an_epoch_or_have_no_validation_speaker_are_refused(words, tmp_path):
    with pytest.raises(ConfigError, match="set train.monitor=last, and split.val_share"):
        trial_configs([*SCRATCH, *words], TRIALS, [0], tmp_path)


def test_differences_are_paired_by_fold():
    first, other = [0.25, 0.5, 0.375, 0.625], [0.3, 0.5, 0.5, 0.7]
    rows = figures({"first": first, "other": other})
    assert [row["uar"] for row in rows] == [0.4375, 0.5]
    gaps = np.array(other) - np.array(first)
    expected = ttest_1samp(gaps, 0).confidence_interval(0.95)
    assert rows[1]["minus_first"] == pytest.approx(gaps.mean(), abs=1e-4)
    assert rows[1]["ci"] == pytest.approx([expected.low, expected.high], abs=1e-4)
    assert "ci" not in rows[0]
