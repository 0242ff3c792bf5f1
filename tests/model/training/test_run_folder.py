"""Run folders refuse to mix runs."""

import json
import re

import pytest

from deiii.data.config.load import load_config
from deiii.data.config.schema import Config
from deiii.model.provenance import provenance
from deiii.model.training.run_folder import RunError, RunFolder

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


def test_a_resumed_run_keeps_the_digest_of_its_imagenet_weights(tmp_path):
    run = RunFolder(tmp_path)
    run.create(Config(), {**INFO, "imagenet": "ab12"}, resume=False)
    run.state.touch()
    run.create(Config(), INFO, resume=True)  # a resumed run reads its checkpoint instead of these weights
    assert run.read_info()["imagenet"] == "ab12"


def test_a_resumed_run_keeps_the_records_of_what_was_scored(tmp_path):
    run = RunFolder(tmp_path)
    run.create(Config(), INFO, resume=False)
    run.state.touch()
    records = {name: [{"time": name}] for name in ("evaluations", "ensembles", "other_corpora")}
    run.add(**records)
    run.create(Config(), INFO, resume=True)
    assert run.read_info() == INFO | records


def test_history_round_trip(tmp_path):
    run = RunFolder(tmp_path)
    run.write_history([{"epoch": 0, "val_uar": 0.5, "val_ccc_a": None}, {"epoch": 1, "val_uar": 0.25}])
    first, second = run.read_history()
    assert first == {"epoch": 0.0, "val_uar": 0.5, "val_ccc_a": None} and second["val_uar"] == 0.25


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="there is no run folder"):
        RunFolder(tmp_path / "nothing").read_info()
    (tmp_path / "fold1-seed0").mkdir()
    (tmp_path / "fold1-seed0/run.json").write_text("{}")
    near = re.escape(f"; did you mean '{tmp_path / 'fold1-seed0'}'?")
    with pytest.raises(RunError, match=f"{near}$"):
        RunFolder(tmp_path / "fold1").read_info()


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


@pytest.mark.parametrize(
    ("text", "lacking"),
    [("{}", "keys, classes, attributes, ranges"), ('{"keys": {}, "classes": []}', "attributes, ranges")],
)
def test_a_run_that_lacks_what_every_version_records_is_damaged(tmp_path, text, lacking):
    run = RunFolder(tmp_path)
    run.info.write_text(text)
    with pytest.raises(RunError, match=rf"run\.json is damaged \(it lacks {lacking}\); train the run again"):
        run.read_info(whole=True)
    assert run.read_info() == json.loads(text)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("run.json", '{"classes": 5}', "classes is not a list"),
        ("run.json", '{"keys": []}', "keys is not an object"),
        ("run.json", '{"corpus": null}', "corpus is not text"),
        ("metrics.json", '{"test": [0.5]}', "test is not an object"),
    ],
)
def test_an_entry_of_another_type_is_named(tmp_path, name, text, words):
    run = RunFolder(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(RunError, match=rf"{name} is damaged \({words}\)"):
        run.read_info() if name == "run.json" else run.read_metrics()


@pytest.mark.parametrize("rows", [b"epoch,val_uar\n0,0.1x5\n", b"epoch\n0,1,2\n", b"\xf2\x81\x00\xff"])
def test_a_damaged_history_is_named(tmp_path, rows):
    run = RunFolder(tmp_path)
    run.metrics_csv.write_bytes(rows)
    with pytest.raises(RunError, match=r"metrics\.csv is damaged .*--resume"):
        run.read_history()


def test_a_run_whose_state_is_gone_is_not_trained_anew(tmp_path):
    run = RunFolder(tmp_path)
    run.create(Config(), INFO, resume=False)
    run.last.touch()
    run.create(Config(), INFO, resume=True)  # stopped before the first state: nothing is lost
    run.write_history([{"epoch": 0, "val_uar": 0.5}])
    with pytest.raises(RunError, match=r"state\.safetensors is missing, .*put back a copy"):
        run.create(Config(), INFO, resume=True)
