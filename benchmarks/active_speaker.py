"""Measure how often `faces.pick=active` crops the speaking one of two faces, and how long it takes.

    python -m benchmarks.active_speaker [--clips 'CLIPS/*.mp4'] [--speakers 02,06,08] [--runs 5]

Real scenes are two clips of different speakers side by side, with the audio of one of them; which one speaks,
and on which side, is random. The speaker of a clip is what its file name has before the first "-" or "_".
Synthetic scenes are those of the tests: two drawn faces, of which the silent one is larger in every second
scene. Each scene is a video file that passes through the faces stage with its default settings. A choice is
right if the crops lie on the side of the face that speaks.

The alternative is `faces.pick=speaker`, which does not use the audio. Times are of the whole stage on one
thread for a part of the scenes; runs alternate between the two settings and their ratios are compared. The
interval is the 95 % interval of Wilson for independent scenes; scenes share clips, so it is too narrow.
"""

from __future__ import annotations

import argparse
import glob
import json
import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from benchmarks.machine import describe
from deiii.data.config.schema import FacesConfig
from deiii.pipeline.faces.stage import extract_faces, load_detector
from tests.helpers.two_faces import pair_of_clips, scene

TIMED = 12  # scenes of each kind whose time is measured
Scene = tuple[str, int, float]  # the file, the side that speaks, the border between the sides in px


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--clips", default="", help="pattern of the real clips, for example 'clips/*.mp4'")
    parser.add_argument("--speakers", default="", help="speakers to use, with commas; by default all")
    parser.add_argument("--scenes", type=int, default=100, help="number of scenes of real clips")
    parser.add_argument("--synthetic", type=int, default=42, help="number of synthetic scenes")
    parser.add_argument("--runs", type=int, default=5, help="number of timed runs; 0 measures no time")
    parser.add_argument("--detectors", default="haar,yunet", help="detectors, with commas")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    result: dict[str, object] = {"bench": "active_speaker"}
    with TemporaryDirectory() as folder:
        scenes = {"synthetic": [synthetic_scene(Path(folder), n) for n in range(options.synthetic)]}
        if options.clips:
            speakers = set(options.speakers.split(",")) - {""}
            scenes["real"] = real_scenes(Path(folder), glob.glob(options.clips), speakers, options.scenes)
            result["speakers"] = sorted(speakers) or "all"
        for detector in options.detectors.split(","):
            for kind, found in scenes.items():
                result[f"{kind}_{detector}"] = measure(found, detector, options.runs)
    result |= {"runs": options.runs, **describe("opencv-contrib-python", "scipy", "av")}
    print("RESULT " + json.dumps(result))


def synthetic_scene(folder: Path, number: int) -> Scene:
    """Write the synthetic scene of a number; returns its file, the side that speaks and the border."""
    path, who, width = scene(folder, number)
    border = {320: 160, 360: 160 if who == 0 else 200}[width]
    return path, who, border


def real_scenes(folder: Path, clips: Sequence[str], speakers: set[str], count: int) -> list[Scene]:
    """Write scenes of clips of different speakers; the same clips give the same scenes."""
    named = {path: Path(path).stem.replace("_", "-").split("-")[0] for path in sorted(clips)}
    chosen = [path for path, speaker in named.items() if not speakers or speaker in speakers]
    pairs = [(a, b) for a in chosen for b in chosen if named[a] != named[b]]
    rng = np.random.default_rng(0)
    taken = [pairs[i] for i in rng.permutation(len(pairs))[:count]]
    sides = rng.integers(2, size=len(taken))
    return [
        pair_of_clips(folder / f"real{n}.mp4", *pair, int(side))
        for n, (pair, side) in enumerate(zip(taken, sides, strict=True))
    ]


def measure(scenes: Sequence[Scene], detector: str, runs: int) -> dict[str, object]:
    """Return the shares of right choices with their intervals, and the ratio of the times."""
    ways = {pick: FacesConfig(pick=pick, detector=detector) for pick in ("active", "speaker")}
    load = load_detector(ways["active"])
    found: dict[str, object] = {"scenes": len(scenes)}
    for pick, config in ways.items():
        right = [is_right(one, config, load) for one in scenes]
        found |= {f"right_{pick}": round(statistics.mean(right), 3), f"interval_{pick}": wilson(right)}
    ratios: list[float] = []
    for _ in range(runs):
        seconds = {}
        for pick, config in ways.items():
            start = time.perf_counter()
            for path, _, _ in scenes[:TIMED]:
                extract_faces(path, config, load)
            seconds[pick] = time.perf_counter() - start
        ratios.append(seconds["active"] / seconds["speaker"])
    return found | ({"time_ratio": round(statistics.median(ratios), 3)} if runs else {})


def is_right(one: Scene, config: FacesConfig, load: object) -> bool:
    """Return whether the crops of a scene show the face that speaks; without crops it is wrong."""
    path, who, border = one
    arrays = extract_faces(path, config, load).arrays
    if not arrays:
        return False
    middle = float(np.nanmedian(arrays["box"][:, 0] + arrays["box"][:, 2] / 2))
    return int(middle > border) == who


def wilson(right: Sequence[bool]) -> list[float]:
    """Return the 95 % interval of a share (Wilson, JASA 1927)."""
    n, share, z = len(right), statistics.mean(right), 1.96
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return [round(middle - half, 3), round(middle + half, 3)]


if __name__ == "__main__":
    main()
