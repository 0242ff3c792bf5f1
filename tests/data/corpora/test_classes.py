"""Classes joined and dropped: labels, soft labels, votes; what is refused; caches and keys stay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deiii.data.cache.identity import find_corpus
from deiii.data.cache.recipes import stage_keys
from deiii.data.config.load import load_config, to_yaml
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.corpora.clips import Clip, Corpus, CorpusError
from deiii.data.corpora.targets.classes import map_classes
from tests.helpers.caches import make_cache

CLASSES = ("neutral", "calm", "happy")


def corpus(*clips: Clip) -> Corpus:
    return Corpus("mine", ".", CLASSES, clips)


def test_joined_and_dropped_labels():
    found = map_classes(
        corpus(Clip("a", "a", "s", "calm"), Clip("b", "b", "s", "happy"), Clip("c", "c", "s")),
        {"calm": "neutral", "happy": None},
    )
    assert found.classes == ("neutral",)
    assert [(c.id, c.label) for c in found.clips] == [("a", "neutral"), ("c", None)]
    assert found.notes == ("corpus.classes leaves out 1 of 3 clips",)


def test_a_new_name():
    found = map_classes(corpus(Clip("a", "a", "s", "calm")), {"calm": "peaceful"})
    assert found.classes == ("neutral", "peaceful", "happy")
    assert found.clips[0].label == "peaceful"


def test_votes_add_up_and_decide_anew():
    clip = Clip("a", "a", "s", "happy", soft=(0.3, 0.3, 0.4), votes={"voice": (3.0, 3.0, 4.0)})
    (found,) = map_classes(corpus(clip), {"calm": "neutral"}).clips
    assert found.soft == pytest.approx((0.6, 0.4))
    assert found.label == "neutral"
    assert found.votes == {"voice": (6.0, 4.0)}


def test_votes_for_a_dropped_class_are_left_out():
    clip = Clip("a", "a", "s", "happy", soft=(0.25, 0.25, 0.5))
    (found,) = map_classes(corpus(clip), {"happy": None}).clips
    assert found.soft == pytest.approx((0.5, 0.5))
    assert found.label is None  # a tie now
    assert not map_classes(corpus(Clip("a", "a", "s", soft=(0, 0, 1.0))), {"happy": None}).clips


def test_ties_that_a_mapping_resolves_are_reported():
    tie = Clip("a", "a", "s", soft=(0.5, 0, 0.5))
    assert map_classes(corpus(tie), {"happy": "neutral"}).notes == (
        "with corpus.classes, raters tie in 0 instead of 1 clip",
    )
    assert map_classes(corpus(tie), {"calm": "neutral"}).notes == ()


def test_a_clip_with_attributes_stays_without_a_label():
    clip = Clip("a", "a", "s", "happy", attributes={"valence": 1.0})
    (found,) = map_classes(corpus(clip), {"happy": None}).clips
    assert found.label is None and found.attributes == {"valence": 1.0}


@given(
    st.dictionaries(st.sampled_from(CLASSES), st.sampled_from([*CLASSES, "x", None])),
    st.lists(st.tuples(st.sampled_from([*CLASSES, None]), st.integers(0, 5), st.integers(0, 5))),
)
def test_any_mapping_gives_a_valid_corpus(mapping, rows):
    clips = []
    for i, (label, a, b) in enumerate(rows):
        soft = (a / 12, b / 12, 1 - (a + b) / 12) if i % 2 else None
        clips.append(Clip(f"c{i:03d}", "a", "s", label, soft))
    try:
        found = map_classes(corpus(*clips), mapping)
    except CorpusError as error:
        assert "drops all classes" in str(error)
        assert all(mapping.get(name, name) is None for name in CLASSES)
        return
    by_id = {c.id: c for c in found.clips}
    for clip in clips:
        if clip.soft is None and clip.label is not None:
            new = mapping.get(clip.label, clip.label)
            assert (by_id[clip.id].label if clip.id in by_id else None) == new


def test_unknown_and_no_classes():
    with pytest.raises(CorpusError, match="'clam'.*did you mean 'calm'"):
        map_classes(corpus(), {"clam": "neutral"})
    with pytest.raises(CorpusError, match="drops all classes"):
        map_classes(corpus(), dict.fromkeys(CLASSES))


@pytest.mark.parametrize(
    "words",
    [
        ["corpus.classes={calm: neutral, happy: null}"],
        ["corpus.classes={calm: neutral}", "corpus.classes={happy: null}"],
        ["corpus.classes.calm=neutral", "corpus.classes.happy=null"],
    ],
)
def test_the_setting(words):
    config = load_config(overrides=words)
    assert config.corpus.classes == {"calm": "neutral", "happy": None}
    assert "classes:\n    calm: neutral\n    happy: null" in to_yaml(config)


def test_class_names_stay_text():
    assert load_config(overrides=["corpus.classes={1: no, 2.0: 1}"]).corpus.classes == {"1": "no", "2.0": "1"}


@pytest.mark.parametrize("value", ["calm", "[a, b]", "{a: [b]}", "{a: {b: c}}"])
def test_other_values_are_refused(value):
    with pytest.raises(ConfigError):
        load_config(overrides=[f"corpus.classes={value}"])


def test_a_mapping_needs_no_preprocessing(tmp_path):
    config = make_cache(tmp_path, [6] * 8, [30] * 8)
    keys = stage_keys(config)
    before = find_corpus(config)
    config.corpus.classes = {"calm": "angry", "happy": None}
    after = find_corpus(config)
    assert stage_keys(config) == keys
    assert before.classes == ("calm", "angry", "happy") and after.classes == ("angry",)
    assert {c.label for c in after.clips} <= {"angry", None}


@pytest.mark.parametrize("name", ["Neutral", "neu\u200btral", "NEUTRAL"])
def test_a_new_name_that_is_another_spelling_of_a_class_is_refused(name):
    with pytest.raises(CorpusError, match="'neutral' and .* differ in spelling alone"):
        map_classes(corpus(Clip("a", "a", "s", "calm")), {"calm": name})
