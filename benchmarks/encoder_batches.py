"""Measure what batches with windows of several clips save in the stage `speech`.

    python -m benchmarks.encoder_batches [--runs 5] [--device cpu] [--batch 8] [--clips 48] [--only NAME ...]

The clips are those of RAVDESS in DEIII_TEST_DATA, 16 in a shard as by default, read and encoded by the
stage's own functions with all layers. Each run times batches of 1 and of ``--batch`` in turn; medians of the
ratios are given. WavLM-Base has random weights: as published (``wavlm-base``, whose calls hold windows of one
length), and with layer-normalised convolutions (``wavlm-base-layer``, whose calls hold windows of unequal
lengths). The factor is seconds of work for one second of audio. On a CPU one thread computes.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import librosa
import torch

from benchmarks.encoders import encode_speech, loaded, options_of, real_files
from benchmarks.machine import describe

SHARD = 16  # clips


def random_wavlm(folder: Path, norm: str) -> str:
    """Write WavLM-Base with random weights; returns the folder."""
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMModel

    torch.manual_seed(0)
    WavLMModel(WavLMConfig(feat_extract_norm=norm)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return str(folder)


def measure(words: list[str], files: list[str], seconds: float, batch: int, runs: int) -> dict[str, float]:
    """Return the factor of each batch, and the median ratio of that of 1 to the other."""
    ways = {size: loaded("speech", *words, f"speech.batch={size}") for size in (1, batch)}
    spent: dict[int, list[float]] = {size: [] for size in ways}
    for run in range(runs + 1):  # the first one warms up
        for size, (config, encoder) in ways.items():
            start = time.perf_counter()
            for at in range(0, len(files), SHARD):
                encode_speech(files[at : at + SHARD], config, encoder)
            if run:
                spent[size].append(time.perf_counter() - start)
    found = {f"factor_{size}": float(f"{statistics.median(s) / seconds:.3g}") for size, s in spent.items()}
    ratio = statistics.median(one / more for one, more in zip(spent[1], spent[batch], strict=True))
    return {**found, "ratio": round(ratio, 2)}


def main() -> None:
    parser = options_of(__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--clips", type=int, default=48)
    options = parser.parse_args()
    shared = real_files(parser)
    if options.batch < 2:
        parser.error("--batch is compared with 1: give 2 or more")
    torch.set_num_threads(1)
    files = sorted(map(str, (shared / "media/ravdess_speech_16k").glob("*.flac")))[: options.clips]
    seconds = sum(librosa.get_duration(path=file) for file in files)
    table = {}
    with TemporaryDirectory() as made:
        resemblyzer = shared / "weights/resemblyzer_pretrained.pt"
        encoders = {
            "resemblyzer": lambda: ["speech.encoder=resemblyzer", f"speech.weights={resemblyzer}"],
            "wavlm-base": lambda: [f"speech.encoder={random_wavlm(Path(made, 'group'), 'group')}"],
            "wavlm-base-layer": lambda: [f"speech.encoder={random_wavlm(Path(made, 'layer'), 'layer')}"],
        }
        for name, words in encoders.items():
            if options.only and name not in options.only:
                continue
            chosen = [*words(), f"speech.device={options.device}"]
            table[name] = measure(chosen, files, seconds, options.batch, options.runs)
            print(name, json.dumps(table[name]), flush=True)
    result = {
        "bench": "encoder_batches", "runs": options.runs, "device": options.device, "batch": options.batch,
        "clips": len(files), "audio_s": round(seconds, 1), "encoders": table,
        **describe("torch", "transformers"),
    }  # fmt: skip
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
