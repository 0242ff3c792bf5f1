"""The benchmark of the pages: its protocol, and its figures with the commands replaced."""

from __future__ import annotations

import json

import pytest

from benchmarks import evaluation_page
from benchmarks.feature_cache import open_cache
from deiii.data.cache.recipes import recipes
from deiii.data.config.schema import SplitConfig
from deiii.data.config.words import read_settings
from deiii.data.corpora.splits import make_split


def test_most_speakers_are_tested_and_the_keys_are_those_of_the_settings(tmp_path):
    evaluation_page.write_protocol(tmp_path / "protocol.yaml")
    config = read_settings(evaluation_page.settings(tmp_path))
    keys = {stage: recipe.key for stage, recipe in recipes(config).items()}
    features = open_cache(tmp_path, 40, 4, 16, evaluation_page.SPEAKERS, keys)
    assert features.keys == keys
    split = make_split(features.corpus, SplitConfig(protocol=str(tmp_path / "protocol.yaml"), val_share=0.4))
    assert len(split.speakers("test")) == 15 and len(split.test) == 30
    assert len(split.speakers("val")) == 2 and len(split.speakers("train")) == 3


def test_medians_of_the_runs_are_reported(tmp_path, monkeypatch, capsys):
    seconds = iter([3.0, 9.0, 4.0])
    monkeypatch.setattr(evaluation_page, "make_cache", lambda root, clips, frames: [f"clips={clips}"])
    monkeypatch.setattr(evaluation_page, "timed", lambda words: next(seconds))
    trained = []
    monkeypatch.setattr(evaluation_page.subprocess, "run", lambda words, check: trained.append(words[4]))
    (tmp_path / "run").mkdir()
    (tmp_path / "run/metrics.json").write_text(json.dumps({"clips": {"test": {"scored": 1500}}}))
    (tmp_path / "run/report.html").write_bytes(b"x" * 20_000)
    found = evaluation_page.evaluation(tmp_path, 1500, 60, 3)
    assert trained == ["clips=2000"]
    assert found == {"evaluate_s": 4.0, "evaluate_clips": 1500, "frames": 60, "report_mb": 0.02}
    assert capsys.readouterr().out == "evaluate  3.0 9.0 4.0 s\n"


def test_without_a_browser_the_page_is_written_and_not_opened(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evaluation_page, "make_cache", lambda root, clips, frames: [])
    monkeypatch.setattr(evaluation_page, "BROWSERS", ("no-such-browser",))

    monkeypatch.setattr(evaluation_page, "find_corpus", lambda config: None)
    monkeypatch.setattr(
        evaluation_page, "write_overview", lambda config, corpus, page: page.write_bytes(b"x" * 3_000_000)
    )
    found = evaluation_page.overview(tmp_path, 10_000, 10, 3)
    assert found["overview_mb"] == pytest.approx(3.0) and found["browser"] is None
    assert "the page was not opened" in capsys.readouterr().out
