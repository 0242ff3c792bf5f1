"""Six real talking faces through the command with YuNet and RAFT; every frame and value is checked."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.models.optical_flow import raft_small

from deiii.__main__ import main
from deiii.data.cache.flow_codec import decode_flow
from deiii.data.cache.index import read_index

PAIRS = 4  # of each clip, spread over it


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def reference_flow(network, frames: np.ndarray, size: int = 128) -> np.ndarray:
    """torchvision's RAFT on stored crops, enlarged to the 128 px it wants, in px of the crop."""
    small = frames.shape[1]
    x = torch.from_numpy(np.array(frames)).permute(0, 3, 1, 2).float()
    x = F.interpolate(x, (size, size), mode="bilinear", align_corners=False) / 127.5 - 1
    with torch.inference_mode():
        flow = network(x[:1], x[1:], num_flow_updates=12)[-1]
    flow = F.interpolate(flow, (small, small), mode="bilinear", align_corners=False) * (small / size)
    return flow[0].permute(1, 2, 0).numpy()


def check_against_torchvision(cache: Path, weights: Path) -> float:
    """Mean EPE in px of stored flow against torchvision's own on the stored crops."""
    network = raft_small().eval()
    network.load_state_dict(torch.load(weights, weights_only=True), strict=True)
    faces, flows = only(cache, "faces-*"), only(cache, "flow-*")
    errors = []
    for face_record, flow_record in zip(read_index(faces).shards, read_index(flows).shards, strict=True):
        for row in face_record.clips:
            frames = face_record.open(faces).clip(row.id)["frames"]
            stored = decode_flow(flow_record.open(flows).clip(row.id))
            for i in np.linspace(0, len(frames) - 2, PAIRS).astype(int):
                expected = reference_flow(network, frames[i : i + 2])
                errors.append(np.linalg.norm(stored[i] - expected, axis=2).mean())
    return float(np.mean(errors))


@pytest.mark.slow
def test_six_real_clips(test_data, tmp_path):
    grid = test_data / "media/grid"
    with open(tmp_path / "clips.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "speaker", "label"])
        writer.writerows([p.name, p.stem, "neutral"] for p in sorted(grid.glob("*.mpg")))
    weights = test_data / "weights/raft_small_princeton.pth"
    yunet = test_data / "weights/face_detection_yunet_2023mar.onnx"
    status = main(
        ["preprocess", "configs/table.yaml", f"corpus.root={grid}", f"corpus.table={tmp_path / 'clips.csv'}",
         f"cache={tmp_path / 'cache'}", "faces.detector=yunet", "flow.method=raft", "flow.model=raft_small",
         f"faces.weights={yunet}", f"flow.weights={weights}"]
    )  # fmt: skip
    assert status == 0
    cache = tmp_path / "cache/table-clips"
    rows = read_index(only(cache, "faces-*")).clips
    assert {r.status for r in rows.values()} == {"ok"} and len(rows) == 6
    assert all(r.stop - r.start == 75 and r.fraction == 1.0 for r in rows.values())
    assert check_against_torchvision(cache, weights) < 0.05
