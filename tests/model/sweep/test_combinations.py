"""The settings of a combination are those that reading all its words gives, but each value is read once."""

from __future__ import annotations

import pytest

from deiii.data.config.load import load_config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.config.words import read_settings
from deiii.model.sweep import combinations as combinations_module
from deiii.model.sweep import sweep as sweep_module
from deiii.model.sweep.combinations import Combinations
from deiii.model.sweep.results import Result, Trial, best_yaml
from deiii.model.sweep.space import grid, split_space, text


def outcome(read, *args):
    try:
        return read(*args)
    except ConfigError as error:
        return str(error)


@pytest.mark.parametrize(
    "words",
    [
        ["tiny", "train.lr=[1e-3,2]", "model.width=[32,64]"],
        ["train.lr=0.5", "train.lr=[1,0.1]", "corpus.root=[a b,~/c]", "model.head_dropout=[null,0.5]"],
        ["model.channels=[[8,16],[16]]", "model.video=[true,false]", "model.audio=[logmel,speech]"],
        [
            "model.name=late",
            "model.name=[deiii,late]",
            "model.ife_blocks=[1,2]",
        ],  # one of the networks reads it
        ["model.name=[mult,gru]", "model.ife_blocks=[0,1]"],
        ["logmel.fmin=[20,9000]", "logmel.fmax=[8000,10000]"],  # allowed together only
        ["train.lr=[1e-3,99]", "train.epochs=[1,no]"],
        ["mix=[['/a/b, c.yaml'],['/a #d.yaml',/e.yaml]]"],
        ["speech.encoder=['a: b','c, d']", "copies=[[noise=10],[noise=0,blur=3]]"],
    ],
)
def test_each_combination_is_as_if_all_its_words_were_read(words):
    axes, rest = split_space(words)
    found = Combinations(rest)
    for settings in grid(axes):
        own = [*rest, *(f"{key}={text(value)}" for key, value in settings.items())]
        assert outcome(found.config, settings) == outcome(read_settings, own)
    assert found.base == read_settings(rest)


def test_values_with_signs_of_yaml_are_as_they_were_named():
    axes, rest = split_space(["mix=[['/a/b, c.yaml'],['/a #d.yaml',/e.yaml]]"])
    found = [Combinations(rest).config(settings).mix for settings in grid(axes)]
    assert found == [["/a/b, c.yaml"], ["/a #d.yaml", "/e.yaml"]]


@pytest.mark.parametrize("value", ["a: b", "c #d", "*e", "null", "true", "a, b", "1e-3", "runs/a", "a$b"])
def test_the_best_values_are_read_back_from_best_yaml(value, tmp_path):
    """`deiii train best.yaml` trains with the settings that won."""
    (tmp_path / "best.yaml").write_text(
        best_yaml(
            Result(Trial({"speech.encoder": value, "mix": [value, "x"], "train.lr": 0.5}, ()), (0.5,)), 2
        )
    )
    config = load_config(tmp_path / "best.yaml")
    assert (config.speech.encoder, config.mix, config.train.lr) == (value, [value, "x"], 0.5)


def test_a_grid_reads_each_value_once_and_checks_each_set_of_features_once(monkeypatch, tmp_path):
    """Before, each of 10,000 combinations was read twice, which took 10 minutes before the first training."""
    read, checked = [], []
    monkeypatch.setattr(combinations_module, "read_settings", lambda w: read.append(w) or read_settings(w))
    monkeypatch.setattr(sweep_module, "check_folds", lambda config, folds: checked.append(config.model.flow))
    words = [
        "model.width=[8,16,32,64]",
        "train.lr=[1,2,3,4]",
        "model.flow=[true,false]",
        "loader.batch=[1,2]",
    ]
    axes, rest = split_space(words)
    trials = [Trial(settings, (tmp_path,)) for settings in grid(axes)]
    found = Combinations(rest)
    sweep_module._check_grid(found, trials, False)
    assert len(trials) == 64 and len(read) == 1 + 4 + 4 + 2 + 2 and checked == [True, False]


@pytest.mark.parametrize("word", ["mix_test=false", "mix=[ravdess]", "split.fold=1", "model.audio=false"])
def test_what_changes_the_split_or_the_features_is_checked_again(word):
    base = read_settings(["synthetic", "tiny"])
    assert sweep_module._features_and_split(read_settings(["synthetic", "tiny", word])) != (
        sweep_module._features_and_split(base)
    )
