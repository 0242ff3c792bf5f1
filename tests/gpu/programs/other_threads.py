"""Networks that one thread loads for the second of two cards, and another thread computes with."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np
import torch
from torchvision.models import get_model

from deiii.data.config.schema import AppearanceConfig, FlowConfig
from deiii.data.tools.devices import use_device
from deiii.model.network.gpu.available import gpu_kernels, image_kernels, masked_norm_kernels
from deiii.pipeline.encoders.load import load_encoder
from deiii.pipeline.flow.raft import engine
from deiii.pipeline.flow.raft.network import MODELS
from tests.gpu.fake_gpu import Log, recorded


def cards(log: Log) -> list[int]:
    """Return the numbers of the cards that computed something or hold memory."""
    return sorted({call.device for call in log.of("kernel", "lib", "malloc")})


def raft(device: str) -> engine.RaftBatches:
    """Load RAFT with random weights."""
    network = MODELS["raft_small"](weights=None).eval()
    with (
        mock.patch.object(engine, "load_network", lambda model, path: network),
        mock.patch.object(engine, "resolve", lambda given, default: ("", "")),
    ):
        return engine.load_raft(FlowConfig(method="raft", device=device))


def face_encoder(folder: Path) -> Any:
    """Load a network of torchvision with random weights."""
    name = "mobilenet_v3_large"
    torch.save(get_model(name, weights=None).state_dict(), folder / "weights.pth")
    config = AppearanceConfig(encoder=name, weights=str(folder / "weights.pth"), device="auto")
    return load_encoder(config).network


def main() -> None:
    with recorded() as log:
        raft("cuda:1")
        kernels = [
            load(torch.device("cuda", 1)) for load in (gpu_kernels, image_kernels, masked_norm_kernels)
        ]
    found: dict[str, Any] = {"loaded": cards(log), "triton": None not in kernels, "failed": []}
    use_device("cuda:1")
    frames, first = np.zeros((5, 128, 128, 3), np.uint8), np.arange(4)
    with TemporaryDirectory() as folder:
        batches, encoder = raft("auto"), face_encoder(Path(folder))
    works = {
        "flow": lambda: batches.submit(frames, first, False)(),
        "appearance": lambda: encoder(np.zeros((1, 64, 64, 3), np.uint8)),
    }

    def compute() -> None:
        for name, work in works.items():
            try:
                work()
            except RuntimeError as error:
                found["failed"].append(f"{name}: {error}")

    thread = threading.Thread(target=compute)
    with recorded() as log:
        thread.start()
        thread.join()
    print(json.dumps({**found, "computed": cards(log)}))


if __name__ == "__main__":
    main()
