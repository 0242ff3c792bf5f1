"""Evaluation, prediction and export of one network agree to 1e-4, for every preset and normalisation.

Three ways lead from a clip to probabilities: `deiii evaluate` (caches, loader), `deiii predict` (the file
itself) and the exported program, whose inputs are made here from the stored features by what the manifest
says of each, without the loader. The weights are random: agreement does not depend on training. `PROGRAMS`
lists the exported forms.
"""

from __future__ import annotations

import csv
import importlib.util
import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from deiii import load
from deiii.__main__ import main
from deiii.data.cache.flow_codec import decode_flow
from deiii.data.config.load import load_config, load_stored
from deiii.data.corpora.splits import make_split
from deiii.data.loader.augment import MEAN, STD
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.sampling import audio_window, video_steps
from deiii.model.evaluation.evaluate import evaluate
from deiii.model.network.heads import Head
from deiii.model.network.task import Task
from deiii.model.prediction.export import export
from deiii.model.provenance import provenance
from deiii.model.training import checkpoint
from deiii.model.training.run_folder import RunFolder
from deiii.model.training.start.data import clip_seconds
from deiii.model.training.start.fit import fit_encoders

SAME = 1e-4
WITH_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript"))
ALL_FORMS = ["torch.export", "onnx"] if WITH_ONNX else ["torch.export"]
PRESETS = ("tiny", "ablation", "base", "large", "ravdess_audio")
# Crops and bands as the shared corpus stores them; the rest is the preset's.
FIT = (
    "faces.size=64",
    "loader.crop=56",
    "logmel.n_mels=80",
    "logmel.trim_db=0",
    "stages=[faces,flow,logmel]",
)
GRIDS = dict.fromkeys(("base", "large"), ("model.grid=2",))  # crops of 56 px give two rows of features
CASES = [
    pytest.param(
        preset,
        how,
        ALL_FORMS,
        marks=pytest.mark.slow,
        id=f"{preset}-{how}",
    )
    for preset in PRESETS
    for how in ("none", "clip", "speaker")
    if how == "none" or preset in ("tiny", "ravdess_audio")
]
# Writing an ONNX file takes longest; test_runtime.py compares that of another network with PyTorch.
CASES += [pytest.param("tiny", "none", ["torch.export"], id="tiny-none-without-onnx")]


def untrained_run(
    folder: Path, seen_run: Path, preset: str, how: str, *more: str, head: float = 20
) -> RunFolder:
    """A run folder as training leaves it, with random weights whose outputs differ from clip to clip.

    ``more`` are further settings, such as another cache. ``head`` is a factor on the head's weights.
    """
    base = load_stored(seen_run / "run/config.yaml")
    words = [
        f"configs/{preset}.yaml", "corpus.name=table", f"corpus.root={base.corpus.root}",
        "corpus.table=clips.csv", f"cache={base.cache}", f"train.run={folder}", "train.device=cpu",
        "split.protocol=speakers", "split.val_share=0.2", f"loader.normalise={how}", "train.epochs=1", *FIT,
        *GRIDS.get(preset, ()), *more,
    ]  # fmt: skip
    config = load_config(words[:1], words[1:])
    features = FeatureSet.open(config)
    task, split = Task.of(features, config), make_split(features.corpus, config.split)
    run = RunFolder(folder)
    rows = features.rows(split.train)
    info = {
        "keys": dict(features.keys), "split": split.digest, "corpus": features.corpus.name,
        "classes": list(task.classes), "attributes": list(task.attributes),
        "ranges": [list(r) for r in task.ranges], "clips": {}, "seconds": clip_seconds(features, rows),
    }  # fmt: skip
    run.create(config, {**info, **provenance()}, resume=False)
    split.save(run.split)
    torch.manual_seed(1)
    network = task.network(config)
    fit_encoders(network, features, rows, config)
    with torch.no_grad():  # random heads say nearly the same of every clip; these differ
        for module in network.modules():
            if isinstance(module, Head) and module.classes is not None:
                module.classes.weight.mul_(head)
    checkpoint.save(run.best, network.state_dict(), {"epoch": 0})
    row = {"epoch": 0, "train_loss": 1.0, "val_loss": 1.0, "val_uar": 0.5, "val_monitor": 0.5, "seconds": 1.0}
    run.write_history([row])
    return run


def evaluated(run: RunFolder) -> dict[str, tuple[str, np.ndarray]]:
    """Speaker and probabilities of each test clip by id, from the file that evaluation writes."""
    evaluate(run.path)
    with open(run.predictions, newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        r["clip"]: (r["speaker"], np.array([float(v) for k, v in r.items() if k.startswith("p_")]))
        for r in rows
    }


def inputs_by_manifest(manifest: dict, features: FeatureSet, row: int) -> dict[str, torch.Tensor]:
    """What the exported program takes for one clip, made by hand from the stored features."""
    settings, shapes = manifest["settings"], {n: i["shape"] for n, i in manifest["inputs"].items()}
    arrays, made = features.arrays(row), {}
    covered = None
    if "video_time" in shapes:
        faces, steps, size = arrays["faces"], shapes["video_time"][1], settings["loader"]["crop"]
        n = len(faces["time"])
        at, mask = video_steps(
            np.array([n]), steps, settings["loader"]["stride"], settings["loader"]["sampling"]
        )
        at, mask = at[0], mask[0]
        corner = (faces["frames"].shape[1] - size) // 2
        window = (slice(None), slice(corner, corner + size), slice(corner, corner + size))
        rgb = (faces["frames"][at][window] / 255.0 - MEAN) / STD
        made["frames"] = rgb.transpose(0, 3, 1, 2)
        made["video_time"] = np.where(mask, faces["time"][at], 0)
        made["video_mask"] = mask & faces["valid"][at]
        covered = faces["time"][at][mask]
        if "flow" in shapes:
            step = np.append(np.diff(faces["time"]), np.diff(faces["time"])[-1])[at]
            px = decode_flow({name: np.asarray(a)[at] for name, a in arrays["flow"].items()})[window]
            assert "times 0.04 s over the time" in manifest["inputs"]["flow"]["meaning"]
            made["flow"] = px.transpose(0, 3, 1, 2) * (0.04 / step)[:, None, None, None]
            made["flow_mask"] = made["video_mask"] & arrays["flow"]["valid"][at]
        else:
            made["flow_mask"] = np.zeros(steps, bool)
    if "logmel" in shapes:
        db, time = arrays["logmel"]["logmel"].astype(np.float64), arrays["logmel"]["time"]
        hops = shapes["logmel"][1]
        middle = (time[0] + time[-1]) / 2
        begin, end = (middle, middle) if covered is None else (covered[0], covered[-1])
        period = (time[-1] - time[0]) / (len(time) - 1)
        place = (np.array([x]) for x in (len(time), time[0], period, begin, end))
        start, count = (int(x[0]) for x in audio_window(*place, hops))
        meaning, offset, scale = manifest["inputs"]["logmel"]["meaning"], -40.0, 20.0
        if "over the clip's hops" in meaning:
            offset = db.mean(axis=0)
        elif "of the speaker's clips" in meaning:
            speaker = features.clips[row].speaker
            same = [r for r, clip in enumerate(features.clips) if clip.speaker == speaker]
            every = np.concatenate([features.arrays(r)["logmel"]["logmel"].astype(np.float64) for r in same])
            offset, scale = every.mean(axis=0), np.maximum(1.0, every.std(axis=0))
        values = np.zeros((hops, db.shape[1]))
        values[:count] = ((db - offset) / scale)[start : start + count]
        made["logmel"], made["audio_time"] = values, np.zeros(hops)
        made["audio_time"][:count] = time[start : start + count]
        made["audio_mask"] = np.arange(hops) < count
    return {
        name: torch.from_numpy(np.ascontiguousarray(made[name]))[None].to(getattr(torch, about["dtype"]))
        for name, about in manifest["inputs"].items()
    }


@lru_cache(maxsize=1)
def exported_program(path: Path) -> torch.nn.Module:
    """The `torch.export` program of a network; loading it takes longer than running it."""
    return torch.export.load(path).module()


def run_exported_program(folder: Path, inputs: dict[str, torch.Tensor]) -> np.ndarray:
    """Probabilities of the `torch.export` program."""
    with torch.no_grad():
        found = exported_program(folder / "deiii.pt2")(inputs)
    return found["fused_probabilities"][0].numpy()


def run_onnx(folder: Path, inputs: dict[str, torch.Tensor]) -> np.ndarray:
    """Probabilities of the ONNX program."""
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return session.run(["fused_probabilities"], {name: x.numpy() for name, x in inputs.items()})[0][0]


PROGRAMS = {
    "torch.export": run_exported_program,
    "onnx": run_onnx,
}  # by name, from folder and inputs to probabilities [C]


@pytest.mark.parametrize(("preset", "how", "forms"), CASES)
def test_evaluation_prediction_and_export_agree(seen_run, tmp_path, preset, how, forms):
    run = untrained_run(tmp_path / "run", seen_run, preset, how)
    wanted = evaluated(run)
    config = load_stored(run.config)
    features = FeatureSet.open(config)
    folder = export(run.path, tmp_path / "exported", onnx="onnx" in forms)
    manifest = json.loads((folder / "deiii.json").read_text())
    assert len(wanted) >= 1
    by_speaker: dict[str, list[str]] = {}
    for clip in features.clips:
        by_speaker.setdefault(clip.speaker, []).append(str(seen_run / "raw" / clip.path))
    backends = [(run.path, "torch"), (folder, "torch"), *([(folder, "onnx")] if "onnx" in forms else [])]
    for source, backend in backends:
        network = load(source, device="cpu", backend=backend)
        for row, clip in enumerate(features.clips):
            if clip.id in wanted:
                speaker, probabilities = wanted[clip.id]
                levels = network.speaker_levels(by_speaker[speaker])
                found = network.predict(seen_run / "raw" / clip.path, levels=levels)
                assert not any("differs" in note or "not the one" in note for note in found.notes)
                assert list(found.probabilities.values()) == pytest.approx(probabilities, abs=SAME)
                inputs = inputs_by_manifest(manifest, features, row)
                for name in forms:
                    found = PROGRAMS[name](folder, inputs)
                    assert found == pytest.approx(probabilities, abs=SAME), name


def test_a_file_alone_of_a_network_that_normalises_by_speaker_has_a_note(seen_run, tmp_path, capsys):
    run = untrained_run(tmp_path / "run", seen_run, "ravdess_audio", "speaker")
    media, out = [str(p) for p in sorted((seen_run / "raw").glob("*.mp4"))[:2]], str(tmp_path / "out")
    assert main(["predict", str(run.path), *media, "--out", out]) == 0
    assert "in evaluation by all clips of the speaker" in capsys.readouterr().out
    assert main(["predict", str(run.path), *media, "--out", out, "--same-speaker"]) == 0
    assert "in evaluation by all" not in capsys.readouterr().out
    together = load(run.path, device="cpu")
    levels = together.speaker_levels(media)
    alone, both = (together.predict(media[0], levels=x) for x in (None, levels))
    assert alone.probabilities != pytest.approx(both.probabilities, abs=SAME)


def test_settings_of_stages_are_those_of_the_training(seen_run, tmp_path, capsys):
    run, clip = str(seen_run / "run"), str(seen_run / "raw/c0.mp4")
    out = ["--out", str(tmp_path / "out")]
    for word, reason in (
        ("faces.margin=0.5", "--change-preprocessing"),
        ("logmel.fmax=4000", "--change-preprocessing"),
        ("flow.method=tvl1", "--change-preprocessing"),
        ("model.width=64", "belongs to the trained network"),
        ("loader.normalise=clip", "belongs to the trained network"),
        ("train.lr=0.1", "no effect on predictions"),
    ):
        assert main(["predict", run, clip, word, *out]) == 1
        said = capsys.readouterr().err
        assert reason in said and word.split("=")[0] in said
    assert main(["predict", run, clip, "faces.margin=0.5", "--change-preprocessing", *out]) == 0
    assert "preprocessing differs from training: faces.margin" in capsys.readouterr().out
    assert main(["predict", run, clip, "faces.decoder=cpu", *out]) == 0
    said = capsys.readouterr()
    assert "differs from training" not in said.out and "no effect" not in said.err


def test_settings_that_a_prediction_does_not_read_are_named(seen_run, tmp_path, capsys):
    run, clip = str(seen_run / "run"), str(seen_run / "raw/c0.mp4")
    words = {  # the network was trained with faces.detector=haar and flow.method=dis
        "faces.min_score=0.9": "it is for faces.detector=yunet",
        "flow.device=cpu": "it is for flow.method=raft",
        "workers=1": "predictions read the settings of faces, flow and logmel",
        "cache=elsewhere": "predictions read the settings of faces, flow and logmel",
    }
    assert main(["predict", run, clip, *words, "--out", str(tmp_path / "out"), "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.err.splitlines() == [f"note: {word} has no effect here; {why}" for word, why in words.items()]
    assert "differs from training" not in said.out


def test_a_stage_of_another_version_has_a_note(seen_run, tmp_path, monkeypatch):
    info = json.loads((seen_run / "run/run.json").read_text())
    run = RunFolder(tmp_path)
    for name in ("config.yaml", "best.safetensors"):
        (tmp_path / name).write_bytes((seen_run / "run" / name).read_bytes())
    info["keys"]["logmel"] = "0123456789ab"
    run.info.write_text(json.dumps(info))
    found = load(tmp_path, device="cpu").predict(seen_run / "raw/c0.mp4")
    assert sum("not the one of the training" in note for note in found.notes) == 1
    assert any("logmel" in note and "0123456789ab" in note for note in found.notes)
