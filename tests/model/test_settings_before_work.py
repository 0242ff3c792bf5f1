"""What cannot be trained or scored is told before any work, and blocks no later command."""

from __future__ import annotations

import json

import numpy as np
import pytest

from deiii.__main__ import main
from deiii.model.evaluation.results import count_clips, summary
from deiii.model.network.task import Task
from deiii.model.training.run_folder import RunFolder
from tests.model.evaluation.test_report import predictions


def words(seen_run, run):
    base = (seen_run / "run/config.yaml").as_posix()
    return [base, f"train.run={run}", "--quiet"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (["train.monitor=ccc", "model.attributes=[]"], "model.attributes is empty; use train.monitor=auto"),
        (["train.monitor=uar", "model.classes=false"], "model.classes is off; use train.monitor=auto"),
        (["loader.crop=96"], "loader.crop=96 is larger than the crops, faces.size=64"),
        (["model.conv_kernel=4"], "model.conv_kernel must be odd"),
        (["split.hide=[sound]"], "split.hide names sound, but the network reads frames, flow, audio"),
        (["split.hide=[flow]", "model.flow=false"], "split.hide names flow, but the network reads frames, a"),
        (["split.hide=[audio,flow,frames]"], "hides all that the network reads"),
        (
            ["model.audio=false", "model.video=false", "model.flow=false"],
            "the network reads nothing: model.v",
        ),
        (["loader.batch=65536"], "is larger than the 3 training clips"),
        (["model.heads=3"], "must divide into model.heads=3 heads"),
        (["model.audio_channels=[4]"], "give no number, or two or more"),
        (["model.classes=false", "model.attributes=[]"], "there is nothing to predict"),
        (["model.audio=[]", "model.video=[]"], "turn one of them on, or name a stage in model.extra"),
    ],
)
def test_training_refuses_what_does_not_go_together(seen_run, tmp_path, capsys, changes, reason):
    run = tmp_path / "run"
    for _ in range(2):  # the same command says the same, not "already holds a run"
        assert main(["train", *words(seen_run, run), *changes]) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: ") and reason in said and said.count("\n") == 1
        assert not list(run.glob("*.json")) and not list(run.glob("*.yaml"))


def test_imagenet_without_a_network_names_the_cure_and_leaves_no_run(seen_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DEIII_WEIGHTS_DIR", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr("deiii.data.tools.fetch.PAUSE_S", 0.0)
    run = tmp_path / "run"
    for _ in range(2):
        assert main(["train", *words(seen_run, run), "model.imagenet=true"]) == 1
        said = capsys.readouterr().err
        assert "resnet18-f37072fd.pth" in said and "DEIII_WEIGHTS_DIR" in said
        assert "already holds a run" not in said and not run.exists()


def test_a_folder_without_a_checkpoint_is_no_run(seen_run, tmp_path, capsys):
    """As it is left where training fails before its first epoch ends; other settings are no obstacle then."""
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.config.write_text((seen_run / "run/config.yaml").read_text().replace("lr: 0.001", "lr: 9.0"))
    run.info.write_text((seen_run / "run/run.json").read_text())
    assert main(["train", *words(seen_run, run.path)]) == 0
    assert run.best.exists()
    assert main(["train", *words(seen_run, run.path)]) == 1
    assert "already holds a run" in capsys.readouterr().err


def test_clips_without_a_label_are_predicted_but_not_scored():
    """As the 420 clips of CREMA-D whose raters tie."""
    found, task = predictions(), Task(("calm", "sad"), (), ())
    label = found.label.copy()
    label[:3] = -1
    object.__setattr__(found, "label", label)
    counts = count_clips(14, found, task)
    assert counts == {"in_split": 14, "scored": 9, "unlabelled": 3}
    metrics = {
        "test": {"uar": 0.5, "uar_ci": [0.2, 0.8], "per_speaker": dict.fromkeys("abc")},
        "clips": {"test": counts},
    }
    said = summary(metrics | {"interval": "t interval over speakers"})
    assert "9 of 14 test clips (3 have no label" in said and "95 % t interval over speakers" in said
    rated = Task((), ("arousal",), ((-1.0, 1.0),))
    target = np.where(np.arange(12)[:, None] < 2, np.nan, 0.5).astype(np.float32)
    object.__setattr__(found, "target", target)
    assert count_clips(12, found, rated) == {"in_split": 12, "scored": 10, "unlabelled": 2}


def test_a_test_part_without_labels_is_an_error(seen_run, tmp_path, capsys):
    split = json.loads((seen_run / "run/split.json").read_text())
    assert split["test"]  # the fixture has one; without labels there is nothing to score
    from deiii.model.evaluation import evaluate as module

    original = module.count_clips
    try:
        module.count_clips = lambda n, found, task: {"in_split": n, "scored": 0, "unlabelled": n}
        before = (seen_run / "run/metrics.json").read_bytes()
        assert main(["evaluate", str(seen_run / "run"), "--again"]) == 1
    finally:
        module.count_clips = original
    assert "no test clip to score" in capsys.readouterr().err
    assert (seen_run / "run/metrics.json").read_bytes() == before
