"""Compare the float32 encoder of `benchmarks.lora_encoder` with the ONNX file whose weights it has.

The ONNX file rounds the inputs of every product to 8 bits. `without_rounding` removes these steps and nothing
else, so that its states equal those of the float32 encoder if all weights are in the right places.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.lora_encoder import LOGMEL, WINDOW, WhisperInput, layer_states, whisper_encoder
from deiii.data.encoders.onnx_session import open_session
from deiii.data.encoders.record import Request
from deiii.pipeline.encoders.smart_turn import HOP, load
from deiii.pipeline.encoders.smart_turn import WINDOW as SAMPLES
from deiii.pipeline.encoders.whisper_mel import whisper_mel
from deiii.pipeline.logmel.stage import log_mel, loud_part
from deiii.pipeline.media.audio import read_audio

LAYERS = (1, 2, 3, 4)
HOPS = SAMPLES // 160


def without_rounding(path: str) -> Any:
    """Return a session of the ONNX file that does not round activations; outputs are those of `LAYERS`."""
    import onnx

    model = onnx.load(path)
    graph = model.graph
    maker = {out: node for node in graph.node for out in node.output}
    for node in graph.node:
        rounded = maker.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if rounded is not None and rounded.op_type == "QuantizeLinear":
            node.op_type = "Identity"
            del node.input[:], node.attribute[:]
            node.input.append(rounded.input[0])
    norms = [node.output[0] for node in graph.node if node.op_type == "LayerNormalization"]
    del graph.output[:]
    graph.output.extend(onnx.helper.make_empty_tensor_value_info(norms[2 * layer]) for layer in LAYERS)
    return open_session(model.SerializeToString(), 1)


def in_window(samples: np.ndarray) -> np.ndarray:
    """Return samples at the end of smart-turn's window, scaled as there, float32 [128000]."""
    rows = -(-len(samples) // HOP)
    padded = np.zeros(SAMPLES, np.float32)
    start = SAMPLES - rows * HOP
    padded[start : start + len(samples)] = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    return padded


def agreement(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """Return correlation and relative error of each layer, means over pairs of states [P,K,F]."""
    correlation, error = [], []
    for found, expected in pairs:
        layers = [(found[:, k].ravel(), expected[:, k].ravel()) for k in range(expected.shape[1])]
        correlation.append([np.corrcoef(a, b)[0, 1] for a, b in layers])
        error.append([np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in layers])
    return {
        "correlation": [round(float(x), 6) for x in np.mean(correlation, axis=0)],
        "relative_error": [float(f"{x:.3g}") for x in np.mean(error, axis=0)],
    }


@torch.no_grad()
def check(path: str, recordings: Iterable[str | Path]) -> dict[str, Any]:
    """Compare states after each layer for some recordings, without the silence at their ends.

    Args:
        path: the ONNX file.
        recordings: audio files, of at most 8 s.

    Returns:
        agreement for the hops of the recording: of the float32 encoder with the ONNX file as it is and
        without its rounding; of a window of `WINDOW` hops with one of 8 s; and of the input that
        `WhisperInput` makes from log-mel with Whisper's own log-mel.
    """
    own, unrounded = load(Request("smart-turn", path, LAYERS)), without_rounding(path)
    whole, short = whisper_encoder(path, HOPS).eval(), whisper_encoder(path, WINDOW).eval()
    make_input = WhisperInput(HOPS)
    pairs: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    mel_errors = []
    for name in recordings:
        samples, _, _ = read_audio(name, LOGMEL.sample_rate)
        kept = loud_part(log_mel(samples, LOGMEL).max(axis=1), LOGMEL)
        samples = samples[kept.start * 160 : (kept.stop - 1) * 160]
        mel = whisper_mel(in_window(samples))[None]
        rows = min(-(-len(samples) // HOP), WINDOW // 2)
        db = torch.from_numpy(log_mel(samples, LOGMEL).astype(np.float16).astype(np.float32))[None]
        db = db[:, : -(-len(samples) // HOP) * 2]
        converted, _ = make_input(db, torch.ones(db.shape[:2], dtype=torch.bool))
        mel_errors.append(float(np.abs(converted.numpy() - mel)[0, :, -2 * rows :].mean()))
        states = layer_states(whole, torch.from_numpy(mel))[0].numpy()
        exact = np.stack([x[0] for x in unrounded.run(None, {"input_features": mel})], axis=1)
        for what, found, expected in (
            ("float32 against the ONNX file", states[-rows:], own(samples[None])[0, -rows:]),
            ("float32 against the ONNX file without rounding", states, exact),
            (
                f"window of {WINDOW} hops against {HOPS}",
                layer_states(short, torch.from_numpy(mel[..., -WINDOW:]))[0, -rows:].numpy(),
                states[-rows:],
            ),
            (
                "input made from log-mel against Whisper's",
                layer_states(whole, converted)[0, -rows:].numpy(),
                states[-rows:],
            ),
        ):
            pairs.setdefault(what, []).append((found, expected))
    result: dict[str, Any] = {"recordings": len(mel_errors), "layers": list(LAYERS)}
    result |= {what: agreement(own) for what, own in pairs.items()}
    return result | {"mean_difference_of_the_input": round(float(np.mean(mel_errors)), 4)}
