"""Mutate real files and decode them; writes one line of JSON per file.

    python -m tests.faults.fuzz_decoder ANSWERS KIND FIRST COUNT SECONDS GIGABYTES FILE...

Started by `fuzz_corpus` in a process of its own, so that a crash of FFmpeg is noticed and affects one file.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from deiii.data.cache.outcomes import Outcome, StageResult, Status
from deiii.data.config.schema import Config, LogMelConfig
from deiii.pipeline.faces import stage as faces
from deiii.pipeline.media.video import read_video
from deiii.pipeline.stages.clip import run_clip
from deiii.pipeline.stages.limits import memory_limit, time_limit
from tests.faults.peak import new_peak_mb, peak_mb


def mutate(data: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """A damaged copy of a file; about half of the damage is in its first and last 4 kB, where headers are."""
    content = bytearray(data)
    size = len(content)

    def place(length: int = 1) -> int:
        edge = min(4096, size)
        spot = rng.integers(0, edge) if rng.random() < 0.25 else rng.integers(0, size)
        spot = size - 1 - rng.integers(0, edge) if rng.random() < 0.25 else spot
        return int(max(0, min(spot, size - length)))

    for _ in range(int(rng.integers(1, 30))):
        if kind == "bits":
            content[place()] ^= 1 << int(rng.integers(8))
        elif kind == "bytes":
            content[place()] = int(rng.integers(256))
        elif kind == "sizes":  # 32-bit numbers, such as lengths and counts
            value = rng.choice([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x00FFFFFF, 0x10000])
            at = place(4)
            content[at : at + 4] = int(value).to_bytes(4, str(rng.choice(["big", "little"])))
        elif kind in ("holes", "splices", "swaps"):
            length = int(min(size // 3, rng.integers(1, 5000)))
            at, other = place(length), place(length)
            if kind == "holes":
                content[at : at + length] = bytes(length)
            elif kind == "splices":
                content[at : at + length] = content[other : other + length]
            else:
                one, two = content[at : at + length], content[other : other + length]
                content[at : at + length], content[other : other + length] = two, one
    if kind == "cuts":
        content = content[int(rng.integers(size)) :] if rng.random() < 0.3 else content[: place()]
    return bytes(content)


def decode(path: Path, config: Config) -> tuple[StageResult, StageResult, int]:
    """The result of decoding every frame, the log-mel result, and the number of frames."""
    frames = 0

    def look(path, faces, detector) -> StageResult:
        nonlocal frames
        reader, last = read_video(path), -1.0
        for rgb, time_s in reader:
            assert rgb.ndim == 3 and time_s > last
            frames, last = frames + 1, time_s
        return StageResult(Outcome(Status.OK_PARTIAL if reader.notes else Status.OK, "; ".join(reader.notes)))

    faces.extract_faces = look
    video = run_clip("faces", str(path), config)
    return video, run_clip("logmel", str(path), config), frames


def main() -> int:
    answers, kind, first, count, seconds, gigabytes, *files = sys.argv[1:]
    config = Config(logmel=LogMelConfig(n_mels=40))
    with tempfile.TemporaryDirectory() as folder, open(answers, "a") as out:
        source = Path(files[0])
        decode(source, config)  # load everything that is loaded once, before memory is measured
        base = new_peak_mb()
        for number in range(int(first), int(count)):
            rng = np.random.default_rng([number, *kind.encode()])
            source = Path(files[number % len(files)])
            path = Path(folder) / f"clip{source.suffix}"
            path.write_bytes(mutate(source.read_bytes(), kind, rng))
            started = time.monotonic()
            with time_limit(float(seconds)), memory_limit(float(gigabytes)):
                video, sound, frames = decode(path, config)
            defect = next((r.outcome.reason for r in (video, sound) if "unexpected" in r.outcome.reason), "")
            logmel = sound.arrays.get("logmel")
            answer = {
                "number": number,
                "file": source.name,
                "faces": str(video.outcome.status),
                "logmel": str(sound.outcome.status),
                "frames": frames,
                "zero": (video.outcome.usable and not frames)
                or (logmel is not None and bool(np.ptp(logmel.astype(np.float32)) == 0)),
                "defect": defect,
                "seconds": round(time.monotonic() - started, 2),
                "megabytes": peak_mb() - base,
            }
            out.write(json.dumps(answer) + "\n")
            out.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
