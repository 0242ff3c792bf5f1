"""Prediction without PyTorch: the ONNX file, its inputs made by NumPy, and a process without torch."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deiii import load, runtime
from deiii.__main__ import main
from deiii.data.cache.flow_codec import encode_flow
from deiii.data.cache.stages import get_stage
from deiii.data.config.load import load_config
from deiii.data.loader.recording import recording
from deiii.data.loader.stage_arrays import band_levels
from deiii.model.prediction import onnx_file
from deiii.model.prediction.export import PREPARATION, Program, describe_inputs, example, export
from deiii.model.prediction.manifest import ExportError
from deiii.model.prediction.with_onnx import OnnxScorer
from deiii.model.training.loaders import make_loader

ROOT = Path(__file__).parents[3]
SAME = 1e-4
missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
writes_onnx = pytest.mark.skipif(bool(missing), reason=f"needs {missing}: pip install 'deiii[onnx]'")


@pytest.fixture(scope="module")
def exported(seen_run, tmp_path_factory):
    if missing:
        pytest.skip(f"needs {missing}: pip install 'deiii[onnx]'")
    folder = tmp_path_factory.mktemp("export") / "out"
    return export(seen_run / "run", folder, program=False, onnx=True)


@writes_onnx
def test_inputs_and_outputs_have_names_and_free_axes(exported):
    session = onnxruntime.InferenceSession(exported / "model.onnx")
    manifest = json.loads((exported / "deiii.json").read_text())
    found = {i.name: i.shape for i in session.get_inputs()}
    assert found.keys() == manifest["inputs"].keys()
    for name, shape in found.items():
        audio = name == "logmel" or name.startswith("audio")
        assert shape == ["batch", "hops" if audio else "steps", *manifest["inputs"][name]["shape"][2:]]
    kinds = ("probabilities", "attributes", "present")
    assert {o.name for o in session.get_outputs()} == {
        f"{head}_{kind}" for head in ("fused", "video", "audio") for kind in kinds
    }
    assert manifest["onnx_difference"] <= SAME


@writes_onnx
def test_another_program_than_the_exported_one_is_refused(exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "copy")
    with open(folder / "model.onnx", "ab") as file:
        file.write(b"\0")
    with pytest.raises(ExportError, match=r"model\.onnx is not the file that deiii\.json records"):
        runtime.load(folder)


@writes_onnx
@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_a_manifest_of_another_network_is_one_error_at_load(exported, tmp_path, backend):
    """A missing class was reported with each media file, as an unexpected error of the file."""
    folder = shutil.copytree(exported, tmp_path / "copy")
    whole = json.loads((exported / "deiii.json").read_text())
    fewer_bands = {**whole["settings"], "logmel": {**whole["settings"]["logmel"], "n_mels": 64}}
    for changes, found in (
        ({"classes": whole["classes"][:1]}, r"another network than model\.(onnx|safetensors)"),
        ({"classes": [*whole["classes"], "c"]}, r"another network than model\.(onnx|safetensors)"),
        ({"classes": []}, r"another network than model\.(onnx|safetensors)"),
        ({"settings": fewer_bands}, "its input logmel is .*160, 80.*160, 64"),
        ({"keys": None}, "its entry keys is not a table of texts"),
    ):
        (folder / "deiii.json").write_text(json.dumps({**whole, **changes}))
        with pytest.raises(ExportError, match=found) as caught:
            load(folder, device="auto" if backend == "onnx" else "cpu", backend=backend)
        assert str(caught.value).startswith(f"{folder} holds no usable export (deiii.json")


@writes_onnx
@pytest.mark.parametrize(("batch", "steps", "hops"), [(1, 4, 161), (3, 1, 7), (2, 9, 40), (5, 3, 300)])
def test_any_batch_and_length_gives_the_outputs_of_the_network(exported, seen_run, batch, steps, hops):
    """For sizes that the export did not compare, with masks that hide whole clips."""
    config = load_config([seen_run / "run/config.yaml"])
    inputs = {}
    for name, x in example(config, batch, seed=batch).items():
        length = hops if name == "logmel" or name.startswith("audio") else steps
        inputs[name] = x.repeat_interleave(1 + length // x.shape[1], dim=1)[:, :length].contiguous()
    inputs["audio_mask"][0] = False
    inputs["video_mask"][-1] = inputs["flow_mask"][-1] = False
    with torch.no_grad():
        wanted = Program(load(seen_run / "run", device="cpu").network)(inputs)
    session = onnxruntime.InferenceSession(exported / "model.onnx")
    found = session.run(list(wanted), {name: x.numpy() for name, x in inputs.items()})
    for values, (name, tensor) in zip(found, wanted.items(), strict=True):
        assert values == pytest.approx(tensor.numpy(), abs=SAME), name


@writes_onnx
def test_predictions_equal_those_of_pytorch(exported, seen_run):
    """Every number of the result, timeline and contributions included; of a clip with and without audio."""
    mute = shutil.copy(seen_run / "raw/c1.mp4", exported.parent / "mute.mp4")
    drop_audio(Path(mute))
    one, other = load(seen_run / "run", device="cpu"), load(exported, backend="onnx")
    for clip in (seen_run / "raw/c0.mp4", mute):
        assert_same(other.predict(clip).tree(), one.predict(clip).tree())


def drop_audio(path: Path) -> None:
    import av

    source = path.rename(path.with_suffix(".whole.mp4"))
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)


def assert_same(found, wanted) -> None:
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key in wanted:
            assert_same(found[key], wanted[key])
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for a, b in zip(found, wanted, strict=True):
            assert_same(a, b)
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, abs=2 * SAME)
    else:
        assert found == wanted


WITHOUT_TORCH = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "onnx", "onnxscript"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
"""
PREDICT = """
import json
from deiii.runtime import load
found = load(sys.argv[1]).predict(sys.argv[2])
assert "torch" not in sys.modules
print(json.dumps(found.tree()))
"""
COMMAND = """
from deiii.__main__ import main
sys.exit(main(["predict", *sys.argv[1:], "--quiet"]))
"""


def in_process_without_torch(code: str, *words: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH + code, *map(str, words)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip


@writes_onnx
def test_prediction_in_a_process_without_pytorch(exported, seen_run, tmp_path):
    clip = seen_run / "raw/c2.mp4"
    done = in_process_without_torch(PREDICT, exported, clip)
    assert done.returncode == 0, done.stderr
    wanted = load(seen_run / "run", device="cpu").predict(clip).tree()
    assert_same(json.loads(done.stdout.splitlines()[-1]), wanted)
    done = in_process_without_torch(
        COMMAND, exported, clip, "--out", tmp_path, "--overlay", tmp_path / "o.mp4"
    )
    assert done.returncode == 0, done.stderr
    assert_same(json.loads((tmp_path / "c2.json").read_text()), wanted)
    assert (tmp_path / "o.mp4").stat().st_size > 1000


@writes_onnx
def test_a_missing_onnxruntime_is_named(exported, seen_run, tmp_path):
    """It is installed by hand where PyTorch is not; the message told to export the run again."""
    code = COMMAND.replace("from deiii", 'sys.modules["onnxruntime"] = None\nfrom deiii', 1)
    done = in_process_without_torch(code, exported, seen_run / "raw/c0.mp4", "--out", tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "onnxruntime" in done.stderr and "install" in done.stderr, done.stderr
    assert "export the run again" not in done.stderr


@writes_onnx
def test_what_needs_pytorch_says_so(exported, seen_run, tmp_path):
    done = in_process_without_torch(COMMAND, seen_run / "run", seen_run / "raw/c0.mp4", "--out", tmp_path)
    assert done.returncode == 1
    assert "holds no export" in done.stderr and "--onnx" in done.stderr and "Traceback" not in done.stderr
    raft = shutil.copytree(exported, tmp_path / "raft")
    tree = json.loads((raft / "deiii.json").read_text())
    tree["settings"]["flow"]["method"] = "raft"
    (raft / "deiii.json").write_text(json.dumps(tree))
    done = in_process_without_torch(COMMAND, raft, seen_run / "raw/c0.mp4", "--out", tmp_path)
    assert done.returncode == 1 and "RAFT" in done.stderr and "Traceback" not in done.stderr


def test_an_export_without_onnx_and_a_damaged_one_are_refused(seen_run, tmp_path):
    folder = export(seen_run / "run", tmp_path / "plain", program=False)
    with pytest.raises(ExportError, match="--onnx"):
        load(folder, backend="onnx")
    (folder / "model.onnx").write_bytes(b"no program")
    with pytest.raises(ExportError, match="cannot be read"):
        load(folder, backend="onnx")
    export(seen_run / "run", folder, program=False)
    assert not (folder / "model.onnx").exists()  # it would belong to the earlier export


def test_a_missing_package_is_named_before_the_work(seen_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(onnx_file.importlib.util, "find_spec", lambda name: None)
    assert main(["export", str(seen_run / "run"), str(tmp_path / "out"), "--onnx"]) == 1
    assert "pip install 'deiii[onnx]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_it_starts_where_the_system_tells_no_affinity(exported, monkeypatch):
    """macOS has no such function."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert load(str(exported), "cpu", backend="onnx").classes


def arrays_of_a_recording(draw, config) -> dict[str, dict[str, np.ndarray]]:
    """What the stages might have computed: any number of rows, gaps in time, missing stages."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, m, size = draw(st.integers(0, 40)), draw(st.integers(0, 250)), config.faces.size
    time = np.sort(rng.uniform(0, 2, n)) if draw(st.booleans()) else np.arange(n) / 25
    arrays = {}
    if n:
        frames = rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8)
        arrays["faces"] = {"frames": frames, "time": time, "valid": rng.random(n) > 0.2}
        if draw(st.booleans()):
            flow = encode_flow(
                rng.normal(size=(n, size, size, 2)), draw(st.sampled_from(["int8", "float16"]))
            )
            arrays["flow"] = {**flow, "time": time, "valid": rng.random(n) > 0.2}
    if m:
        db = rng.uniform(-90, 10, (m, config.logmel.n_mels)).astype(np.float16)
        arrays["logmel"] = {"logmel": db, "time": 0.1 + np.arange(m) / 100}
    return arrays


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_inputs_equal_those_of_the_loader(data):
    """Random recordings and intervals; where a mask is false the values have no effect and may differ."""
    draw = data.draw
    config = load_config(overrides=[
        "faces.size=20", f"loader.crop={draw(st.sampled_from([16, 19, 20]))}", "logmel.n_mels=5",
        f"loader.steps={draw(st.integers(1, 6))}", f"loader.stride={draw(st.integers(1, 3))}",
        f"loader.sampling={draw(st.sampled_from(['segments', 'contiguous']))}",
        f"loader.normalise={draw(st.sampled_from(['none', 'clip', 'speaker']))}",
        f"loader.flow_per_second={draw(st.sampled_from(['true', 'false']))}",
        f"loader.flow_frames={draw(st.integers(1, 5))}",
        f"loader.flow_join={draw(st.sampled_from(['sum', 'stack']))}",
        f"loader.audio_steps={draw(st.integers(1, 90))}", "loader.threads=1",
    ])  # fmt: skip
    arrays = arrays_of_a_recording(draw, config)
    begins = draw(st.lists(st.floats(-0.5, 2.0), min_size=1, max_size=5))
    intervals = [(b, b + draw(st.floats(0.01, 3.0))) for b in begins]
    levels = None
    if config.loader.normalise == "speaker" and "logmel" in arrays:
        levels = {"logmel": band_levels([arrays["logmel"]["logmel"]])}
    empty = {name: get_stage(name).empty(config) for name in ("faces", "flow", "logmel")}
    loader = replace(config.loader, batch=len(intervals), residency="stream")
    features = recording({**empty, **arrays}, intervals, ("a", "b"))
    rows = np.arange(len(intervals))
    unused = {"logmel": (np.zeros(5), np.ones(5))}
    given_levels = levels if levels or config.loader.normalise != "speaker" else unused
    batch = next(make_loader(
        features, rows, replace(config, loader=loader), torch.device("cpu"), training=False,
        levels=given_levels,
    ).epoch(0))  # fmt: skip
    scorer = OnnxScorer.__new__(OnnxScorer)  # without a session
    scorer.config, scorer.inputs, scorer.numbers = config, describe_inputs(config), PREPARATION
    found = scorer.prepare(arrays, intervals, levels)
    masks = {"frames": "video_mask", "video_time": "video_mask", "flow": "flow_mask",
             "logmel": "audio_mask", "audio_time": "audio_mask"}  # fmt: skip
    for name, values in found.items():
        wanted = getattr(batch, name).numpy()
        assert values.shape == wanted.shape and values.dtype == wanted.dtype, name
        if name in masks:
            valid = getattr(batch, masks[name]).numpy()
            values, wanted = values[valid], wanted[valid]
        assert np.abs(values.astype(float) - wanted).max(initial=0) <= SAME, name
