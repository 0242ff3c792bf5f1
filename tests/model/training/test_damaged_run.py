"""A run folder with a damaged file: the message names the file and what to do."""

import re

import pytest

from deiii.data.config.schema import Config
from deiii.model.evaluation.predictions import read_predictions
from deiii.model.training.origin import MEDIA, stored_media, stored_table
from deiii.model.training.run_folder import RunError, RunFolder

KEYS = {"faces": "abc"}
INFO = {"keys": KEYS, "split": "d1", "classes": ["a", "b"], "attributes": [], "ranges": []}
HALF = "cut at its half"


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create(Config(), INFO, resume=False)
    folder.state.touch()
    return folder


def damages(text):
    lines = text.splitlines(keepends=True)
    return {
        "the last line is gone": "".join(lines[:-1]),
        "eight lines are gone": "".join(lines[:-8]),
        "cut within a line": text[:-3],
        HALF: text[: len(text) // 2],
        "empty": "",
        "zeros": "\0" * len(text),
        "no mapping": "- a\n- b\n",
    }


@pytest.mark.parametrize("what", damages(""))
def test_a_damaged_config_is_not_taken_for_other_settings(run, what):
    run.config.write_text(damages(run.config.read_text())[what])
    message = (
        rf"{re.escape(str(run.config))} is damaged \(.*\); put back a copy of it, or train the run again"
    )
    with pytest.raises(RunError, match=message):
        run.check_settings(Config(), KEYS)
    with pytest.raises(RunError, match=message):
        run.create(Config(), INFO, resume=True)
    with pytest.raises(RunError, match=message):
        run.read_config()


def test_the_config_of_an_earlier_version_that_is_cut_off_is_damaged(run):
    lines = run.config.read_text().splitlines(keepends=True)[1:-1]  # it had no first and last line
    run.config.write_text("".join(lines))
    assert run.read_config() == Config()
    run.create(Config(), INFO, resume=True)
    run.config.write_text("".join(lines[: len(lines) // 2]))
    with pytest.raises(RunError, match=r"config\.yaml is damaged \(it lacks .*train\)"):
        run.read_config()


@pytest.mark.parametrize("name", ["config.yaml", "run.json"])
def test_a_trained_run_without_a_file_is_not_continued(run, name):
    (run.path / name).unlink()
    with pytest.raises(RunError, match=rf"{re.escape(name)} is missing; put back a copy"):
        run.check_settings(Config(), KEYS)
    with pytest.raises(RunError, match=rf"{re.escape(name)} is missing; put back a copy"):
        run.create(Config(), INFO, resume=True)


def test_a_folder_that_is_no_run_has_no_settings(tmp_path):
    with pytest.raises(RunError, match="there is no run folder"):
        RunFolder(tmp_path / "none").read_config()


def test_other_settings_are_still_named(run):
    other = Config()
    other.train.lr = 0.5
    with pytest.raises(RunError, match=r"other settings \(train\.lr: 0\.001 -> 0\.5\)"):
        run.check_settings(other, KEYS)
    # A setting that this version does not know is no damage.
    run.config.write_text(run.config.read_text().replace("\ntrain:\n", "\ntrain:\n  gone: 1\n"))
    with pytest.raises(RunError, match=r"other settings \(lr: 0\.5"):
        run.check_settings(other, KEYS)


def test_a_run_of_another_length_is_continued_by_a_new_one(run):
    for key in ("epochs", "patience"):
        other = Config()
        setattr(other.train, key, 1000)
        words = rf"train\.{key}: \d+ -> 1000.* train\.start={re.escape(str(run.path))} train\.run="
        with pytest.raises(RunError, match=words):
            run.check_settings(other, KEYS)
    other.copies = ["speed=0.9"]  # such a training starts from no other network
    with pytest.raises(RunError, match=r"start a new run: train\.run="):
        run.check_settings(other, KEYS)
    other = Config()
    other.train.lr = 0.5
    with pytest.raises(RunError, match=r"with train\.run=\.\.\.$"):
        run.check_settings(other, KEYS)


@pytest.mark.parametrize("text", ["", "{", '{"format": 1}', "\xff"])
def test_a_damaged_split_can_be_written_again(run, text):
    run.split.write_text(text, encoding="latin-1")
    with pytest.raises(RunError, match=r"split\.json is damaged .*--resume` with the settings"):
        run.read_split()
    run.split.unlink()
    with pytest.raises(RunError, match=r"split\.json is missing; .*--resume"):
        run.read_split()


@pytest.mark.parametrize("text", ["", "[]", '{"a.mp4": "12'])
def test_damaged_digests_of_the_recordings_are_an_error(run, text):
    assert stored_media(run) == {}  # an earlier version kept none
    (run.path / MEDIA).write_text(text)
    with pytest.raises(RunError, match=r"media\.json is damaged .*put back a copy of it, or delete it"):
        stored_media(run)


def test_a_damaged_clip_table_of_a_run_does_not_send_to_preprocessing(run):
    assert stored_table(run) is None
    (run.path / "clips.json").write_text("{")
    with pytest.raises(RunError, match=r"clips\.json is damaged .*put back a copy") as raised:
        stored_table(run)
    assert "preprocess" not in str(raised.value)


def test_damaged_metrics_are_written_again_by_evaluate(run):
    run.metrics_json.write_text("{")
    with pytest.raises(RunError, match=r"metrics\.json is damaged .*`deiii evaluate .* --again`"):
        run.read_metrics()


def test_predictions_that_lack_clips_are_damaged(tmp_path):
    path = tmp_path / "predictions.csv"
    path.write_text("clip,speaker,truth,predicted,p_a,p_b\nx,s,a,a,1,0\n")
    assert len(read_predictions(path, {"clips": {"test": {"scored": 1}}})) == 1
    with pytest.raises(RunError, match=r"1 row for 2 predicted clips\); run `deiii evaluate /.* --again`"):
        read_predictions(path, {"clips": {"test": {"scored": 2}}})
