"""Mixtures of corpora: weights of clips, and corpora that are only trained on."""

from __future__ import annotations

import numpy as np
import pytest

from deiii.data.config.schema import Config, CorpusConfig, SplitConfig
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.config.words import read_settings
from deiii.data.corpora.clips import Clip, Corpus
from deiii.data.corpora.protocol import PARTS
from deiii.data.corpora.scan import ADAPTERS
from deiii.data.corpora.splits import make_split, number_of_folds
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.mixture import clip_weights, join_corpora, mixed_configs, mixed_people
from tests.helpers.caches import KEYS, make_cache


def opened(folder, name, clips):
    return FeatureSet.open(make_cache(folder, [3] * clips, [4] * clips, name=name), KEYS)


def sets(folder):
    return [opened(folder, "ravdess", 6), opened(folder, "crema_d", 4)]


def test_corpora_that_are_only_trained_on_are_in_no_other_part(tmp_path):
    """The first corpus is divided as it is without the mixture, by its own protocol."""
    one, two = sets(tmp_path)
    both = FeatureSet.mix([one, two], test=False)
    settings = [SplitConfig(fold=fold, protocol="one-speaker-out", val_share=0.3) for fold in range(4)]
    assert number_of_folds(both.corpus, settings[0]) == 4
    for config in settings:
        split, alone = make_split(both.corpus, config), make_split(one.corpus, config)
        for part in PARTS:
            ids = [i.partition(":") for i in getattr(split, part)]
            assert [i for name, _, i in ids if name == one.corpus.name] == list(getattr(alone, part))
        others = {f"{two.corpus.name}:{clip.id}" for clip in two.clips}
        assert others <= set(split.train) and not others & {*split.val, *split.test}


def test_the_clips_of_a_tested_person_in_another_corpus_are_in_no_part(tmp_path):
    one, two = sets(tmp_path)
    both = FeatureSet.mix([one, two], [0, 0], test=False)  # the same people
    people = {clip.id: clip.speaker for clip in both.corpus.clips}
    for fold in range(4):
        split = make_split(both.corpus, SplitConfig(fold=fold, protocol="one-speaker-out", val_share=0.3))
        held = {people[i] for i in (*split.val, *split.test)}
        assert len(held) > 1 and held.isdisjoint(people[i] for i in split.train)
        lacking = {i for i in people if i not in split.speaker_of}
        assert lacking == {i for i in people if i.startswith(two.corpus.name) and people[i] in held}


def test_each_clip_has_the_weight_of_its_corpus():
    a, b, c = (
        Corpus(name, ".", ("x",), tuple(Clip(f"{name}{i}", f"{i}.wav", "s", "x") for i in range(count)))
        for name, count in (("a", 2), ("b", 1), ("c", 3))
    )
    mixture = join_corpora([a, b, c], {"a": "a", "b": "b", "c": "c"})
    found = clip_weights(mixture, mixture.clips, [0.25, 3.0])
    assert found is not None and found.dtype == np.float32 and found.tolist() == [1, 1, 0.25, 3, 3, 3]
    assert clip_weights(mixture, mixture.clips, []) is None
    assert clip_weights(mixture, mixture.clips, [1.0, 1.0]) is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["mix=[a, b]", "mix_weights=[0.5]"], "1 weight for 2 configs of mix"),
        (["mix_weights=[0.5]"], "1 weight for 0 configs of mix"),
        (["mix=[a]", "mix_weights=[0.5]", "model.attributes=[valence]"], "losses of classes alone"),
        (["mix=[a]", "copies=[speed=0.9]"], "mix and copies cannot be used together"),
        (["copies=[speed]"], "copies: 'speed' is none of noise=10"),
        (["copies=[blur=2]"], "copies: 'blur=2' is none of noise=10"),
        (["corpus.corrupt=noise=loud"], "corpus.corrupt: 'noise=loud' is none of noise=10"),
        (["corpus.corrupt=noise=5", "copies=[speed=0.9]"], "copies are made of recordings as they are"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        read_settings(settings)


@pytest.mark.parametrize("name", ADAPTERS)
def test_the_people_of_copies_are_those_of_the_corpus(name):
    """Else copies of test speakers would be trained on."""
    config = Config(corpus=CorpusConfig(name=name), copies=["speed=0.9", "noise=10"])
    assert mixed_people(mixed_configs(config)) == [0, 0, 0]
