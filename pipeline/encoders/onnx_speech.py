"""Any ONNX file that encodes speech: from samples, or from Whisper's log-mel."""

from __future__ import annotations

import numpy as np

from deiii.data.encoders.onnx_file import MEL_HOP, describe_onnx, layer_names, takes_mel
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
        self._counted = network.counted
        last = network.input_shape[-1]
        self._fixed = last * (MEL_HOP if self._mel else 1) if isinstance(last, int) else 0

        # A file of fixed length gets windows of any lengths in one call, and each is what it is alone.
        self.ragged = (
            self._encode_each if self._fixed and not isinstance(network.input_shape[0], int) else None
        )

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """Encode windows float32 [B,n] as float32 [B,R,L,D]; a file of fixed length gets zeros at the end."""
        n = windows.shape[1]
        length = self._fixed or (-(-n // MEL_HOP) * MEL_HOP if self._mel else n)
        states = self._encode(np.pad(windows, ((0, 0), (0, length - n))), [n] * len(windows))
        return states[:, : self._rows(n)] if self._fixed else states

    def _encode_each(self, windows: list[np.ndarray]) -> list[np.ndarray]:
        """Encode windows float32 [n_i] as float32 [R_i,L,D]."""
        states = self._encode(
            np.stack([np.pad(window, (0, self._fixed - len(window))) for window in windows]),
            [len(window) for window in windows],
        )
        return [rows[: self._rows(len(window))] for rows, window in zip(states, windows, strict=True)]

    def _encode(self, padded: np.ndarray, counts: list[int]) -> np.ndarray:
        """Encode windows float32 [B,n] of a length that the file reads as float32 [B,R,L,D].

        ``counts`` are the samples of each window without its padding.
        """
        values = padded
        if self._mel:
            values = np.stack([whisper_mel(window, self._network.input_shape[1]) for window in padded])
            counts = [-(-count // MEL_HOP) for count in counts]
        states = self._network(values, counts) if self._counted else self._network(values)
        return np.stack(states, axis=2)

    def _rows(self, n: int) -> int:
        return -(-n // self._hop)


def load(request: Request) -> OnnxSpeech:
    """Return an ONNX file of speech with the requested outputs.

    Raises:
        WeightsError, DeviceError: as for `describe_onnx` and `OnnxNetwork`.
    """
    record = describe_onnx("speech", request.path, request.outputs)
    names = layer_names("speech", request.path, request.outputs)
    chosen = [names[layer - 1] for layer in request.layers]
    return OnnxSpeech(OnnxNetwork(request.path, chosen, request.device), record.hop)
