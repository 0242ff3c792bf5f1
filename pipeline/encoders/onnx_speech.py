"""Any ONNX file that encodes speech: from samples, or from Whisper's log-mel."""

from __future__ import annotations

import numpy as np

from deiii.data.encoders.onnx_file import MEL_HOP, describe_onnx, takes_mel
from deiii.data.encoders.onnx_session import OnnxNetwork
from deiii.data.encoders.record import Request
from deiii.pipeline.encoders.whisper_mel import whisper_mel


class OnnxSpeech:
    """Encodes windows of audio with an ONNX file of speech; see `load`.

    Args:
        network: network with the outputs to return, each [B,R,D].
        hop: samples between two rows.
    """

    def __init__(self, network: OnnxNetwork, hop: int):
        self._network = network
        self._hop = hop
        self._mel = takes_mel(network)
        last = network.input_shape[-1]
        self._fixed = last * (MEL_HOP if self._mel else 1) if isinstance(last, int) else 0

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """Encode windows float32 [B,n] as float32 [B,R,L,D]; a file of fixed length gets zeros at the end."""
        n = windows.shape[1]
        rows = -(-n // self._hop)
        length = self._fixed or (-(-n // MEL_HOP) * MEL_HOP if self._mel else n)
        padded = np.pad(windows, ((0, 0), (0, length - n)))
        values = padded
        if self._mel:
            values = np.stack([whisper_mel(window, self._network.input_shape[1]) for window in padded])
        states = np.stack(self._network(values), axis=2)
        return states[:, :rows] if self._fixed else states


def load(request: Request) -> OnnxSpeech:
    """Return an ONNX file of speech with the requested outputs. Raises WeightsError."""
    record = describe_onnx("speech", request.path, request.outputs)
    names = OnnxNetwork(request.path, request.outputs).outputs
    chosen = [names[layer - 1] for layer in request.layers]
    return OnnxSpeech(OnnxNetwork(request.path, chosen, request.device), record.hop)
