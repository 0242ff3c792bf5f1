"""Evaluation, prediction and export agree to 1e-4 for every network and for streams of frozen encoders too.

As `tests.model.prediction.test_agreement`, which has the presets: evaluation reads caches, prediction the
files. The encoders are small ONNX files, so that no weights are needed.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from deiii import load
from deiii.data.cache.stages import get_stage
from deiii.data.config.load import load_stored
from deiii.data.loader.feature_set import FeatureSet
from deiii.model.prediction.export import export
from deiii.model.prediction.manifest import read_manifest
from tests.helpers.onnx_maker import image_file, speech_file
from tests.helpers.shared_worker import preprocess
from tests.model.peers.test_invariants import PEERS
from tests.model.prediction.test_agreement import SAME, evaluated, untrained_run

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
