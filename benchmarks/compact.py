"""Measure error and size of stored flow, as int8 with a scale and as float16, on flow of real crops.

    python -m benchmarks.compact [--method raft] [--frames 33]

Errors are end-point errors against the float32 flow, in px of 128 px crops.
"""

from __future__ import annotations

import argparse
import json

import cv2
import numpy as np
import torch

from benchmarks.clips import face_clips
from benchmarks.flow import network_for
from deiii.data.cache.flow_codec import decode_flow, encode_flow
from deiii.pipeline.flow.raft.network import RaftEngine


def clip_flow(method: str, frames: np.ndarray, engine: RaftEngine | None) -> np.ndarray:
    """Return the flow between neighbouring frames, float32 [n-1,S,S,2]."""
    if engine is not None:
        return engine.flow(torch.from_numpy(frames)).numpy()
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    greys = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in frames]
    return np.stack([dis.calc(a, b, None) for a, b in zip(greys[:-1], greys[1:], strict=True)])


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--method", default="raft", choices=("raft", "dis"))
    parser.add_argument("--frames", type=int, default=33)
    options = parser.parse_args()
    source, clips = face_clips(128, 2)
    engine = RaftEngine(network_for("raft_small")) if options.method == "raft" else None
    flow = np.concatenate([clip_flow(options.method, c[: options.frames].copy(), engine) for c in clips])
    longest = np.linalg.norm(flow, axis=3).max(axis=(1, 2))
    result = {"bench": "compact", "method": options.method, "clips": source, "frames": len(flow)}
    result |= {
        "longest_px": round(float(longest.max()), 2),
        "median_longest_px": round(float(np.median(longest)), 2),
    }
    for storage in ("int8", "float16"):
        stored = encode_flow(flow, storage)
        error = np.linalg.norm(decode_flow(stored) - flow, axis=3)
        result[storage] = {
            "bytes_per_frame": sum(a.nbytes for a in stored.values()) // len(flow),
            "mean_epe_px": float(f"{error.mean():.3g}"),
            "worst_frame_mean_epe_px": float(f"{error.mean(axis=(1, 2)).max():.3g}"),
            "worst_share_of_longest": float(
                f"{(error.max(axis=(1, 2)) / np.maximum(longest, 1e-9)).max():.3g}"
            ),
        }
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
