"""Batches of frozen encoders on the fake GPU: waits, copies and allocations of the second batch and later."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torchvision import models

from deiii.data.config.schema import AppearanceConfig, SpeechConfig
from deiii.pipeline.encoders.load import load_encoder
from tests.gpu.fake_gpu import recorded
from tests.pipeline.encoders.test_transformers import network

SAMPLES = 32_000  # of a window of 2 s


def main() -> None:
    found: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        weights = Path(folder, "mobilenet.pth")
        torch.save(models.get_model("mobilenet_v3_large", weights=None).state_dict(), weights)
        crops = {"device": "cuda", "precision": "float16"}
        settings: dict[str, Any] = {
            "mobilenet": AppearanceConfig(encoder="mobilenet_v3_large", weights=str(weights), **crops)
        }
        for kind in ("WavLM", "Whisper", "Dinov2"):
            made, prepare = network(kind)
            path = str(Path(folder, kind))
            made.save_pretrained(path)
            prepare.save_pretrained(path)
            of_faces = kind == "Dinov2"
            settings[kind] = (
                AppearanceConfig(encoder=path, **crops)
                if of_faces
                else SpeechConfig(encoder=path, device="cuda")
            )
        for name, config in settings.items():
            encoder = load_encoder(config)
            shape = (8, 112, 112, 3) if isinstance(config, AppearanceConfig) else (4, SAMPLES)
            batch = np.zeros(shape, np.uint8 if len(shape) == 4 else np.float32)
            for _ in range(2):  # allocates
                encoder.network(batch)
            with recorded() as log:
                for _ in range(3):
                    encoder.network(batch)
            found[name] = {
                "waits": log.syncs,
                "copies": [call.name for call in log.of("copy")],
                "allocations": [call.name for call in log.of("malloc", "hostalloc")],
            }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
