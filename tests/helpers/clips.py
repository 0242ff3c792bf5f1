"""Small real media files and corpora for tests from raw clips to results."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from deiii.data.corpora.clips import Clip, Corpus


def write_audio(path: Path, seconds: float = 0.6, hertz: float = 220.0, rate: int = 16000) -> Path:
    """Write a FLAC file with a tone."""
    t = np.arange(int(seconds * rate)) / rate
    samples = (0.3 * np.sin(2 * np.pi * hertz * t) * 32767).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=rate)
        stream.layout = "mono"
        for start in range(0, len(samples), 4096):
            block = np.ascontiguousarray(samples[None, start : start + 4096])
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
            frame.sample_rate, frame.pts = rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def audio_corpus(root: Path, speakers: int = 3, clips: int = 4) -> Corpus:
    """Write tones of different pitch and return their corpus, with the classes low and high."""
    found: list[Clip] = []
    for s in range(speakers):
        for n in range(clips):
            name = f"s{s}/c{n}.flac"
            write_audio(root / name, 0.4 + 0.1 * n, 200 + 60 * s + 20 * n)
            found.append(Clip(f"s{s}/c{n}", name, f"s{s}", "low" if n % 2 else "high"))
    return Corpus("tones", str(root), ("high", "low"), tuple(found))


def tree_bytes(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder by its path, except the lock."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != ".lock"
    }
