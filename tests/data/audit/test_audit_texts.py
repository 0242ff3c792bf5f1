"""The sentences of an audit state the numbers and people that they are about."""

from __future__ import annotations

import numpy as np
import pytest

from deiii.data.audit.audit import Prints, audit_parts
from deiii.data.audit.names import Facts
from deiii.data.audit.run import audit
from deiii.data.config.load import load_config
from deiii.data.corpora.clips import CorpusError
from tests.data.audit.test_audit import A, B, facts, melody, of


def test_only_clips_of_the_parts_count_as_compared():
    """Of a fold or a split that leaves clips out, the text counted the prints of the whole corpus."""
    sounds = {name: of(melody(number)) for number, name in enumerate("1239")}
    faces = {name: np.zeros(64) for name in "489"}
    looked = audit_parts({"train": A, "test": B}, Prints(sounds, faces)).looked
    assert "compared by audio: 3 clips; by the face's movement: 1" in looked
    (without,) = (line for line in looked if line.startswith("not compared by audio"))
    assert without.startswith(f"not compared by audio: {len(A) + len(B) - 3} clip")


def test_one_sex_is_told_of_those_whose_sex_is_known():
    women = facts(("5", "eva", "", "", "female"), ("6", "fay", "", "", "female"))
    (all_known,) = audit_parts({"train": A, "test": women}).findings
    (some_known,) = audit_parts({"train": A, "test": [*women, Facts("7", "7", "gil")]}).findings
    assert all_known.text == "all test speakers are women"
    assert some_known.text == "all test speakers whose sex is known are women"


def test_a_defect_of_a_table_is_the_only_thing_that_is_said(tmp_path):
    """The message went on about file names of published corpora, after "did you mean 'fold'?."."""
    (tmp_path / "clips.csv").write_text("path,speaker,label,folds\na.mp4,anna,happy,1\n", encoding="utf-8")
    config = load_config("table", [f"corpus.root={tmp_path}"])
    with pytest.raises(CorpusError, match=r"unknown column 'folds'; did you mean 'fold'\?$"):
        list(audit("speakers", config))
