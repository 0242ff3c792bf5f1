"""A sweep ranks by one score, and keeps nothing that is about other settings."""

import json

import pytest

from deiii.data.config.load import load_config, to_yaml
from deiii.data.config.strict_yaml import ConfigError
from deiii.model.sweep import sweep
from deiii.model.sweep.combinations import Combinations
from deiii.model.sweep.comparable import check_comparable
from deiii.model.sweep.results import FAILED, Trial, read_failure, read_result
from deiii.model.sweep.space import split_space
from deiii.model.sweep.sweep import is_tried, try_one


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["train.monitor=[uar,loss]"], "UAR of the best epoch; loss of classes"),
        (["train.monitor=[auto,last]"], "UAR of the best epoch; UAR of the last epoch"),
        (["model.attributes=[valence]", "model.classes=[true,false]"], "UAR .*; CCC of valence"),
        (
            ["model.classes=false", "model.attributes=[[valence],[arousal]]"],
            "CCC of valence .*CCC of arousal",
        ),
        (["train.monitor=loss", "train.w_video=[0,0.3]"], "the video head times 0"),
        (["train.monitor=loss", "train.w_audio=uniform(0,1)"], "the audio head times 1"),
        (["train.monitor=loss", "model.audio=[true,false]"], "loss of classes"),
    ],
)
def test_combinations_that_are_scored_differently_are_refused(words, named):
    axes, rest = split_space(words)
    with pytest.raises(ConfigError, match=rf"different validation scores \(.*{named}.*cannot be compared"):
        check_comparable(Combinations(["tiny", *rest]), axes)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["split.val_share=[0.1,0.3]"], "split.val_share is varied"),
        (["split.val_share=uniform(0.1,0.3)", "train.lr=[1e-3,2e-3]"], "split.val_share is varied"),
        (["split.leaks=[refuse,allow]", "mix_test=[true,false]"], "split.leaks and mix_test are varied"),
        (["split.hide=[[],[audio]]"], "split.hide is varied"),
        (["corpus.root=[/a,/b]"], "corpus.root is varied"),
        (["mix_test=[true,false]"], "mix_test is varied"),
    ],
)
def test_combinations_with_other_validation_clips_are_refused(words, named):
    axes, rest = split_space(words)
    with pytest.raises(ConfigError, match=f"different validation clips.*{named}"):
        check_comparable(Combinations(["tiny", *rest]), axes)


@pytest.mark.parametrize(
    "words",
    [
        ["train.monitor=[auto,uar]"],
        ["corpus.clips_per_shard=[4,8]", "faces.margin=[0.1,0.2]"],
        ["train.w_video=[0,0.3]"],
        ["train.monitor=loss", "train.label_smoothing=[0,0.1]"],
        ["train.lr=log(1e-4,1e-2)", "model.width=[32,64]"],
    ],
)
def test_combinations_with_one_score_are_allowed(words):
    axes, rest = split_space(words)
    check_comparable(Combinations(["tiny", *rest]), axes)


def test_a_sweep_with_two_scores_writes_nothing(tmp_path):
    axes, rest = split_space(["tiny", f"train.run={tmp_path}/s", "train.monitor=[uar,ccc]"])
    with pytest.raises(ConfigError, match="different validation scores"):
        sweep.sweep(rest, axes)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_counts_for_its_own_settings_alone(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ConfigError("it cannot be")

    config = load_config("tiny", [f"train.run={tmp_path}/run"])
    monkeypatch.setattr(sweep, "run_one", fail)
    try_one(to_yaml(config))
    assert is_tried(config, {}) and read_failure(tmp_path / "run")["error"] == "it cannot be"
    assert read_result(Trial({}, (tmp_path / "run",))).problem == "it cannot be"
    other = load_config("tiny", [f"train.run={tmp_path}/run", "train.epochs=3"])
    assert not is_tried(other, {})
    # The run is tried again; what an earlier try of other settings recorded does not stay.
    monkeypatch.setattr(sweep, "run_one", lambda *_, **__: None)
    try_one(to_yaml(other))
    assert not (tmp_path / "run" / FAILED).exists()


@pytest.mark.parametrize("text", ['{"error": "of an earlier version"}', "{", "[]"])
def test_a_failure_without_settings_is_tried_again(tmp_path, text):
    config = load_config("tiny", [f"train.run={tmp_path}"])
    (tmp_path / FAILED).write_text(text)
    assert not is_tried(config, {})
    assert text == "[]" or json.dumps(read_failure(tmp_path))
