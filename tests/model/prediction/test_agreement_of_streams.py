"""Evaluation, prediction and export agree to 1e-4 for every network and for streams of frozen encoders too.

As `tests.model.prediction.test_agreement`, which has the presets: evaluation reads caches, prediction the
files. The encoders are small ONNX files, so that no weights are needed.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deiii import load
from deiii.data.cache.stages import get_stage, network_stages
from deiii.data.config.load import load_config, load_stored
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.recording import recording
from deiii.data.loader.stage_arrays import levels_of
from deiii.model.prediction.export import PREPARATION, describe_inputs, export
from deiii.model.prediction.manifest import read_manifest
from deiii.model.prediction.settings import stages_by_speaker
from deiii.model.prediction.with_onnx import OnnxScorer
from deiii.model.training.loaders import make_loader
from tests.helpers.onnx_maker import image_file, speech_file
from tests.helpers.shared_worker import preprocess
from tests.model.peers.test_invariants import PEERS
from tests.model.prediction.test_agreement import SAME, evaluated, untrained_run
from tests.model.prediction.test_runtime import (
    COMMAND,
    PREDICT,
    arrays_of_a_recording,
    assert_same,
    in_process_without_torch,
    writes_onnx,
)

AUDIO_ONLY = ("model.video=false", "model.flow=false")
SPEECH_ONLY = ("model.audio=[speech]", *AUDIO_ONLY)
BOTH = ("model.extra=[speech,appearance]",)
CASES = {
    "separate": (*BOTH, "model.join=separate"),
    "conformer": (*BOTH, "model.join=conformer"),
    "fusion": (*BOTH, "model.join=fusion"),
    "pooled": (*BOTH, "model.join=pooled"),
    "pooled-standardised": (*BOTH, "model.join=pooled", "model.standardise=true"),
    "standardised": (*BOTH, "model.standardise=true"),
    "pooled-alone": (*SPEECH_ONLY, "model.join=pooled", "model.head=linear", "model.standardise=true"),
    "speech-alone": SPEECH_ONLY,
    "appearance-alone": ("model.video=[appearance]", "model.audio=false"),
    "two-speech": ("model.audio=[speech,speech2]", *AUDIO_ONLY),
    "within-logmel": (*SPEECH_ONLY, "model.within_logmel=true", "logmel.trim_db=20"),
    "more-hops": (*BOTH, "loader.audio_steps=40", "loader.eval_audio_steps=70"),
    **{name: (f"model.name={name}", *BOTH) for name in PEERS},
}
# What normalises by speaker with and without log-mel; the others go through the same code.
SHORT = {("pooled", "speaker"), ("speech-alone", "speaker")}


@pytest.fixture(scope="module")
def streams(seen_run, tmp_path_factory):
    """Settings of the seen clips with features of small encoders, three speakers with two clips each."""
    folder = tmp_path_factory.mktemp("streams")
    rng = np.random.default_rng(0)
    words = ["corpus.name=table", f"corpus.root={seen_run / 'raw'}", "corpus.table=pairs.csv"]
    rows = [f"c{i}.mp4,p{i % 3},{'ab'[i // 3]}\n" for i in range(6)]
    (seen_run / "raw/pairs.csv").write_text("path,speaker,label\n" + "".join(rows))
    for name, size in (("speech", 6), ("speech2", 4)):
        filters = rng.normal(size=(size, 1, 320)).astype(np.float32)
        words.append(f"{name}.encoder={speech_file(folder / f'{name}.onnx', filters)}")
    words += [f"appearance.encoder={image_file(folder / 'appearance.onnx', 48, True)}"]
    words += [f"cache={folder / 'cache'}", "faces.size=64"]
    stages = "stages=[faces,flow,logmel,speech,speech2,appearance]"
    for trim in ("logmel.trim_db=0", "logmel.trim_db=20"):
        assert preprocess("configs/tiny.yaml", *words, stages, trim) == 0
    return [*words, stages]


@pytest.mark.parametrize(
    ("case", "how"),
    [
        pytest.param(case, how, marks=() if (case, how) in SHORT else pytest.mark.slow)
        for case in CASES
        for how in ("none", "clip", "speaker")
        if how != "clip" or case == "separate"
    ],
)
def test_evaluation_prediction_and_export_agree(seen_run, streams, tmp_path, case, how):
    # Pooled statistics, standardised by few clips, are large; a larger head would be certain of a class.
    head = 1 if {"model.join=pooled", "model.standardise=true"} <= {*CASES[case]} else 20
    run = untrained_run(tmp_path / "run", seen_run, "tiny", how, *streams, *CASES[case], head=head)
    wanted = evaluated(run)
    features = FeatureSet.open(load_stored(run.config))
    files: dict[str, list[str]] = {}
    for clip in features.clips:
        files.setdefault(clip.speaker, []).append(str(seen_run / "raw" / clip.path))
    folder = export(run.path, tmp_path / "exported")
    assert len(wanted) == 2 and all(len(paths) == 2 for paths in files.values())
    for source in (run.path, folder):
        network = load(source, device="cpu")
        for clip_id, (speaker, probabilities) in wanted.items():
            levels = network.speaker_levels(files[speaker])
            path = next(path for path in files[speaker] if path.endswith(f"{clip_id}.mp4"))
            found = network.predict(path, levels=levels)
            assert not any("differs" in note or "not the one" in note for note in found.notes)
            assert list(found.probabilities.values()) == pytest.approx(probabilities, abs=SAME)
            if how == "speaker":
                alone = network.predict(path)
                assert any("in evaluation by all clips of the speaker" in note for note in alone.notes)
                assert alone.probabilities != pytest.approx(found.probabilities, abs=SAME)
    first, second = wanted.values()
    assert first[1] != pytest.approx(second[1], abs=3 * SAME)


def test_the_manifest_says_how_features_are_normalised(seen_run, streams, tmp_path):
    """What the manifest says of the rows, done by hand, gives what the loader gives."""
    run = untrained_run(tmp_path / "run", seen_run, "tiny", "speaker", *streams, *SPEECH_ONLY)
    _, manifest = read_manifest(export(run.path, tmp_path / "exported", program=False))
    meaning = manifest["inputs"]["speech_values"]["meaning"]
    assert "minus the mean of each feature over all rows of the speaker's clips" in meaning
    features = FeatureSet.open(load_stored(run.config))
    paths = [seen_run / "raw" / clip.path for clip in features.clips if clip.speaker == "p0"]
    mean, deviation = load(run.path, device="cpu").speaker_levels(paths)["speech"]
    rows = [features.arrays(i)["speech"][get_stage("speech").large]
            for i, clip in enumerate(features.clips) if clip.speaker == "p0"]  # fmt: skip
    every = np.concatenate(rows).astype(np.float64)
    assert mean == pytest.approx(every.mean(axis=0), abs=1e-6)
    assert deviation == pytest.approx(np.maximum(1e-3, every.std(axis=0)), abs=1e-6)
    assert json.dumps(manifest)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Settings of small encoders."""
    folder = tmp_path_factory.mktemp("encoders")
    filters = np.ones((3, 1, 320), np.float32)
    return [
        *(
            f"{name}.encoder={speech_file(folder / f'{name}.onnx', filters)}"
            for name in ("speech", "speech2")
        ),
        f"appearance.encoder={image_file(folder / 'appearance.onnx', 48, True)}",
    ]


def encoded(draw, config, found: dict[str, dict[str, np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
    """Return what encoders might have computed of a recording; each may have found nothing."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    arrays = {}
    for name in config.model.extra:
        shape = describe_inputs(config)[f"{name}_values"]["shape"][2:]
        time = found.get("faces", {"time": np.zeros(0)})["time"]
        if name != "appearance":
            time = draw(st.sampled_from([0.0125, 0.4])) + np.arange(draw(st.integers(0, 60))) / 25
        if len(time) and draw(st.booleans()):
            states = rng.normal(size=(len(time), *shape)).astype(np.float16)
            valid = {"valid": rng.random(len(time)) > 0.2} if name == "appearance" else {}
            arrays[name] = {"states": states, "time": time, **valid}
    return arrays


@settings(deadline=None, max_examples=80, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_inputs_without_pytorch_equal_those_of_the_loader(encoders, data):
    """As the test of this in `test_runtime`, for networks that read frozen encoders."""
    draw = data.draw
    extra = draw(st.lists(st.sampled_from(["speech", "speech2", "appearance"]), min_size=1, unique=True))
    switches = [
        f"model.{key}={draw(st.sampled_from(['true', 'false']))}" for key in ("video", "flow", "audio")
    ]
    config = load_config(overrides=[
        *encoders, "faces.size=20", "loader.crop=16", "logmel.n_mels=5", f"model.extra={extra}", *switches,
        "stages=[faces,flow,logmel,speech,speech2,appearance]", "loader.threads=1", "loader.audio_steps=90",
        f"loader.steps={draw(st.integers(1, 6))}", f"loader.stride={draw(st.integers(1, 3))}",
        f"loader.normalise={draw(st.sampled_from(['none', 'speaker']))}",
        f"loader.eval_audio_steps={draw(st.integers(1, 200))}",
        f"model.within_logmel={draw(st.booleans()) and extra != ['appearance']}",
    ])  # fmt: skip
    found = arrays_of_a_recording(draw, config)
    stages = network_stages(config.model)
    arrays = {name: fields for name, fields in found.items() if name in stages} | encoded(draw, config, found)
    begins = draw(st.lists(st.floats(-0.5, 2.0), min_size=1, max_size=5))
    intervals = [(b, b + draw(st.floats(0.01, 3.0))) for b in begins]
    levels = levels_of(stages_by_speaker(config), [arrays])
    features = recording(
        {**{name: get_stage(name).empty(config) for name in stages}, **arrays}, intervals, ("a", "b")
    )
    rows = np.arange(len(intervals))
    loader = replace(config.loader, batch=len(rows), residency="stream")
    batches = make_loader(
        features, rows, replace(config, loader=loader), torch.device("cpu"), training=False,
        levels={"logmel": (np.zeros(5), np.ones(5)), **levels},
    )  # fmt: skip
    batch = next(batches.epoch(0)).extra
    scorer = OnnxScorer.__new__(OnnxScorer)  # without a session
    scorer.config, scorer.inputs, scorer.numbers = config, describe_inputs(config), PREPARATION
    made = scorer.prepare(arrays, intervals, {"logmel": (np.zeros(5), np.ones(5)), **levels})
    for name in extra:
        mask = batch[name].mask.numpy()
        assert np.array_equal(made[f"{name}_mask"], mask)
        for key in ("values", "time"):
            wanted = getattr(batch[name], key).numpy()
            assert made[f"{name}_{key}"].shape == wanted.shape
            assert made[f"{name}_{key}"][mask] == pytest.approx(wanted[mask], abs=1e-6)


@writes_onnx
def test_encoders_in_onnx_need_no_pytorch(seen_run, streams, tmp_path):
    """Networks that read frozen encoders were refused without PyTorch, although these encoders need none."""
    more = ("model.video=[appearance]", "model.audio=[speech]", "loader.normalise=speaker")
    run = untrained_run(tmp_path / "run", seen_run, "tiny", "speaker", *streams, *more)
    folder = export(run.path, tmp_path / "exported", program=False, onnx=True)
    clip = seen_run / "raw/c3.mp4"
    wanted = load(run.path, device="cpu").predict(clip).tree()
    done = in_process_without_torch(PREDICT, folder, clip)
    assert done.returncode == 0, done.stderr
    assert_same(json.loads(done.stdout.splitlines()[-1]), wanted)
    assert {"appearance", "speech"} <= wanted["contributions"][wanted["label"]].keys()


@writes_onnx
@pytest.mark.parametrize("encoder", ["resemblyzer", "user/name", "wavlm"])
def test_encoders_in_pytorch_are_named_without_it(seen_run, streams, tmp_path, encoder):
    run = untrained_run(tmp_path / "run", seen_run, "tiny", "none", *streams, *SPEECH_ONLY)
    folder = shutil.copytree(export(run.path, tmp_path / "a", program=False, onnx=True), tmp_path / "b")
    tree = json.loads((folder / "deiii.json").read_text())
    tree["settings"]["speech"]["encoder"] = encoder
    (folder / "deiii.json").write_text(json.dumps(tree))
    done = in_process_without_torch(COMMAND, folder, seen_run / "raw/c0.mp4", "--out", tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"speech.encoder={encoder}, which need PyTorch" in done.stderr, done.stderr
