"""Clips and shard plans: one speaker a shard, every clip once, names that tell contents."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deiii.data.cache.shard_plan import plan_shards
from deiii.data.corpora.clips import Clip, Corpus, CorpusError

speakers = st.lists(st.text(max_size=5), min_size=1, max_size=40)


def corpus(names) -> Corpus:
    clips = tuple(Clip(f"{i:03d}", f"{i:03d}.mp4", s, "x") for i, s in enumerate(names))
    return Corpus("mine", "/clips", ("x", "y"), clips)


@given(speakers, st.integers(1, 7))
def test_every_clip_lies_in_one_shard_of_its_speaker(names, most):
    source = corpus(names)
    plans = plan_shards(source, most)
    assert sorted(c.id for p in plans for c in p.clips) == [c.id for c in source.clips]
    assert len({p.name for p in plans}) == len(plans)
    for plan in plans:
        assert 1 <= len(plan.clips) <= most
        assert len({c.speaker for c in plan.clips}) == 1
    for speaker in source.speakers:  # no more shards than needed
        n = sum(c.speaker == speaker for c in source.clips)
        assert sum(p.clips[0].speaker == speaker for p in plans) == -(-n // most)


@given(st.text(max_size=60))
def test_shard_names_are_plain_file_names(speaker):
    (plan,) = plan_shards(corpus([speaker]))
    assert plan.name.isascii()
    assert len(plan.name) < 80
    assert all(c.isalnum() or c in "_-" for c in plan.name)


def test_shard_names_follow_contents():
    names = ["a", "a", "b"]
    plain = {p.name for p in plan_shards(corpus(names))}
    assert plain == {p.name for p in plan_shards(corpus(names))}
    more = {p.name for p in plan_shards(corpus([*names, "a"]))}
    assert len(plain & more) == 1  # only the shard of "b" is what it was
    # labels may be corrected without computing anything again
    clips = tuple(replace(c, label="y") for c in corpus(names).clips)
    assert plain == {p.name for p in plan_shards(replace(corpus(names), clips=clips))}


def test_speakers_that_look_alike_in_file_names_get_their_own_shards():
    plans = plan_shards(corpus(["a b", "a/b", "ä"]))
    assert len({p.name for p in plans}) == 3


@pytest.mark.parametrize("most", [0, -1])
def test_shards_hold_clips(most):
    with pytest.raises(ValueError, match="clips_per_shard must be at least 1"):
        plan_shards(corpus("ab"), most)


def test_ids_are_unique():
    clip = Clip("1", "1.mp4", "a", "x")
    with pytest.raises(CorpusError, match="two clips share the id '1'"):
        Corpus("mine", ".", ("x",), (clip, replace(clip, path="2.mp4")))


def test_labels_are_classes():
    with pytest.raises(CorpusError, match="label 'z'.*not one of x, y"):
        Corpus("mine", ".", ("x", "y"), (Clip("1", "1.mp4", "a", "z"),))
    Corpus("mine", ".", (), (Clip("1", "1.mp4", "a"),))


@pytest.mark.parametrize("soft", [(1.0,), (0.5, 0.6), (-0.5, 1.5), (float("nan"), 1.0)])
def test_soft_labels_are_distributions(soft):
    with pytest.raises(CorpusError, match="soft"):
        Corpus("mine", ".", ("x", "y"), (Clip("1", "1.mp4", "a", soft=soft),))


def test_speakers_are_sorted_and_named_once():
    assert corpus("bab").speakers == ("a", "b")
