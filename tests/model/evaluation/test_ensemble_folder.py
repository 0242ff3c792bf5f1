"""The folder of an ensemble beside other processes, and after the training of a member went on."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from deiii import load
from deiii.__main__ import main
from deiii.data.tools.writer_lock import Locked, writer_lock
from deiii.model.calibration import CalibrationError, stored_temperature
from deiii.model.evaluation import ensemble
from deiii.model.evaluation import evaluate as evaluation
from deiii.model.evaluation.compare import compare
from deiii.model.evaluation.ensemble import evaluate_ensemble
from deiii.model.prediction.ensemble.folder import export_ensemble
from deiii.model.training.run_folder import RunError
from deiii.model.training.trained import load_network
from tests.helpers.second_process import before_the_lock
from tests.helpers.sibling_runs import sibling_run


@pytest.fixture
def runs(seen_run, tmp_path) -> list[Path]:
    return [sibling_run(seen_run / "run", tmp_path / f"cv/fold0-seed{s}", s) for s in (0, 1)]


def recorded(run: Path) -> list[str]:
    return [entry["folder"] for entry in json.loads((run / "run.json").read_text()).get("ensembles", [])]


@pytest.mark.parametrize("out", ["same", "other"])
def test_of_two_processes_only_one_scores_an_ensemble(runs, tmp_path, monkeypatch, out):
    """The other one comes first, into the same folder or into another one."""
    first = tmp_path / "first"
    mine = first if out == "same" else tmp_path / "mine"
    before_the_lock(monkeypatch, ensemble, lambda: evaluate_ensemble(runs, first))
    with pytest.raises(RunError, match="was scored before"):
        evaluate_ensemble(runs, mine)
    assert [recorded(run) for run in runs] == [[str(first)]] * 2
    metrics, _ = evaluate_ensemble(runs, mine, again=True)
    assert metrics["evaluations"] == 2
    assert [recorded(run) for run in runs] == [[str(first), str(mine)]] * 2


def test_the_result_of_the_other_process_is_kept_on_request(runs, tmp_path, monkeypatch):
    found = []
    before_the_lock(monkeypatch, ensemble, lambda: found.append(evaluate_ensemble(runs, tmp_path / "out")))
    assert evaluate_ensemble(runs, tmp_path / "out", keep=True) == found[0]
    assert [recorded(run) for run in runs] == [[str(tmp_path / "out")]] * 2
    with writer_lock(runs[1]):  # a stored result is read without a lock
        assert evaluate_ensemble(runs, tmp_path / "out", keep=True) == found[0]


def test_a_run_that_another_process_scored_meanwhile_is_kept_on_request(runs, monkeypatch):
    found = []
    before_the_lock(monkeypatch, evaluation, lambda: found.append(evaluation.evaluate(runs[0])))
    assert evaluation.evaluate(runs[0], keep=True) == found[0]
    assert len(json.loads((runs[0] / "run.json").read_text())["evaluations"]) == 1


def test_another_ensemble_that_came_first_is_not_replaced(runs, seen_run, tmp_path, monkeypatch):
    """It has other members, so the two wait for each other at the common folder alone."""
    out, real = tmp_path / "out", ensemble.writable_folder
    others = [sibling_run(seen_run / "run", tmp_path / f"cv/fold0-seed{s}", s) for s in (2, 3)]

    def late(folder):
        monkeypatch.setattr(ensemble, "writable_folder", real)
        evaluate_ensemble(others, out)
        return real(folder)

    monkeypatch.setattr(ensemble, "writable_folder", late)
    with pytest.raises(RunError, match=r"holds another ensemble.* name another folder with --out"):
        evaluate_ensemble(runs, out)
    assert recorded(others[0]) == [str(out)] and recorded(runs[0]) == []


def test_a_member_that_is_being_trained_is_refused(runs, tmp_path):
    with writer_lock(runs[1]), pytest.raises(Locked, match=rf"writing to {re.escape(str(runs[1]))}"):
        evaluate_ensemble(runs, tmp_path / "out")
    assert not (tmp_path / "out").exists() and recorded(runs[0]) == []


def test_figures_and_temperature_of_other_weights_are_not_taken(runs, seen_run, tmp_path, capsys):
    """The training of a member went on, or it was trained anew, after the evaluation."""
    out = tmp_path / "out"
    metrics, _ = evaluate_ensemble(runs, out)
    temperature = metrics["calibration"]["temperature"]
    assert stored_temperature(out) == temperature and load(out, device="cpu").scores is not None
    other = sibling_run(seen_run / "run", tmp_path / "other", 5)
    shutil.copy(other / "best.safetensors", runs[1])
    assert stored_temperature(out) is None
    assert load(out, device="cpu").scores is None
    with pytest.raises(CalibrationError, match=r"gets one by `deiii evaluate .*/out --out FOLDER`"):
        load(out, device="cpu", calibrated=True)
    message = rf"other weights than {re.escape(str(runs[1]))}.*`deiii evaluate .*/out --out FOLDER` scores"
    with pytest.raises(RunError, match=message):
        export_ensemble([out], tmp_path / "exported", program=False)
    assert not (tmp_path / "exported").exists()
    with pytest.raises(RunError, match=message):
        compare([out, seen_run / "run"], tmp_path / "compared")
    assert main(["evaluate", str(out), "--out", str(tmp_path / "new"), "--quiet"]) == 0  # as it says
    assert load(tmp_path / "new", device="cpu").scores is not None
    shutil.rmtree(runs[1])  # weights that are gone are not compared
    assert stored_temperature(out) == temperature


def test_a_member_that_was_trained_on_other_recordings_is_refused(runs, tmp_path):
    """Evaluated alone it is refused too; what the other member was trained on does not matter."""
    media = json.loads((runs[1] / "media.json").read_text())
    (runs[1] / "media.json").write_text(json.dumps({**media, "c0.mp4": "0" * 64}))
    with pytest.raises(RunError, match=r"fold0-seed1 was trained on other recordings .*\(c0\.mp4\)"):
        evaluate_ensemble(runs, tmp_path / "out")
    assert recorded(runs[0]) == []


def test_an_ensemble_is_not_taken_for_a_run(tmp_path):
    info = {"keys": {}, "classes": [], "attributes": [], "ranges": [], "members": ["../a", "../b"]}
    (tmp_path / "both").mkdir()
    (tmp_path / "both/run.json").write_text(json.dumps(info))
    with pytest.raises(RunError, match=rf"both is an ensemble, .* name a member: {tmp_path}/a$"):
        load_network(tmp_path / "both")
