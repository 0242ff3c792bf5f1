"""Continuous labels end to end, on a small corpus in MSP-IMPROV's layout whose audio depends on them."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from deiii.__main__ import main
from deiii.model.metrics import ccc
from tests.helpers.clips import write_audio
from tests.helpers.shared_worker import preprocess

LETTERS = "AHNSOX"


def rating(clip_id: str, letter: str, arousal: float, valence: float | None) -> str:
    """Return a line of the evaluation file, with activation from active to passive and without dominance."""
    parts = [f"UTD-IMPROV-{clip_id}.avi; {letter}", f"A:{6 - arousal:.6f}"]
    parts += [f"V:{'NaN' if valence is None else format(valence, '.6f')}", "D:NaN "]
    return "; ".join(parts) + ";\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Six sessions of two actors: pitch follows arousal, valence is its opposite, a third has no valence."""
    folder, rng = tmp_path_factory.mktemp("improv"), np.random.default_rng(0)
    lines, truth = [], {}
    for session in range(1, 7):
        for actor in (f"F{session:02d}", f"M{session:02d}"):
            for n in range(8):
                clip_id = f"S{n + 1:02d}A-{actor}-P-FM{n + 1:02d}"
                arousal = float(rng.uniform(1, 5))
                valence = 6 - arousal if n % 3 else None
                truth[clip_id] = (arousal, valence)
                lines.append(rating(clip_id, LETTERS[(n + session) % 6], arousal, valence))
                path = folder / f"raw/session{session}/S{n + 1:02d}A/P/MSP-IMPROV-{clip_id}.wav"
                write_audio(path.with_suffix(".flac"), 0.3, 200 * 2 ** (arousal - 1))
    (folder / "raw/Evalution.txt").write_text("".join(lines))
    words = [
        "configs/tiny.yaml",
        "corpus.name=msp_improv",
        f"corpus.root={folder / 'raw'}",
        "stages=[logmel]",
    ]
    words += [f"cache={folder / 'cache'}", "model.video=false", "model.flow=false"]
    words += ["model.attributes=[arousal,valence,dominance]", "model.width=32", "loader.audio_steps=32"]
    words += [f"train.run={folder / 'run'}", "train.device=cpu", "train.epochs=15", "train.lr=3e-3"]
    assert preprocess(*words) == 0
    assert main(["train", *words, "--quiet"]) == 0
    assert main(["evaluate", str(folder / "run")]) == 0
    return folder / "run", truth


def predictions(run):
    with open(run / "predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_attributes_are_learnt_and_stay_within_the_range_of_the_corpus(trained):
    run, truth = trained
    metrics = json.loads((run / "metrics.json").read_text())["test"]
    rows = predictions(run)
    assert {r["speaker"] for r in rows} == {"F01", "M01"}  # a session that was not in training
    for i, name in enumerate(("arousal", "valence")):
        guess = np.array([float(r[f"{name}_predicted"]) for r in rows])
        known = np.array([np.nan if truth[r["clip"]][i] is None else truth[r["clip"]][i] for r in rows])
        assert guess.min() >= 1 and guess.max() <= 5
        assert metrics[f"ccc_{name}"] == pytest.approx(ccc(known, guess), abs=1e-3)
        assert metrics[f"ccc_{name}"] > 0.6, name


def test_an_unrated_attribute_is_neither_a_target_nor_scored(trained):
    run, truth = trained
    rows = predictions(run)
    assert json.loads((run / "metrics.json").read_text())["test"]["ccc_dominance"] is None
    assert all(r["dominance_truth"] == "" for r in rows)
    for r in rows:
        assert (r["valence_truth"] == "") == (truth[r["clip"]][1] is None)
        if r["valence_truth"]:
            assert float(r["valence_truth"]) == pytest.approx(truth[r["clip"]][1], abs=1e-3)
        assert float(r["arousal_truth"]) == pytest.approx(
            truth[r["clip"]][0], abs=1e-3
        )  # with the right sign


def test_clips_without_a_class_keep_their_attributes(trained):
    rows = predictions(trained[0])
    assert any(r["truth"] == "" for r in rows) and all(r["arousal_truth"] for r in rows)
