"""A stage whose packages or weights are missing does not start, so no clip is blamed."""

from __future__ import annotations

import sys

import pytest

from deiii.data.config.load import load_config
from deiii.data.tools.weights import WeightsError
from deiii.pipeline.stages.clip import check_models, load_models
from deiii.pipeline.stages.first_clips import MachineFault


@pytest.mark.parametrize("start", [load_models, check_models])
@pytest.mark.parametrize("module", ["librosa", "onnxruntime"])
def test_a_package_of_the_stage_or_of_its_encoder_is_missing(monkeypatch, module, start):
    """Before, one that only the encoder needs was reported as a defect of deiii."""
    config = load_config(overrides=["stages=[speech]", "speech.encoder=smart-turn"])
    monkeypatch.setitem(sys.modules, module, None)  # an import then fails
    if start is check_models and module == "onnxruntime":  # it does not load models
        return
    with pytest.raises(MachineFault, match=f"stage speech cannot start: .*{module}.*deiii doctor"):
        start("speech", config)


@pytest.mark.parametrize("start", [load_models, check_models])
def test_weights_that_are_missing(tmp_path, start):
    lost = tmp_path / "lost.onnx"
    config = load_config(overrides=["stages=[faces]", "faces.detector=yunet", f"faces.weights={lost}"])
    with pytest.raises(WeightsError, match="no such weights file: .*lost.onnx"):
        start("faces", config)


def test_a_detector_without_onnxruntime_does_not_blame_the_file(tmp_path, monkeypatch):
    weights = tmp_path / "yunet.onnx"
    weights.write_bytes(b"")
    config = load_config(overrides=["stages=[faces]", "faces.detector=yunet", f"faces.weights={weights}"])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MachineFault, match="stage faces cannot start: .*onnxruntime"):
        load_models("faces", config)
