"""Run folders refuse to mix runs."""

import pytest

from deiii.data.config.load import load_config
from deiii.data.config.schema import Config
from deiii.model.training.run_folder import RunError, RunFolder, provenance

INFO = {"keys": {"faces": "abc"}, "split": "d1", "classes": ["a", "b"]}


def test_a_folder_with_a_run_is_not_overwritten(tmp_path):
    run = RunFolder(tmp_path / "r")
    run.create(Config(), INFO, resume=False)
    run.create(Config(), INFO, resume=False)  # nothing was trained yet
    run.state.touch()
    with pytest.raises(RunError, match="--resume"):
        run.create(Config(), INFO, resume=False)
    run.create(Config(), INFO, resume=True)
    assert load_config([run.config]) == Config() and run.read_info() == INFO


def test_resuming_with_other_settings_or_data_is_refused(tmp_path):
    run = RunFolder(tmp_path)
    run.create(Config(), INFO, resume=False)
    run.state.touch()
    changed = Config()
    changed.train.lr = 0.5
    with pytest.raises(RunError, match=r"train\.lr: 0\.001 -> 0\.5"):
        run.create(changed, INFO, resume=True)
    with pytest.raises(RunError, match="keys"):
        run.create(Config(), {**INFO, "keys": {"faces": "xyz"}}, resume=True)


def test_history_round_trip(tmp_path):
    run = RunFolder(tmp_path)
    run.write_history([{"epoch": 0, "val_uar": 0.5, "val_ccc_a": None}, {"epoch": 1, "val_uar": 0.25}])
    first, second = run.read_history()
    assert first == {"epoch": 0.0, "val_uar": 0.5, "val_ccc_a": None} and second["val_uar"] == 0.25


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="there is no run folder"):
        RunFolder(tmp_path / "nothing").read_info()


def test_provenance_names_versions():
    found = provenance()
    assert found["versions"]["torch"] and found["versions"]["deiii"]


def test_a_run_of_a_version_without_a_setting_can_be_resumed(tmp_path):
    run = RunFolder(tmp_path)
    run.create(Config(), INFO, resume=False)
    text = run.config.read_text()
    run.config.write_text(text.replace("  imagenet_weights: null\n", ""))
    assert run.config.read_text() != text
    run.create(Config(), INFO, resume=True)
