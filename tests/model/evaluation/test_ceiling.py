"""Human ceilings: raters' scores on the same clips, from votes counted by hand and the published table."""

from __future__ import annotations

import pytest

from deiii.data.config.schema import CorpusConfig
from deiii.data.corpora.clips import Clip
from deiii.data.corpora.scan import scan
from deiii.model.evaluation.sections.ceiling import ceiling_lines, human_ceilings

CLASSES = ("happy", "sad")


def clip(name, label, **votes):
    return Clip(name, name, "s", label, votes={k: tuple(map(float, v)) for k, v in votes.items()})


def test_majority_and_one_rater():
    clips = [
        clip("a", "happy", voice=(3, 1)),
        clip("b", "happy", voice=(2, 2)),  # a tie is wrong
        clip("c", "sad", voice=(4, 0)),
        clip("d", None, voice=(1, 0)),  # no label: not scored
    ]
    found = human_ceilings(clips, CLASSES, "acted", "counts")
    assert found["voice, majority"] == {"uar": 0.25, "war": pytest.approx(1 / 3), "clips": 3}
    assert found["voice, one rater"]["war"] == pytest.approx((0.75 + 0.5 + 0) / 3)
    assert found["voice, one rater"]["uar"] == pytest.approx((0.625 + 0) / 2)


def test_a_rater_is_compared_with_the_others_where_raters_are_the_label():
    """Votes 2:1. Of the two, each sees the others at 1:1, a tie; the third sees 2:0 and disagrees."""
    found = human_ceilings([clip("a", "happy", voice=(2, 1))], CLASSES, "voice", "counts")
    assert set(found) == {"voice, one rater"}
    assert found["voice, one rater"]["war"] == 0
    found = human_ceilings([clip("a", "happy", voice=(3, 1))], CLASSES, "voice", "counts")
    assert found["voice, one rater"]["war"] == 0.75


def test_winners_say_nothing_of_one_rater():
    found = human_ceilings([clip("a", "happy", face=(1, 0))], CLASSES, "acted", "winners")
    assert set(found) == {"face, majority"}
    assert ceiling_lines(found) == ["human raters (face, majority): UAR 1.000, WAR 1.000 on 1 of these clips"]
    assert human_ceilings([Clip("a", "a", "s", "happy")], CLASSES, "acted", "") == {}


def test_the_published_table(test_data, tmp_path):
    (tmp_path / "summaryTable.csv").symlink_to(test_data / "media/crema_d_tables/summaryTable.csv")
    lines = (tmp_path / "summaryTable.csv").read_text().splitlines()[1:]
    for line in lines:
        (tmp_path / (line.split(",")[1].strip('"') + ".wav")).touch()
    corpus = scan(CorpusConfig(name="crema_d", root=str(tmp_path)))
    found = human_ceilings(corpus.clips, corpus.classes, corpus.labels, corpus.votes)
    assert {name: round(100 * c["war"], 1) for name, c in found.items()} == {
        "face, majority": 66.3, "multimodal, majority": 72.2, "voice, majority": 41.6,
    }  # fmt: skip
