"""The commands work with a peer as they do with DE-III."""

from __future__ import annotations

import numpy as np
import pytest

from deiii import load
from deiii.__main__ import main
from deiii.model.evaluation.predictions import read_predictions
from deiii.model.prediction.export import export
from deiii.model.training.trained import load_network


@pytest.mark.slow
def test_a_peer_is_trained_scored_compared_exported_and_used(seen_run, tmp_path):
    run = tmp_path / "run"
    words = [str(seen_run / "run/config.yaml"), f"train.run={run}", "model.name=attention", "--quiet"]
    assert main(["train", *words]) == 0
    assert main(["evaluate", str(run)]) == 0
    assert type(load_network(run).network).__name__ == "TwoStreamAttention"
    assert "<h1>Two-stream attention on table" in (run / "report.html").read_text()
    compared = ["compare", str(seen_run / "run"), str(run), "--out", str(tmp_path / "compare")]
    assert main(compared) == 0
    exported = export(run, tmp_path / "exported", program=False)
    assert "# Two-stream attention on table" in (exported / "README.md").read_text()
    table = read_predictions(run / "predictions.csv")
    clip = seen_run / "raw" / f"{table.clips[0].removesuffix('.mp4')}.mp4"
    for source in (run, exported):
        found = load(source, device="cpu").predict(clip)
        np.testing.assert_allclose(list(found.probabilities.values()), table.probabilities[0], atol=2e-3)
