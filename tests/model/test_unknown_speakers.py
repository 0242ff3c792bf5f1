"""Where nobody knows who is in a clip, no page claims that the test speakers are new to the network."""

from __future__ import annotations

import pytest

from deiii.__main__ import main
from deiii.data.corpora.clips import is_placeholder
from deiii.pipeline.init.found import unknown_speaker
from tests.helpers.shared_worker import preprocess
from tests.helpers.tables import tone_rows, words_for, write_rows

CLAIM = "that training did not use"


def test_a_placeholder_is_recognised_by_its_form():
    assert is_placeholder(unknown_speaker("happy/1.mp4"))
    assert not any(map(is_placeholder, ("", "unknown", "unknown-anna", "anna", "Unknown-0123456789ab1")))


@pytest.mark.slow
def test_scores_report_card_and_audit_say_that_speakers_are_unknown(tmp_path, capsys):
    root, run = tmp_path / "raw", tmp_path / "run"
    rows = tone_rows(root, speakers=4, clips=2)
    write_rows(root, [[path, unknown_speaker(path), label] for path, _, label in rows])
    words = words_for(root, tmp_path / "cache", run)
    assert preprocess(*words) == 0
    assert main(["train", *words, "--quiet"]) == 0
    capsys.readouterr()
    assert main(["audit", str(run / "split.json"), *words]) == 0
    assert "the speaker of 8 clips is not known and was not compared" in capsys.readouterr().out
    assert main(["evaluate", str(run)]) == 0
    words = "some clips have unknown speakers, so one person may be in training and in test"
    assert f"{words}: the figures may be too high" in capsys.readouterr().out
    page = (run / "report.html").read_text()
    assert f"{words}, so the figures may be too high" in page and CLAIM not in page
    assert main(["export", str(run), str(tmp_path / "out"), "--no-program"]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Some clips have unknown speakers" in card and CLAIM not in card
    assert '"unknown_speakers": true' in (tmp_path / "out" / "deiii.json").read_text()
