"""``split.hide`` hides streams from validation and test clips, in training and in evaluation."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

from deiii.__main__ import main


def metrics_of(run):
    return json.loads((run / "metrics.json").read_text())


def test_the_test_figures_are_those_without_the_stream(seen_run, tmp_path, capsys):
    """A copy of a run that was scored with all streams: its test is the other's test without audio."""
    run = tmp_path / "run"
    shutil.copytree(seen_run / "run", run)
    text = (run / "config.yaml").read_text()
    assert "  hide: []\n" in text
    (run / "config.yaml").write_text(text.replace("  hide: []\n", "  hide: [audio]\n"))
    plain = metrics_of(run)
    assert main(["evaluate", str(run), "--again"]) == 0
    assert "hidden from these clips (split.hide): audio" in capsys.readouterr().out
    found = metrics_of(run)
    assert plain["hidden"] == [] and found["hidden"] == ["audio"]
    for name in ("uar", "war", "ccc_valence"):
        assert found["test"][name] == plain["without"]["audio"][name]
    assert list(plain["without"]) == ["frames", "flow", "audio", "frames+flow"]
    assert list(found["without"]) == ["frames", "flow"]
    assert "fused head, audio hidden" in (run / "report.html").read_text()


def test_training_validates_without_the_stream(seen_run, tmp_path):
    run = tmp_path / "run"
    words = [(seen_run / "run/config.yaml").as_posix(), f"train.run={run}", "--quiet"]
    assert main(["train", *words, "split.hide=[audio]"]) == 0
    assert main(["evaluate", str(run)]) == 0
    with open(run / "metrics.csv", newline="") as file:
        (epoch,) = csv.DictReader(file)
    hidden = metrics_of(run)["val"]["loss"]
    assert float(epoch["val_loss"]) == pytest.approx(hidden, rel=1e-4)
    with open(seen_run / "run/metrics.csv", newline="") as file:
        (plain,) = csv.DictReader(file)  # the same training, validated with audio
    assert float(plain["val_loss"]) != pytest.approx(hidden, rel=1e-4)
