"""The spread of the inputs: valid values of real clips alone count."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.input_spread import spread


def test_spread_is_that_of_valid_values():
    rng = np.random.default_rng(0)
    batches, kept = [], []
    for _ in range(2):
        flow, mask = rng.normal(3, 2, (3, 4, 2, 5, 5)), rng.random((3, 4)) < 0.6
        real = np.array([True, True, False])
        kept += [flow[i][mask[i]] for i in range(2) if mask[i].any()]
        nothing = torch.zeros(3, 4, dtype=torch.bool)
        batches.append(SimpleNamespace(
            frames=torch.zeros(3, 4, 3, 5, 5), video_mask=nothing, logmel=torch.zeros(3, 4, 6),
            audio_mask=nothing, flow=torch.from_numpy(flow), flow_mask=torch.from_numpy(mask),
            real=torch.from_numpy(real),
        ))  # fmt: skip
    found = spread(batches)
    assert list(found) == ["flow"]
    assert found["flow"]["sd"] == pytest.approx(np.std(np.concatenate([x.ravel() for x in kept])))
    assert found["flow"]["median_of_clips"] == pytest.approx(np.median([x.std() for x in kept]))
