"""smart-turn: Whisper tiny's encoder, tuned to predict whether a speaker has finished; states of four layers.

Its input is a window of 8 s. The audio, with mean 0 and variance 1, is at the end of the window, after zeros.
Source: https://github.com/pipecat-ai/smart-turn (inference.py).
"""

from __future__ import annotations

import numpy as np

from deiii.data.encoders.onnx_graph import read_nodes
from deiii.data.encoders.onnx_session import OnnxNetwork
from deiii.data.encoders.record import Request
from deiii.data.tools.weights import WeightsError
from deiii.pipeline.encoders.whisper_mel import whisper_mel

HOP, WINDOW = 320, 128_000  # samples
NORMS = 10  # LayerNormalization nodes: two in each of four layers, one after them, one in the classifier


class SmartTurn:
    """Encodes audio as the states after chosen layers, normalised as for the next layer; see `load`."""

    def __init__(self, network: OnnxNetwork):
        self._network = network

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """Encode windows float32 [B,n] of at most 128,000 samples as float32 [B,ceil(n/320),L,384]."""
        return np.stack([self._encode(window) for window in windows])

    def _encode(self, samples: np.ndarray) -> np.ndarray:
        rows = -(-len(samples) // HOP)
        values = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
        padded = np.zeros(WINDOW, np.float32)
        start = WINDOW - rows * HOP
        padded[start : start + len(values)] = values
        states = self._network(whisper_mel(padded)[None])
        return np.stack([layer[0, -rows:] for layer in states], axis=1)


def load(request: Request) -> SmartTurn:
    """Load the network with the outputs of the requested layers (1 to 4).

    Raises:
        WeightsError: the file does not hold this network.
        DeviceError: as for `OnnxNetwork`.
    """
    try:
        with open(request.path, "rb") as file:
            nodes = read_nodes(file.read())
    except ValueError as error:
        raise WeightsError(f"{request.path} is no ONNX file: {error}") from None
    norms = [node.outputs[0] for node in nodes if node.kind == "LayerNormalization"]
    if len(norms) != NORMS:
        raise WeightsError(
            f"{request.path} does not hold smart-turn v3.2: it has {len(norms)} layer normalisations, "
            f"not {NORMS}"
        )
    network = OnnxNetwork(request.path, [norms[2 * layer] for layer in request.layers], request.device)
    return SmartTurn(network)
