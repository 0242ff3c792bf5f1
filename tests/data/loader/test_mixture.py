"""Mixtures of corpora: weights of clips, and corpora that are only trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from deiii.data.config.schema import Config, CorpusConfig, SplitConfig
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.config.words import read_settings
from deiii.data.corpora.clips import Clip, Corpus
from deiii.data.corpora.protocol import PARTS
from deiii.data.corpora.scan import ADAPTERS
from deiii.data.corpora.splits import make_split, number_of_folds
from deiii.data.loader.augmentation.audio import level_table, speaker_rows
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.mixture import (
    clip_weights,
    copied_clips,
    join_corpora,
    mixed_configs,
    mixed_people,
    mixed_weights,
    namings,
)
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
            ids = getattr(split, part)
            assert [i for i in ids if ":" not in i] == list(getattr(alone, part))
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
    part = np.array([0, 0, 1, 2, 2, 2])
    found = clip_weights(part, [0.25, 3.0])
    assert found is not None and found.dtype == np.float32 and found.tolist() == [1, 1, 0.25, 3, 3, 3]
    assert clip_weights(part, [1.0, 1.0]) is None


def written(folder, name, text):
    (folder / f"{name}.yaml").write_text(text)
    return str(folder / f"{name}.yaml")


def test_each_corpus_of_a_mixture_has_its_own_copies_with_its_weight(tmp_path):
    voices = written(tmp_path, "voices", "corpus: {name: ravdess}\ncopies: [speed=0.9, noise=10]\n")
    plain = written(tmp_path, "plain", "corpus: {name: crema_d}\n")
    words = ["corpus.name=msp_improv", f"mix=[{voices}, {plain}]", "mix_weights=[0.1, 0.5]"]
    config = read_settings([*words, "mix_test=false", "copies=[speed=1.1]"])
    parts = [(part.corpus.name, part.corpus.corrupt) for part in mixed_configs(config)]
    assert parts == [
        ("msp_improv", ""), ("ravdess", ""), ("crema_d", ""),
        ("msp_improv", "speed=1.1"), ("ravdess", "speed=0.9"), ("ravdess", "noise=10"),
    ]  # fmt: skip
    assert mixed_weights(config) == [0.1, 0.5, 1.0, 0.1, 0.1]
    assert mixed_people(mixed_configs(config)) == [0, 1, 2, 0, 1, 1]
    assert not any(part.copies or part.mix for part in mixed_configs(config))


def test_copies_of_other_corpora_are_left_out_where_they_are_tested(tmp_path):
    voices = written(tmp_path, "voices", "corpus: {name: ravdess}\ncopies: [speed=0.9]\n")
    config = read_settings(["corpus.name=crema_d", f"mix=[{voices}]"])
    assert [part.corpus.corrupt for part in mixed_configs(config)] == ["", ""]
    assert mixed_weights(config) == [1.0]


def joined(*corpora, people=None, test=True):
    names = namings(corpora, people or range(len(corpora)), first_keeps_names=not test)
    return join_corpora(corpora, names)


def corpus_of(name, classes, labels="", **votes):
    clip = Clip("a", "a.wav", "anna", classes[0], soft=(0.25, 0.75), votes=votes)
    return Corpus(name, f"/{name}", classes, (clip,), labels=labels, votes="counts" if votes else "")


def test_votes_and_soft_labels_follow_the_classes_of_the_mixture():
    one = corpus_of("one", ("sad", "calm"), "voice", voice=(1.0, 2.0))
    two = corpus_of("two", ("angry", "sad"), "voice", voice=(3.0, 4.0))
    mixture = joined(one, two)
    assert mixture.classes == ("sad", "calm", "angry")
    assert [clip.votes["voice"] for clip in mixture.clips] == [(1.0, 2.0, 0.0), (4.0, 0.0, 3.0)]
    assert [clip.soft for clip in mixture.clips] == [(0.25, 0.75, 0.0), (0.75, 0.0, 0.25)]
    assert (mixture.labels, mixture.votes) == ("voice", "counts")
    assert [clip.id for clip in mixture.clips] == ["one:a", "two:a"]


def test_what_is_known_of_labels_and_votes_is_that_of_all_corpora_or_of_the_tested_one(tmp_path):
    one = corpus_of("one", ("sad", "calm"), "voice", voice=(1.0, 2.0))
    two = corpus_of("two", ("sad", "calm"))
    assert (joined(one, two).labels, joined(one, two).votes) == ("", "")
    first, second = sets(tmp_path)
    first.corpus = replace(first.corpus, labels="face", votes="winners")
    mixture = FeatureSet.mix([first, second], test=False).corpus
    assert (mixture.labels, mixture.votes) == ("face", "winners")


def copied(features, name):
    """Features as those of a corrupted copy of a corpus."""
    return replace(features, corpus=replace(features.corpus, name=name))


def test_only_the_copies_of_training_clips_are_trained_on(tmp_path):
    """Clips of speakers that a protocol names in no part are in no part as copies either."""
    one = sets(tmp_path)[0]
    both = FeatureSet.mix([one, copied(one, "noisy")], [0, 0], test=False)
    protocol = tmp_path / "parts.yaml"
    protocol.write_text("name: own\nabout: own\nkind: parts\nfolds: [{train: [s0], val: [s2], test: [s3]}]\n")
    alone = make_split(one.corpus, SplitConfig(protocol=str(protocol)))
    split = make_split(both.corpus, SplitConfig(protocol=str(protocol)))
    assert (split.val, split.test) == (alone.val, alone.test)
    assert split.train == tuple(sorted([*alone.train, *(f"noisy:{i}" for i in alone.train)]))


def test_copies_are_told_apart_from_the_clips_of_other_corpora(tmp_path):
    one, other = sets(tmp_path)
    clips = [clip.id for clip in one.corpus.clips]
    alone = FeatureSet.mix([one, copied(one, "noisy")], [0, 0], test=False).corpus
    noisy = {f"noisy:{i}" for i in clips}
    assert copied_clips(alone, Config(copies=["noise=10"])) == noisy
    three = FeatureSet.mix([one, other, copied(one, "noisy")], [0, 1, 0], test=False).corpus
    assert copied_clips(three, Config(mix=["other.yaml"], copies=["noise=10"])) == noisy
    assert copied_clips(one.corpus, Config()) == set()


def test_speakers_are_normalised_by_their_clips_of_one_copy(tmp_path):
    """Else copies of test clips would be in the statistics of a test speaker."""
    one = sets(tmp_path)[0]
    both = FeatureSet.mix([one, copied(one, "noisy")], [0, 0], test=False)
    rows = speaker_rows(both)
    assert rows[: len(rows) // 2] == speaker_rows(one)
    assert [[row - len(one) for row in group] for group in rows[len(rows) // 2 :]] == speaker_rows(one)
    tested = FeatureSet.mix([one, copied(one, "other")], [0, 0])  # all of them are tested
    assert len(speaker_rows(tested)) == len(speaker_rows(one))
    for how in ("clip", "speaker"):
        (offset, scale), (alone, of_alone) = level_table(both, how), level_table(one, how)
        assert torch.equal(offset[: len(one)], alone) and torch.equal(scale[: len(one)], of_alone)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["mix=[a, b]", "mix_weights=[0.5]"], "1 weight for 2 configs of mix"),
        (["mix_weights=[0.5]"], "1 weight for 0 configs of mix"),
        (["mix=[a]", "mix_weights=[0.5]", "model.attributes=[valence]"], "losses of classes alone"),
        (["mix=[a]", "copies=[speed=0.9]"], "can only be trained on; set mix_test=false"),
        (["copies=[noise=10, noise=10.0]"], "copies names noise=10 and noise=10.0, which are the same"),
        (["copies=[speed]"], "copies: 'speed' is none of noise=10"),
        (["copies=[blur=2]"], "copies: 'blur=2' is none of noise=10"),
        (["corpus.corrupt=noise=loud"], "corpus.corrupt: 'noise=loud' is none of noise=10"),
        (["corpus.corrupt=noise=1_0"], "corpus.corrupt: 'noise=1_0' is none of noise=10"),
        (["copies=[noise=+5]"], "copies: 'noise=[+]5' is none of noise=10"),
        (["copies=[noise=nan]"], "copies: 'noise=nan' is none of noise=10"),
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
