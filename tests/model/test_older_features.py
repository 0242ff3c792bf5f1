"""A run is resumed and scored on the features it was trained on, also where deiii would compute others."""

from __future__ import annotations

import json
import shutil

import pytest

from deiii.__main__ import main
from deiii.data.cache import recipes


@pytest.fixture
def older(seen_run, tmp_path, monkeypatch):
    """A copy of the run and its cache, and a deiii whose stages have other versions."""
    for name in ("run", "cache"):
        shutil.copytree(seen_run / name, tmp_path / name)
    real = recipes.stage_key
    monkeypatch.setattr(recipes, "stage_key", lambda stage, version, *rest: real(stage, version + 1, *rest))
    return tmp_path


def words(folder):
    return [str(folder / "run/config.yaml"), f"cache={folder / 'cache'}", f"train.run={folder / 'run'}"]


def test_evaluation_and_resuming_use_the_features_of_the_training(older, capsys):
    before = (older / "run/predictions.csv").read_bytes()
    assert main(["evaluate", str(older / "run"), f"cache={older / 'cache'}", "--again"]) == 0
    assert (older / "run/predictions.csv").read_bytes() == before
    assert main(["train", *words(older), "--quiet", "--resume"]) == 0
    assert main(["train", *words(older), "--quiet", "--resume", "faces.margin=0.5"]) == 1
    assert "faces.margin: 0.25 -> 0.5" in capsys.readouterr().err


def test_features_that_are_gone_are_named_before_any_work(older, capsys):
    info = json.loads((older / "run/run.json").read_text())
    logmel = older / "cache" / info["corpus"] / f"logmel-{info['keys']['logmel']}"
    shutil.rmtree(logmel)
    commands = (
        ["evaluate", str(older / "run"), f"cache={older / 'cache'}", "--again"],
        ["train", *words(older), "--quiet", "--resume"],
    )
    for command in commands:
        assert main(command) == 1
        said = capsys.readouterr().err
        assert f"({logmel.name}, now logmel-" in said and "train a new run" in said
