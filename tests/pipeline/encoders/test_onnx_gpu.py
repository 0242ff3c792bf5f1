"""ONNX encoders on a GPU: what onnxruntime is asked for, and what happens where it does not start the GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deiii.data.config.load import load_config
from deiii.data.encoders import chosen, onnx_session
from deiii.data.tools.devices import DeviceError
from deiii.pipeline.encoders.load import CPU_BATCH, load_encoder
from tests.helpers.onnx_maker import speech_file

FILTERS = np.random.default_rng(0).normal(size=(6, 1, 320)).astype(np.float32)
SAMPLES = np.random.default_rng(1).normal(size=(1, 3200)).astype(np.float32)


class Session:
    """A session of onnxruntime on the CPU that says which providers it has started."""

    def __init__(self, session, started):
        self.session = session
        self.started = started

    def __getattr__(self, name):
        return getattr(self.session, name)

    def get_providers(self):
        return self.started


@pytest.fixture
def onnxruntime_gpu(monkeypatch):
    """An onnxruntime-gpu; a function says whether it starts the GPU, and returns what it is asked for."""
    asked = []
    usual = onnx_session.open_session
    started = ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def open_session(model, threads, providers=("CPUExecutionProvider",)):
        asked.append(list(providers))
        wants_gpu = len(asked[-1]) > 1
        return Session(usual(model, threads), started if wants_gpu else ["CPUExecutionProvider"])

    for module in (onnx_session, chosen):
        monkeypatch.setattr(module, "has_gpu", lambda: True)
    monkeypatch.setattr(onnx_session, "open_session", open_session)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)

    def starts(gpu: bool) -> list:
        if not gpu:
            started.remove("CUDAExecutionProvider")
        return asked

    return starts


def encoder(tmp_path, *words):
    path = speech_file(tmp_path / "a.onnx", FILTERS)
    words = [f"speech.encoder={path}", "speech.outputs=[rows]", *words]
    return load_encoder(load_config(overrides=["stages=[speech]", *words]).speech)


@pytest.mark.parametrize(("device", "number"), [("cuda:0", 0), ("cuda", 1), ("auto", 1)])
def test_float32_is_exact_and_the_card_is_the_configured_one(onnxruntime_gpu, tmp_path, device, number):
    asked = onnxruntime_gpu(True)
    encoder(tmp_path, f"speech.device={device}")
    wanted = ("CUDAExecutionProvider", {"device_id": number, "use_tf32": 0})
    assert [providers[0] for providers in asked if len(providers) > 1] == [wanted] * 2


def test_a_gpu_that_does_not_start_is_an_error(onnxruntime_gpu, tmp_path):
    onnxruntime_gpu(False)
    with pytest.raises(DeviceError, match="onnxruntime cannot start this GPU.*or use device=cpu"):
        encoder(tmp_path, "speech.device=cuda:1")


def test_auto_computes_on_the_cpu_where_the_gpu_does_not_start(onnxruntime_gpu, tmp_path):
    onnxruntime_gpu(False)
    with pytest.warns(RuntimeWarning, match="speech is computed on the CPU: .*cannot start this GPU"):
        found = encoder(tmp_path, "speech.device=auto")
    assert found.batch == CPU_BATCH["speech"]
    expected = np.einsum("brk,dk->brd", SAMPLES.reshape(1, 10, 320), FILTERS[:, 0])
    np.testing.assert_allclose(found.network(SAMPLES)[:, :, 0], expected, atol=1e-4)
