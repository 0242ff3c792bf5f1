"""Compare the accuracy of our RAFT, torchvision's RAFT, DIS and TV-L1 where the motion is known.

    python -m benchmarks.flow_accuracy [--updates 20] [--synthetic 4]

Errors are mean end-point errors in px. With DEIII_TEST_DATA: four FlyingChairs pairs, and the Middlebury
aloe pair (median |u + disparity|, 12 updates). Always: clips of the synthetic corpus before compression,
on the parts of the image whose motion is known.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
import torchvision

from benchmarks.flow import network_for, torchvision_pairs
from deiii.data.cache.flow_codec import decode_flow
from deiii.data.config.schema import SyntheticConfig
from deiii.data.corpora.synthetic.face import render_frames
from deiii.data.corpora.synthetic.motion import true_motion
from deiii.data.corpora.synthetic.plan import plan_clip
from deiii.pipeline.flow.engines import PairEngine
from deiii.pipeline.flow.raft.network import MODELS, RaftEngine

STEP = 4  # frames between the two images of a synthetic clip; neighbours move by a third of a px
Method = Callable[[np.ndarray], np.ndarray]  # frames uint8 [m,H,W,3] to flow [m-1,H,W,2]


def methods(updates: int) -> dict[str, Method]:
    """Return the methods to compare, keyed by name."""
    found: dict[str, Method] = {}
    for model in MODELS:
        network = network_for(model)
        engine = RaftEngine(network, updates)
        found[model] = lambda frames, engine=engine: engine.flow(torch.from_numpy(frames)).numpy()
        found[f"{model}, torchvision"] = lambda frames, network=network: (
            torchvision_pairs(network, torch.from_numpy(frames), updates, 1).permute(0, 2, 3, 1).numpy()
        )
    for method in ("dis", "tvl1"):
        engine = PairEngine(method, "float16")
        found[method] = lambda frames, engine=engine: decode_flow(
            engine.submit(frames, np.arange(len(frames) - 1), False)()
        )
    found["zero flow"] = lambda frames: np.zeros((len(frames) - 1, *frames.shape[1:3], 2), np.float32)
    return found


def read_flo(path: Path) -> np.ndarray:
    """Return the flow of a .flo file of Middlebury, float32 [H,W,2]. Raises ValueError for other files."""
    raw = path.read_bytes()
    if np.frombuffer(raw, np.float32, 1)[0] != np.float32(202021.25):
        raise ValueError(f"{path} is not a .flo file")
    width, height = np.frombuffer(raw, np.int32, 2, 4)
    return np.frombuffer(raw, np.float32, offset=12).reshape(height, width, 2)


def read_rgb(path: Path) -> np.ndarray:
    """Return an image file as RGB, uint8 [H,W,3]."""
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def flying_chairs(folder: Path, compared: dict[str, Method]) -> dict[str, float]:
    """Return the mean end-point error over the folder's pairs."""
    errors: dict[str, list[float]] = {name: [] for name in compared}
    for truth in sorted(folder.glob("*-gt.flo")):
        stem = truth.name.removesuffix("-gt.flo")
        pair = np.stack([read_rgb(folder / f"{stem}-img{i}.ppm") for i in (0, 1)])
        for name, method in compared.items():
            errors[name].append(np.linalg.norm(method(pair)[0] - read_flo(truth), axis=2).mean())
    return {name: float(np.mean(e)) for name, e in errors.items()}


def aloe(folder: Path, compared: dict[str, Method]) -> dict[str, float]:
    """Return the median |u + disparity| where the disparity is known."""
    pair = np.stack([read_rgb(folder / f"aloe{side}.jpg") for side in "LR"])
    height, width = (size // 8 * 8 for size in pair.shape[1:3])
    disparity = cv2.imread(str(folder / "aloeGT.png"), cv2.IMREAD_GRAYSCALE)[:height, :width]
    pair = np.ascontiguousarray(pair[:, :height, :width])

    def error(flow):
        return np.median(np.abs(flow[0, ..., 0] + disparity)[disparity > 0])

    return {name: float(error(method(pair))) for name, method in compared.items()}


def synthetic(clips: int, compared: dict[str, Method]) -> dict[str, float]:
    """Return the mean end-point error on synthetic clips, over `STEP` frames, where their motion is known."""
    config = SyntheticConfig(size=192)
    errors: dict[str, list[np.ndarray]] = {name: [] for name in compared}
    for n in range(clips):
        plan = plan_clip(config, 24 * n)  # other speakers
        truth, known = (x[::STEP] for x in true_motion(plan, STEP))
        images = render_frames(plan)[::STEP]
        for name, method in compared.items():
            error = np.linalg.norm(method(images) - truth, axis=3)
            errors[name].append(error[known])
    return {name: float(np.concatenate(e).mean()) for name, e in errors.items()}


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=20, help="RAFT's updates on FlyingChairs")
    parser.add_argument("--synthetic", type=int, default=4, help="number of synthetic clips")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    tables: dict[str, dict[str, float]] = {}
    shared = os.environ.get("DEIII_TEST_DATA")
    if shared:
        tables["flying_chairs"] = flying_chairs(Path(shared) / "flow", methods(options.updates))
        tables["aloe_u"] = aloe(Path(shared) / "flow", methods(12))
    tables["synthetic"] = synthetic(options.synthetic, methods(12))
    for title, table in tables.items():
        print(title)
        for name, error in table.items():
            print(f"  {name:28s} {error:.4f} px")
    rounded = {title: {n: round(e, 4) for n, e in table.items()} for title, table in tables.items()}
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__, "opencv": cv2.__version__}
    print("RESULT " + json.dumps({"bench": "flow_accuracy", **rounded, "versions": versions}))


if __name__ == "__main__":
    main()
