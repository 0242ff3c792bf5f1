"""The appearance stage: rows of the faces, batches over clips, encoders against their files run directly."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from deiii.data.cache.outcomes import Status
from deiii.data.config.load import load_config
from deiii.data.tools.weights import WeightsError
from deiii.pipeline.appearance.stage import encode_crops
from deiii.pipeline.encoders.load import load_encoder
from tests.helpers.own_settings import own_settings

RNG = np.random.default_rng(0)


def loaded(*words: str):
    config = load_config(overrides=["stages=[appearance]", *words]).appearance
    return config, load_encoder(config)


def clip(n: int, invalid=(), size: int = 64):
    valid = np.ones(n, bool)
    valid[list(invalid)] = False
    frames = RNG.integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    frames[~valid] = 0
    return {"frames": frames, "valid": valid, "time": np.arange(n) / 25}


@pytest.fixture
def weights(test_data, monkeypatch):
    monkeypatch.setenv("DEIII_WEIGHTS_DIR", str(test_data / "weights"))


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_rows_are_those_of_the_faces_whatever_the_batch(weights, batch):
    config, encoder = loaded("appearance.encoder=fer-emotion", f"appearance.batch={batch}")
    clips = [clip(5), clip(4, invalid=[1, 2]), clip(2, size=96), clip(1, invalid=[0])]
    results = list(encode_crops(iter(clips), config, encoder))
    assert [r.outcome.status for r in results] == [Status.OK, Status.OK_PARTIAL, Status.OK, Status.OK_PARTIAL]
    assert results[1].outcome.fraction == 0.5
    for given, result in zip(clips, results, strict=True):
        states, valid = result.arrays["states"], given["valid"]
        assert states.shape == (len(valid), 1, 7) and states.dtype == np.float16
        np.testing.assert_array_equal(result.arrays["valid"], valid)
        np.testing.assert_array_equal(result.arrays["time"], given["time"])
        assert not states[~valid].any()
        alone = np.concatenate([encoder.network(f[None]) for f in given["frames"][valid]] or [states[:0]])
        np.testing.assert_allclose(states[valid], alone, rtol=1e-3, atol=5e-3)


def test_face_encoders_are_their_files_run_directly(weights, test_data):
    import onnxruntime

    crops = RNG.integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    direct = onnxruntime.InferenceSession(str(test_data / "weights/faceres_deep.onnx"))
    expected = direct.run(["embedding"], {"images": crops.astype(np.float32)})[0]
    np.testing.assert_allclose(
        loaded("appearance.encoder=faceres-deep")[1].network(crops)[:, 0], expected, atol=1e-3
    )
    small = RNG.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    grey = np.stack([cv2.cvtColor(c, cv2.COLOR_RGB2GRAY) for c in small]).astype(np.float32)[..., None]
    direct = onnxruntime.InferenceSession(str(test_data / "weights/fer_emotion.onnx"))
    probabilities = direct.run(["probabilities"], {"images": grey / 127.5 - 1})[0]
    scores = loaded("appearance.encoder=fer-emotion")[1].network(small)[:, 0]
    np.testing.assert_allclose(
        np.exp(scores) / np.exp(scores).sum(1, keepdims=True), probabilities, atol=1e-4
    )


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v3_large", pytest.param("convnext_tiny", marks=pytest.mark.slow)]
)
def test_networks_of_torchvision_are_cut_before_their_classifier(tmp_path, name):
    """The network's own classifier on the features gives the scores of the whole network."""
    from torchvision import models

    torch.manual_seed(0)
    whole = models.get_model(name, weights=None).eval()
    path = tmp_path / "weights.pth"
    torch.save(whole.state_dict(), path)
    encoder = loaded(f"appearance.encoder={name}", f"appearance.weights={path}")[1]
    crops = RNG.integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    features = torch.from_numpy(encoder.network(crops)[:, 0])
    assert features.shape == (2, encoder.choice.encoder.width)
    with own_settings():
        np.testing.assert_array_equal(encoder.network(crops)[:, 0], features)
    pixels = (crops / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with torch.no_grad():
        expected = whole(torch.from_numpy(pixels).permute(0, 3, 1, 2).float())
        head = whole.fc if hasattr(whole, "fc") else whole.classifier
        found = head(features[..., None, None] if name.startswith("convnext") else features)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    count = sum(p.numel() for p in whole.parameters()) - sum(p.numel() for p in head.parameters())
    assert encoder.choice.encoder.parameters == count
    with pytest.raises(WeightsError, match="does not hold torchvision's"):
        loaded("appearance.encoder=resnet50", f"appearance.weights={path}")


def test_crops_of_another_size_are_the_picture_at_the_networks_size(weights):
    """A smooth picture at two sizes has nearly the same features."""
    encoder = loaded("appearance.encoder=faceres-deep")[1]
    coarse = cv2.resize(
        RNG.integers(0, 256, (6, 6, 3), dtype=np.uint8), (448, 448), interpolation=cv2.INTER_CUBIC
    )
    small = cv2.resize(coarse, (112, 112), interpolation=cv2.INTER_AREA)
    a, b = encoder.network(coarse[None])[0, 0], encoder.network(small[None])[0, 0]
    assert np.corrcoef(a, b)[0, 1] > 0.99


def test_rows_that_float16_cannot_hold_are_not_valid(weights):
    config, encoder = loaded("appearance.encoder=fer-emotion", "appearance.batch=2")
    network = encoder.network

    def huge(frames):
        values = network(frames)
        values[0, 0, 3] = 7e4
        return values

    one, two = encode_crops(iter([clip(3, invalid=[1]), clip(2)]), config, replace(encoder, network=huge))
    assert one.arrays["valid"].tolist() == [False, False, True] and np.isfinite(one.arrays["states"]).all()
    assert two.arrays["valid"].tolist() == [False, True]
    assert one.outcome.status is Status.OK_PARTIAL
    assert one.outcome.reason.startswith("no face in 1 of 3 frames; in 1 the encoder's output is not finite")
