"""Write a feature cache of any size with realistic content, for benchmarks of loading and training.

The shards are written by the project's own writer. The content comes from a few synthetic clips (frames,
DIS flow between them, log-mel of their audio). Every clip is one of them with its own brightness, camera
noise, level and flow scale, so that no two clips have the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from deiii.data.cache.flow_codec import encode_flow
from deiii.data.cache.index import StageIndex, record_shard, stage_folder, write_index, write_table
from deiii.data.cache.outcomes import Outcome, Status
from deiii.data.cache.shard_plan import plan_shards
from deiii.data.cache.shard_writer import ShardWriter
from deiii.data.config.load import load_config
from deiii.data.config.schema import Config, LogMelConfig, SyntheticConfig
from deiii.data.corpora.clips import Clip, Corpus
from deiii.data.corpora.scan import cache_name
from deiii.data.corpora.synthetic.face import render_frames
from deiii.data.corpora.synthetic.plan import plan_clip
from deiii.data.corpora.synthetic.voice import SAMPLE_RATE, render_voice
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.tools.atomic_files import write_json
from deiii.pipeline.logmel.stage import log_mel

KEYS = {"faces": "bench-faces", "flow": "bench-flow", "logmel": "bench-logmel"}
BASE = 16  # synthetic clips from which all others are derived
FPS = 25.0
MADE_FROM = "/nowhere"  # the corpus has no media files
EMOTIONS = ("anger", "disgust", "fear", "happiness", "neutral", "sadness")


def open_cache(
    root: str | Path,
    clips: int,
    frames: int = 60,
    size: int = 112,
    speakers: int = 20,
    keys: Mapping[str, str] = KEYS,
) -> FeatureSet:
    """Return the cache in ``root``, which is written first if it is missing or has another size.

    Args:
        root: the cache folder.
        clips: number of clips; a clip of 60 frames of 112 px takes 3.8 MB.
        frames: number of frames of each clip.
        size: height and width of the crops in px.
        speakers: number of speakers, with equal numbers of clips; a shard holds at most 16 clips of one.
        keys: each stage's key. With the keys of a configuration, the commands of deiii read the cache.
    """
    root = Path(root)
    wanted = {"clips": clips, "frames": frames, "size": size, "speakers": speakers}
    description = root / "made.json"
    if not description.is_file() or json.loads(description.read_text(encoding="utf-8")) != wanted:
        _make(root, **wanted, keys=keys)
        write_json(description, wanted)
    return FeatureSet.open(cache_settings(root), keys)


def cache_settings(root: str | Path) -> Config:
    """Return settings that find the cache, also if the current folder has a synthetic corpus."""
    return load_config(overrides=[f"cache={root}", f"corpus.root={MADE_FROM}"])


def _make(
    root: Path, clips: int, frames: int, size: int, speakers: int, keys: Mapping[str, str] = KEYS
) -> None:
    name = cache_name(load_config().corpus)
    table = tuple(
        Clip(f"s{i % speakers:02d}/c{i:05d}", f"c{i:05d}.mp4", f"s{i % speakers:02d}", EMOTIONS[i % 6])
        for i in range(clips)
    )
    order = tuple(sorted(table, key=lambda c: c.id))
    (root / name).mkdir(parents=True, exist_ok=True)
    corpus = Corpus(name, MADE_FROM, EMOTIONS, order, {})
    write_table(root, corpus)
    base = [_synthetic_clip(n, frames, size) for n in range(BASE)]
    records: dict[str, list] = {stage: [] for stage in keys}
    folders = {stage: stage_folder(root, name, stage, key) for stage, key in keys.items()}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    with tqdm(total=clips, unit="clip", desc="making the cache") as bar:
        for plan in plan_shards(corpus, 16):
            writers = {s: ShardWriter(f / f"{plan.name}.h5", s, keys[s], {}) for s, f in folders.items()}
            for writer in writers.values():
                writer.__enter__()
            for clip in plan.clips:
                number = int(clip.id.rpartition("c")[2])
                for stage, arrays in _variant(base[number % BASE], number).items():
                    writers[stage].add(clip.id, Outcome(Status.OK), arrays, "")
                bar.update()
            for stage, writer in writers.items():
                writer.__exit__(None, None, None)
                records[stage].append(record_shard(writer.path))
    for stage, folder in folders.items():
        write_index(folder, StageIndex(stage, keys[stage], {}, records[stage]))


def _synthetic_clip(number: int, frames: int, size: int) -> dict[str, dict[str, np.ndarray]]:
    """Return the arrays of one synthetic clip, keyed by stage, made without detector and codec."""
    plan = plan_clip(SyntheticConfig(seconds=max(1.6, frames / FPS), size=max(64, size), fps=FPS), number)
    images = np.stack([cv2.resize(p, (size, size)) for p in render_frames(plan)[:frames]])
    images = np.pad(images, ((0, frames - len(images)), (0, 0), (0, 0), (0, 0)), "edge")
    grey = [cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in images]
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow = [dis.calc(a, b, None) for a, b in zip(grey[:-1], grey[1:], strict=True) if size >= 64]
    flow = flow or [np.zeros((size, size, 2), np.float32)] * (frames - 1)  # DIS needs larger images
    audio = render_voice(plan)[:: SAMPLE_RATE // 16000]
    time = np.arange(frames) / FPS
    logmel = log_mel(np.ascontiguousarray(audio), LogMelConfig())
    valid = np.ones(frames, bool)
    return {
        "faces": {
            "frames": images,
            "time": time,
            "box": np.zeros((frames, 4), np.float32),
            "landmarks": np.zeros((frames, 5, 2), np.float32),
            "valid": valid,
            "interpolated": ~valid,
        },
        "flow": {
            **encode_flow(np.stack([*flow, np.zeros_like(flow[0])]), "int8"),
            "time": time,
            "valid": np.arange(frames) < frames - 1,
        },
        "logmel": {"logmel": logmel, "time": 0.0125 + np.arange(len(logmel)) * 0.01},
    }


def _variant(clip: dict[str, dict[str, np.ndarray]], number: int) -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(number)
    frames = clip["faces"]["frames"]
    noise = rng.integers(0, 7, frames.shape, np.uint8)
    lighter = cv2.add(frames.reshape(len(frames), -1), noise.reshape(len(frames), -1))
    faces = {**clip["faces"], "frames": lighter.reshape(frames.shape)}
    logmel = {**clip["logmel"], "logmel": (clip["logmel"]["logmel"] + rng.normal(0, 1)).astype(np.float16)}
    flow = {**clip["flow"], "scale": clip["flow"]["scale"] * np.float32(rng.uniform(0.8, 1.2))}
    return {"faces": faces, "flow": flow, "logmel": logmel}
