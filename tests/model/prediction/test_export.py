"""An exported folder needs no other file, and its program gives the outputs of the network."""

from __future__ import annotations

import errno
import json
import math
import re
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from deiii import load
from deiii.__main__ import main
from deiii.data.config.load import load_config
from deiii.data.loader.loader import Loader
from deiii.data.tools import progress
from deiii.model.prediction import export as export_module
from deiii.model.prediction.export import ExportError, describe_inputs, export, model_card
from deiii.model.prediction.manifest import copy_export
from deiii.model.prediction.with_torch import read_export
from deiii.model.training import checkpoint
from deiii.model.training.run_folder import RunError


@pytest.fixture(scope="module")
def exported(seen_run, tmp_path_factory):
    return export(seen_run / "run", tmp_path_factory.mktemp("export") / "out")


def test_the_folder_holds_all_files(exported):
    names = {p.name for p in exported.iterdir()}
    assert names == {"deiii.json", "model.safetensors", "deiii.pt2", "README.md"}


def test_files_that_were_changed_since_the_export_are_refused(exported, tmp_path):
    """The classes, figures and temperature of the manifest are not those of other weights."""
    manifest = json.loads((exported / "deiii.json").read_text())
    digests = {name: sha256((exported / name).read_bytes()).hexdigest() for name in manifest["sha256"]}
    assert manifest["sha256"] == digests and digests.keys() == {"model.safetensors", "deiii.pt2"}
    other = shutil.copytree(exported, tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, other / "model.safetensors")
    with pytest.raises(ExportError, match=r"model\.safetensors is not the file that deiii\.json records"):
        load(other)
    with pytest.raises(ExportError, match=r"model\.safetensors is not the file"):
        copy_export(other, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    del manifest["sha256"]  # an export of a version that recorded none
    (other / "deiii.json").write_text(json.dumps(manifest))
    assert load(other).classes


def test_weights_are_the_best_epochs(exported, seen_run):
    wanted, _ = checkpoint.load(seen_run / "run/best.safetensors")
    found = load_file(exported / "model.safetensors")
    assert found.keys() == wanted.keys() and all(torch.equal(found[n], wanted[n]) for n in wanted)


def test_program_equals_the_network_on_real_clips(exported, seen_run):
    """The clips come from the loader, in a batch of a size that the export itself did not compare."""
    from deiii.data.loader.feature_set import FeatureSet
    from deiii.model.prediction.export import Program

    config = load_config([seen_run / "run/config.yaml"])
    config.loader.batch = 3
    features = FeatureSet.open(config)
    batch = next(Loader(features, [0, 1, 2], config.loader, training=False, attributes=["valence"]).epoch(0))
    inputs = {name: getattr(batch, name) for name in describe_inputs(config)}
    for name, about in describe_inputs(config).items():
        assert list(inputs[name].shape[1:]) == about["shape"][1:]
        assert str(inputs[name].dtype) == f"torch.{about['dtype']}"
    network = load(seen_run / "run", device="cpu").network
    program = torch.export.load(exported / "deiii.pt2").module()
    with torch.no_grad():
        found, wanted = program(inputs), Program(network)(inputs)
    assert {"fused_probabilities", "video_attributes", "audio_probabilities"} <= found.keys()
    for name, values in wanted.items():
        assert (found[name].float() - values.float()).abs().max() <= 1e-4


def test_manifest_says_nothing_of_the_training_machine(exported, seen_run):
    text = (exported / "deiii.json").read_text()
    assert str(seen_run) not in text
    tree = json.loads(text)
    assert tree["classes"] == ["a", "b"] and tree["settings"]["faces"]["size"] == 64
    assert tree["program_difference"] <= 1e-4


def test_card_has_the_runs_numbers(exported, seen_run):
    metrics = json.loads((seen_run / "run/metrics.json").read_text())
    card = (exported / "README.md").read_text()
    assert f"| UAR | {metrics['test']['uar']:.3f} |" in card and "the classes a, b" in card
    assert "From face crops, optical flow and log-mel spectrogram it predicts" in card
    manifest = json.loads((exported / "deiii.json").read_text())
    train, val, test = (manifest["clips"][part] for part in ("train", "val", "test"))
    assert f": {train} training, {val} validation and {test} test clips, split by speaker" in card
    assert "has not been evaluated" in model_card(manifest, None)
    assert manifest["chosen"] and "was chosen on validation speakers" in card
    assert "was the last of training, not chosen by a score" in model_card(manifest | {"chosen": False}, None)


def test_the_card_lists_what_the_network_reads_alone(exported, seen_run):
    manifest = json.loads((exported / "deiii.json").read_text())
    card = (exported / "README.md").read_text()
    assert "An audio-visual emotion recognition network" in card
    assert " Faces: " in card and " Flow: dis. Log-mel: " in card
    assert "\n\nGuessing gives a UAR of 0.500.\n\n" in card
    assert "Guessing gives" not in model_card(manifest, None)
    manifest["settings"]["model"] |= {"video": False, "flow": False, "audio": True}
    manifest["keys"] = {"logmel": manifest["keys"]["logmel"]}
    card = model_card(manifest, json.loads((seen_run / "run/metrics.json").read_text()))
    assert "A speech emotion recognition network with" in card and " Log-mel: " in card
    assert "Faces:" not in card and "Flow:" not in card
    assert "The mean of 2 speech emotion recognition networks with" in model_card(
        manifest | {"members": ["a", "b"], "epoch": [0, 1]}, None
    )
    manifest["settings"]["model"] |= {"audio": False, "extra": ["speech"]}
    card = model_card(manifest | {"keys": {"speech": "0"}}, None)
    assert "A speech emotion" in card and "Log-mel:" not in card and "\n- audio\n" in card
    card = model_card(manifest | {"keys": {"faces": "0", "appearance": "0"}}, None)
    assert "A facial emotion" in card and " Faces: " in card and "Flow:" not in card
    assert "pipeline_tag: video-classification" in card and "\n- video\n" in card


def test_the_card_promises_onnxruntime_alone_where_it_suffices(exported):
    """`deiii.runtime` refuses networks of encoders that run in PyTorch, and of RAFT's flow."""
    manifest = json.loads((exported / "deiii.json").read_text()) | {"onnx_difference": 0.0}
    settings = manifest["settings"]
    card = model_card(manifest, None)
    assert "Without PyTorch: `from deiii.runtime import load`" in card
    page = (Path(__file__).parents[3] / "docs/predict.md").read_text()
    (lines,) = re.findall(r"```text\n(pip install --no-deps \.\npip install av .*?\n)```", page, re.DOTALL)
    assert f"\n\n```text\n{lines}```\n\n" in card and "`'huggingface-hub>=1.0'`: the extra" in page
    assert "needs `pillow` and `matplotlib` too" in card and "needs `'huggingface-hub>=1.0'`." in card
    alone = {name: value for name, value in manifest.items() if name != "onnx_difference"}
    assert "pip install" not in model_card(alone, None)
    settings["model"]["extra"] = ["speech", "appearance"]
    settings |= {"speech": {"encoder": "smart-turn"}, "appearance": {"encoder": "fer-emotion"}}
    assert "Without PyTorch: `from deiii.runtime import load`" in model_card(manifest, None)
    settings["appearance"]["encoder"] = "facebook/dinov2-small"
    card = model_card(manifest, None)
    assert "Without PyTorch" not in card and "pip install" not in card
    assert "does not predict with it: for features of appearance it needs PyTorch." in card
    settings["model"]["extra"], settings["flow"]["method"] = [], "raft"
    assert "for flow of RAFT it needs PyTorch" in model_card(manifest, None)


def test_the_scores_can_be_read_from_export_and_run(exported, seen_run):
    metrics = json.loads((seen_run / "run/metrics.json").read_text())
    manifest = json.loads((exported / "deiii.json").read_text())
    scores = manifest["scores"]
    assert scores["uar"] == metrics["test"]["uar"] and scores["uar_ci"] == metrics["test"]["uar_ci"]
    assert scores["clips"] == metrics["clips"]["test"]["scored"] and scores["evaluations"] == 1
    assert scores["speakers"] == len(metrics["test"]["per_speaker"])
    assert manifest["training"] == {"finished": True, "epochs": 1, "planned": 1}
    network = load(exported, device="cpu")
    assert network.scores == load(seen_run / "run", device="cpu").scores == scores and not network.notes


def test_a_network_that_was_not_evaluated_or_finished_says_so(seen_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(seen_run / "run", run, ignore=shutil.ignore_patterns("metrics.json"))
    text = (run / "config.yaml").read_text(encoding="utf-8")
    (run / "config.yaml").write_text(text.replace("epochs: 1\n", "epochs: 3\n"), encoding="utf-8")
    out = export(run, tmp_path / "out", program=False)
    assert "The training was not finished: 1 of 3 epochs." in (out / "README.md").read_text(encoding="utf-8")
    for folder in (run, out):
        network = load(folder, device="cpu")
        assert network.scores is None
        assert network.notes == ("the training of this network was not finished: 1 of 3 epochs",)


def test_names_in_the_card_are_text(exported):
    manifest = json.loads((exported / "deiii.json").read_text())
    card = model_card(manifest | {"classes": ["<script>x</script>", "a|b"]}, None)
    assert "the classes \\<script>x\\</script>, a\\|b" in card


def test_damage_is_an_error(exported, tmp_path):
    (tmp_path / "deiii.json").write_text((exported / "deiii.json").read_text())
    with pytest.raises(ExportError, match="export the run again"):
        read_export(tmp_path)
    whole = json.loads((exported / "deiii.json").read_text())
    for name in ("format", "classes", "keys", "inputs"):
        left = {key: value for key, value in whole.items() if key != name}
        (tmp_path / "deiii.json").write_text(json.dumps(left))
        with pytest.raises(ExportError, match=rf"deiii\.json.* entry {name}"):
            read_export(tmp_path)
    (tmp_path / "deiii.json").write_text("[]")
    with pytest.raises(ExportError, match="has no entry format"):
        read_export(tmp_path)
    (tmp_path / "deiii.json").write_text('{"format": 99}')
    with pytest.raises(ExportError, match="format 99"):
        read_export(tmp_path)


def test_a_folder_without_a_run_is_an_error(tmp_path, capsys):
    assert main(["export", str(tmp_path), str(tmp_path / "out")]) == 1
    assert "holds no run" in capsys.readouterr().err
    with pytest.raises(RunError):
        load(tmp_path)


def test_a_folder_with_other_files_is_not_overwritten(seen_run, tmp_path, capsys):
    (tmp_path / "README.md").write_text("mine")
    assert main(["export", str(seen_run / "run"), str(tmp_path), "--no-program"]) == 1
    assert "holds no export" in capsys.readouterr().err and (tmp_path / "README.md").read_text() == "mine"
    for _ in range(2):  # an earlier export is replaced
        assert main(["export", str(seen_run / "run"), str(tmp_path / "new"), "--no-program"]) == 0


def test_figures_of_other_weights_are_not_reported(seen_run, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(seen_run / "run", run)
    shutil.copy(run / "last.safetensors", run / "best.safetensors")
    with open(run / "best.safetensors", "r+b") as file:
        file.seek(-1, 2)
        byte = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([byte[0] ^ 1]))
    assert main(["evaluate", str(run), "--keep"]) == 1
    assert "about other weights" in capsys.readouterr().err


def test_the_command_copies_an_exported_folder(exported, tmp_path, capsys):
    assert main(["export", str(exported), str(tmp_path / "copy")]) == 0
    assert {p.name: p.read_bytes() for p in exported.iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "copy").iterdir()
    }
    assert main(["export", str(exported), str(tmp_path / "copy"), "--onnx"]) == 1
    assert "an exported folder without model.onnx" in capsys.readouterr().err


def test_a_copy_that_is_stopped_is_no_export(exported, tmp_path, monkeypatch):
    """Otherwise the folder would have the description of one network and the weights of another."""
    copy_export(exported, tmp_path / "copy")
    real = shutil.copyfile

    def stopped(source, target):
        if source.name == "model.safetensors":
            raise KeyboardInterrupt
        return real(source, target)

    monkeypatch.setattr(shutil, "copyfile", stopped)
    with pytest.raises(KeyboardInterrupt):
        copy_export(exported, tmp_path / "copy")
    assert not (tmp_path / "copy/deiii.json").exists()


class _Broken(torch.nn.Module):
    """Gives NaN, as weights do that overflowed."""

    def forward(self, inputs):
        return {"fused_present": inputs["x"] * float("nan")}


def test_outputs_that_are_not_numbers_are_a_difference(seen_run, tmp_path):
    pytest.importorskip("onnxscript")
    from deiii.model.prediction.export import write_program
    from deiii.model.prediction.onnx_file import write_onnx
    from deiii.model.training.trained import load_network

    inputs = {"x": torch.ones(2, 3)}
    assert math.isnan(write_onnx(_Broken(), inputs, {"x": "rows"}, [inputs], tmp_path / "a.onnx"))
    trained = load_network(seen_run / "run")
    with torch.no_grad():
        for parameter in trained.network.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(ExportError, match="differs from the network by nan"):
        write_program(trained.network.eval(), trained.config, tmp_path / "a.pt2")


@pytest.mark.parametrize(
    "module, raised",
    [("onnxscript._framework_apis.torch_2_99", ExportError), ("elsewhere", ModuleNotFoundError)],
)
def test_an_onnxscript_that_does_not_fit_pytorch_is_named(module, raised, tmp_path, monkeypatch):
    """PyTorch 2.11 asked onnxscript 0.5 for such a module, and the command ended with a traceback."""
    pytest.importorskip("onnxscript")
    from deiii.model.prediction.onnx_file import write_onnx

    def lacking(*args, **kwargs):
        raise ModuleNotFoundError(f"No module named '{module}'", name=module)

    monkeypatch.setattr(torch.onnx, "export", lacking)
    inputs = {"x": torch.ones(2, 3)}
    with pytest.raises(raised, match=module) as found:
        write_onnx(_Broken(), inputs, {"x": "rows"}, [inputs], tmp_path / "a.onnx")
    assert raised is not ExportError or str(found.value).endswith("pip install --upgrade onnxscript")
    assert not list(tmp_path.iterdir())


def test_the_programs_are_reported_while_they_are_written(seen_run, tmp_path, monkeypatch, capsys):
    """Writing model.onnx takes up to minutes, in which the command said nothing."""
    monkeypatch.setattr(progress, "LINE_S", 0.0)  # a line for each
    for name in ("write_program", "write_onnx_program"):
        monkeypatch.setattr(export_module, name, lambda network, config, path: 0.0)
    export_module.export(seen_run / "run", tmp_path / "quiet", onnx=True)
    assert capsys.readouterr().err == ""
    export_module.export(seen_run / "run", tmp_path / "told", onnx=True, progress=True)
    told = capsys.readouterr().err
    assert "1/2" in told and "2/2" in told and "model.onnx is written and checked" in told


FULL = """
import resource, sys
from deiii.model.prediction.export import export
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    export(sys.argv[1], sys.argv[2], program=sys.argv[3] == "deiii.pt2")
except OSError as error:
    print(error.errno, error.filename)
"""


@pytest.mark.parametrize("file", ["deiii.pt2", "model.safetensors"])
def test_a_disk_without_room_is_an_error_that_names_the_file(seen_run, tmp_path, file):
    """PyTorch's writer ended the process by SIGABRT, and safetensors raised an error of its own."""
    command = [sys.executable, "-c", FULL, str(seen_run / "run"), str(tmp_path / "out"), file]
    done = subprocess.run(command, capture_output=True, text=True)
    wanted = f"{errno.EFBIG} {tmp_path / 'out' / file}\n"
    assert (done.returncode, done.stdout) == (0, wanted), done.stderr[-300:]
    assert not list((tmp_path / "out").iterdir())


def test_the_same_command_completes_an_export_that_was_stopped(seen_run, tmp_path, monkeypatch):
    def full(path, value):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    words = ["export", str(seen_run / "run"), str(tmp_path / "out"), "--no-program", "--quiet"]
    with monkeypatch.context() as patch:
        patch.setattr("deiii.model.prediction.export.write_json", full)
        assert main(words) == 1
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert "model.safetensors" in left and "deiii.json" not in left
    assert main(words) == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"deiii.json", "model.safetensors", "README.md"}
