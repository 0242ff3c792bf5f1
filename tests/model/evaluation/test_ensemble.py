"""An ensemble is the mean of its members, the same through evaluate, predict, export and ONNX."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from deiii import load, runtime
from deiii.__main__ import main
from deiii.model.calibration import tempered
from deiii.model.evaluation.ensemble import evaluate_ensemble, folder_of
from deiii.model.evaluation.evaluate import evaluate
from deiii.model.members import EnsembleError, find_members, names_network
from deiii.model.prediction.ensemble.folder import export_ensemble
from deiii.model.prediction.export import export
from deiii.model.prediction.manifest import ExportError, read_manifest
from deiii.model.training.run_folder import RunError
from tests.helpers.sibling_runs import sibling_run

SAME = 1e-6
WITH_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript"))


@pytest.fixture(scope="module")
def runs(seen_run, tmp_path_factory) -> list[Path]:
    """Three runs named as the seeds of a fold."""
    folder = tmp_path_factory.mktemp("cv")
    return [sibling_run(seen_run / "run", folder / f"fold0-seed{s}", s) for s in (0, 2, 10)]


@pytest.fixture(scope="module")
def evaluated(runs) -> tuple[dict, Path]:
    folder = runs[0].parent / "fold0-ensemble"
    metrics, _ = evaluate_ensemble([runs[0].parent / "fold0"], folder)
    return metrics, folder


def probabilities(path: Path) -> dict[str, list[float]]:
    with open(path, newline="") as file:
        return {
            row["clip"]: [float(v) for k, v in row.items() if k.startswith("p_")]
            for row in csv.DictReader(file)
        }


def test_names_of_ensembles(runs, evaluated):
    cell = runs[0].parent / "fold0"
    assert find_members([cell]) == runs
    assert find_members([runs[0].parent]) == sorted(runs, key=lambda p: (len(p.name), p.name))
    assert find_members([runs[1], runs[0]]) == [runs[1], runs[0]]
    assert find_members([evaluated[1]]) == runs
    assert names_network(cell) and names_network(runs[0]) and not names_network(runs[0] / "absent")
    assert folder_of([cell]) == runs[0].parent / "fold0-ensemble"
    with pytest.raises(EnsembleError, match="named twice"):
        find_members([cell, runs[0]])


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, b"\xff" * 7 + b"\x7f{}", b"\x02" + b"\0" * 7 + b"[]"])
def test_damaged_weights_are_left_to_the_loading(runs, tmp_path, content):
    broken = shutil.copytree(runs[0], tmp_path / "broken")
    (broken / "best.safetensors").write_bytes(content)
    assert find_members([runs[0], broken]) == [runs[0], broken]


def test_a_copy_of_a_member_does_not_count_twice(runs, tmp_path):
    copy = shutil.copytree(runs[0], tmp_path / "copy")
    with pytest.raises(EnsembleError, match=r"copy has the same weights as .*fold0-seed0"):
        find_members([*runs, copy])
    export(runs[0], tmp_path / "exported")
    with pytest.raises(EnsembleError, match=r"exported has the same weights as .*fold0-seed0"):
        find_members([*runs, tmp_path / "exported"])


def test_evaluation_scores_the_mean_of_the_members(runs, evaluated, tmp_path, seen_run):
    metrics, folder = evaluated
    members = []
    for i, run in enumerate(runs):
        own = sibling_run(run, tmp_path / f"m{i}", 0)
        (own / "best.safetensors").write_bytes((run / "best.safetensors").read_bytes())
        evaluate(own)
        members.append(probabilities(own / "predictions.csv"))
    found = probabilities(folder / "predictions.csv")
    assert len(found) >= 1
    for clip, values in found.items():
        wanted = np.mean([own[clip] for own in members], axis=0)
        assert values == pytest.approx(wanted, abs=1.01e-4)  # four decimals in the table
    assert [m["run"] for m in metrics["members"]] == [str(run) for run in runs]
    page = (folder / "report.html").read_text()
    assert "the mean of 3 networks" in page and "fold0-seed10" in page


def test_each_member_that_was_trained_on_other_features_is_named(runs, tmp_path, capsys):
    """The caches were computed anew between the trainings of the members."""
    own = json.loads((runs[1] / "run.json").read_text())["features"][-1]
    other = sibling_run(runs[1], tmp_path / "other", 3, features=[{**own, "logmel": "0" * 64}])
    metrics, _ = evaluate_ensemble([runs[0], other], tmp_path / "out")
    said = capsys.readouterr().err
    assert said.count("computed anew") == 1
    assert f"the caches of logmel were computed anew since the training of {other}" in said
    assert [member.get("other_features") for member in metrics["members"]] == [None, ["logmel"]]


def test_an_ensemble_is_scored_once_also_under_another_name(runs, evaluated, tmp_path, capsys):
    words = ["evaluate", *map(str, runs), "--out", str(tmp_path / "again")]
    assert main(words) == 1
    assert "was scored before" in capsys.readouterr().err
    assert main(["evaluate", *map(str, runs[:2]), "--out", str(evaluated[1])]) == 1
    assert "name another folder with --out" in capsys.readouterr().err
    assert main([*words, "--again"]) == 0
    said = capsys.readouterr().out
    assert "ensemble of" in said and "scored 2 times" in said
    recorded = json.loads((runs[1] / "run.json").read_text())
    assert [Path(entry["folder"]).name for entry in recorded["ensembles"]] == ["fold0-ensemble", "again"]
    assert main(["evaluate", str(evaluated[1]), "--keep"]) == 0


def test_prediction_is_the_mean_to_the_last_digit(runs, evaluated, seen_run):
    clip = seen_run / "raw/c1.mp4"
    each = [load(run, device="cpu").predict(clip) for run in runs]
    for names in ([*runs], runs[0].parent / "fold0", evaluated[1]):
        found = load(names, device="cpu").predict(clip)
        for name, value in found.probabilities.items():
            assert value == pytest.approx(np.mean([p.probabilities[name] for p in each]), abs=SAME)
        for name, value in found.attributes.items():
            assert value == pytest.approx(np.mean([p.attributes[name] for p in each]), abs=SAME)
        for head in found.heads:
            wanted = np.mean([list(p.heads[head].values()) for p in each], axis=0)
            assert list(found.heads[head].values()) == pytest.approx(wanted, abs=SAME)
        wanted = np.mean([p.timeline.probabilities for p in each], axis=0)
        assert found.timeline.probabilities == pytest.approx(wanted, abs=SAME)
        shares = found.contributions[found.label]
        assert sum(shares.values()) == pytest.approx(found.probabilities[found.label] - 0.5, abs=SAME)


def test_the_evaluated_probabilities_are_those_of_prediction(evaluated, seen_run):
    network = load(evaluated[1], device="cpu")
    for clip, values in probabilities(evaluated[1] / "predictions.csv").items():
        found = network.predict(seen_run / f"raw/{clip}.mp4")
        assert list(found.probabilities.values()) == pytest.approx(values, abs=1.5e-4)


def test_one_exported_folder_holds_all_members(runs, evaluated, seen_run, tmp_path, capsys):
    clip, folder = seen_run / "raw/c0.mp4", tmp_path / "exported"
    wanted = dict(load(runs, device="cpu").predict(clip).probabilities)
    assert main(["export", str(evaluated[1]), str(folder), "--no-program"]) == 0
    network = load(folder, device="cpu")
    assert network.predict(clip).probabilities == pytest.approx(wanted, abs=SAME)
    card = (folder / "README.md").read_text()
    assert "The mean of 3 audio-visual" in card and "| UAR |" in card
    with pytest.raises(ExportError, match="format 2"):  # as an earlier version would say
        read_manifest(folder)
    copied = network.save_pretrained(tmp_path / "copy")
    assert load(copied, device="cpu").predict(clip).probabilities == pytest.approx(wanted, abs=SAME)
    assert network.save_pretrained(folder) == folder  # onto itself: nothing to do
    for target in (folder, tmp_path / "with_onnx"):  # members are copied as they are
        with pytest.raises(ExportError, match=r"member0 is an exported folder without model\.onnx"):
            network.save_pretrained(target, onnx=True)
    assert not (tmp_path / "with_onnx").exists()
    export(runs[0], folder, program=False)  # a single network replaces the ensemble
    assert not list(folder.glob("member*")) and load(folder, device="cpu").members == ()


def test_a_copy_of_an_ensemble_keeps_its_figures_and_its_temperature(runs, evaluated, tmp_path):
    metrics, folder = evaluated
    exported = export_ensemble([folder], tmp_path / "exported", program=False)
    listed = json.loads((exported / "deiii.json").read_text())["sha256"]
    assert listed.keys() == {f"member{n}/deiii.json" for n in range(len(listed))}
    wanted = json.loads((exported / "deiii.json").read_text())
    assert wanted["scores"]["uar"] == metrics["test"]["uar"]
    assert wanted["temperature"] == metrics["calibration"]["temperature"]
    copies = [
        export_ensemble([exported], tmp_path / "by_name"),
        load(exported, device="cpu").save_pretrained(tmp_path / "by_load"),
        load(folder, device="cpu").save_pretrained(tmp_path / "from_run", program=False),
    ]
    for copy in copies:
        assert json.loads((copy / "deiii.json").read_text()) == wanted
        assert (copy / "README.md").read_text() == (exported / "README.md").read_text()
    for name in (folder, exported, *copies):
        assert load(name, device="cpu").scores == wanted["scores"]
    assert load(runs, device="cpu").scores is None  # nothing says that they were scored together
    for name, value in (("members", "member0"), ("sha256", None), ("temperature", "x"), ("scores", 3)):
        (copies[1] / "deiii.json").write_text(json.dumps({**wanted, name: value}))
        with pytest.raises(ExportError, match=rf"deiii\.json: its entry {name} is not"):
            load(copies[1], device="cpu")
    with open(copies[0] / "member1/deiii.json", "a") as file:  # a member is another network
        file.write(" ")
    with pytest.raises(ExportError, match=r"member1/deiii\.json is not the file that deiii\.json records"):
        load(copies[0], device="cpu")
    with pytest.raises(ExportError, match=r"member1/deiii\.json is not the file"):
        export_ensemble([copies[0]], tmp_path / "again")


@pytest.mark.slow  # writing two ONNX files takes long
@pytest.mark.timeout(1500)
@pytest.mark.skipif(not WITH_ONNX, reason="needs onnx and onnxscript: pip install 'deiii[onnx]'")
def test_onnx_predicts_the_mean_of_the_members(runs, seen_run, tmp_path):
    clip = seen_run / "raw/c0.mp4"
    folder = export_ensemble(runs[:2], tmp_path / "exported", program=False, onnx=True)
    found = runtime.load(folder).predict(clip).probabilities
    each = [runtime.load(folder / f"member{i}").predict(clip).probabilities for i in range(2)]
    for name, value in found.items():
        assert value == pytest.approx(np.mean([p[name] for p in each]), abs=SAME)
    in_torch = load(runs[:2], device="cpu").predict(clip).probabilities
    assert found == pytest.approx(dict(in_torch), abs=1e-4)


def test_runs_among_the_words_of_predict_are_members(runs, seen_run, tmp_path):
    clip, out = seen_run / "raw/c0.mp4", tmp_path / "out"
    assert main(["predict", *map(str, runs[:2]), str(clip), "--out", str(out), "--quiet"]) == 0
    wanted = load(runs[:2], device="cpu").predict(clip).probabilities
    tree = json.loads((out / "c0.json").read_text())
    assert tree["probabilities"] == pytest.approx(dict(wanted), abs=SAME)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"classes": ["a", "c"]}, r"their classes differ \(a, c and a, b\)"),
        ({"split": "0123"}, "their splits differ"),
        ({"split": "0123456789abcdef" * 4}, r"their splits differ \(0123456789ab and [0-9a-f]{12}\)"),
        ({"label_digest": "0123"}, "their labels differ"),
        ({"keys": {"faces": "1", "flow": "2", "logmel": "3"}}, "their stages differ"),
        ({"attributes": [], "ranges": []}, "their attributes differ"),
    ],
)
def test_members_that_cannot_be_averaged_are_refused(runs, seen_run, tmp_path, changed, what):
    """The files of weights fit, what they mean does not."""
    odd = sibling_run(seen_run / "run", tmp_path / "odd", 5, **changed)
    with pytest.raises(EnsembleError, match=what):
        export_ensemble([runs[0], odd], tmp_path / "exported")
    assert not (tmp_path / "exported").exists()
    if "attributes" not in changed:
        with pytest.raises(EnsembleError, match=what):
            load([runs[0], odd], device="cpu")
        with pytest.raises(EnsembleError, match=what):
            evaluate_ensemble([runs[0], odd], tmp_path / "ensemble")


def test_other_inputs_are_refused(runs, seen_run, tmp_path):
    odd = sibling_run(seen_run / "run", tmp_path / "odd", 5)
    config = (odd / "config.yaml").read_text()
    assert "flow: true" in config
    (odd / "config.yaml").write_text(config.replace("flow: true", "flow: false"))
    with pytest.raises(EnsembleError, match=r"their inputs differ \(frames, audio and frames, flow, audio\)"):
        export_ensemble([runs[0], odd], tmp_path / "exported")


def test_calibrated_probabilities_are_asked_for(runs, evaluated, seen_run, tmp_path, capsys):
    clip = seen_run / "raw/c0.mp4"
    temperature = evaluated[0]["calibration"]["temperature"]
    raw, found = (load(evaluated[1], device="cpu", calibrated=c).predict(clip) for c in (False, True))
    wanted = tempered(np.array([list(raw.probabilities.values())]), temperature)[0]
    assert list(found.probabilities.values()) == pytest.approx(wanted, abs=1e-5)
    assert any("temperature" in note for note in found.notes) and found.label == raw.label
    folder = export_ensemble([evaluated[1]], tmp_path / "exported", program=False)
    exported = load(folder, device="cpu", calibrated=True).predict(clip)
    assert exported.probabilities == pytest.approx(dict(found.probabilities), abs=1e-5)
    words = ["predict", str(runs[0]), str(clip), "--out", str(tmp_path / "out"), "--calibrated"]
    assert main(words) == 1
    told = capsys.readouterr().err
    assert "no temperature is stored" in told and f"`deiii evaluate {runs[0]} --again`" in told


def test_messages(runs, tmp_path, capsys):
    assert main(["evaluate", str(runs[0]), "--out", str(tmp_path)]) == 1
    assert "--out is for an ensemble" in capsys.readouterr().err
    assert main(["evaluate", *map(str, runs[:2]), "--on", "ravdess"]) == 1
    assert "--on takes one run" in capsys.readouterr().err
    assert main(["evaluate", str(runs[0].parent / "fold7")]) == 1
    assert "there is no run folder" in capsys.readouterr().err
    with pytest.raises(RunError, match="has not|holds no|no run"):
        evaluate_ensemble([runs[0], tmp_path], tmp_path / "out")


def test_members_with_other_hidden_streams_are_not_scored_together(runs, seen_run, tmp_path):
    odd = sibling_run(seen_run / "run", tmp_path / "odd", 5)
    config = (odd / "config.yaml").read_text()
    (odd / "config.yaml").write_text(config.replace("  hide: []\n", "  hide: [audio]\n"))
    with pytest.raises(EnsembleError, match="split.hide hides audio .*, nothing from those of the other"):
        evaluate_ensemble([runs[0], odd], tmp_path / "ensemble")
    assert not (tmp_path / "ensemble").exists()
