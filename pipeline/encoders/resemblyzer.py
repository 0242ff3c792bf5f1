"""Resemblyzer's speaker encoder: the outputs of its three LSTM layers.

Source: https://github.com/resemble-ai/Resemblyzer 0.1.4 (audio.py, hparams.py, voice_encoder.py); Wan et al.
2018, arXiv 1710.10467.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from deiii.data.encoders.record import Request
from deiii.data.tools.compilation.librosa_loading import load_librosa
from deiii.data.tools.processes.torch_defaults import usual_defaults
from deiii.data.tools.weights import WeightsError
from deiii.pipeline.encoders.torch_network import exact, to_device, to_host

librosa = load_librosa()

SAMPLE_RATE, N_FFT, HOP, BANDS, WIDTH = 16_000, 400, 160, 40, 256
QUIETEST = 10 ** (-30 / 20)  # root mean square, -30 dB of full scale, to which quieter audio is raised


def raised(samples: np.ndarray) -> np.ndarray:
    """Return samples float32 [n], amplified to the level `QUIETEST` if they are quieter, as in training.

    >>> raised(np.full(4, 0.001, np.float32)).round(3).tolist()[0] < 0.033
    True
    """
    level = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    return samples if level >= QUIETEST else (samples * np.float32(QUIETEST / max(level, 1e-9)))


def mel_power(samples: np.ndarray) -> np.ndarray:
    """Return mel power float32 [1 + n // 160, 40] of samples float32 [n], without a logarithm."""
    mel = librosa.feature.melspectrogram(y=samples, sr=SAMPLE_RATE, n_fft=N_FFT, hop_length=HOP, n_mels=BANDS)
    return mel.T.astype(np.float32)


def _mel_rows(window: np.ndarray) -> np.ndarray:
    """Return the mel power float32 [ceil(n/160),40] of a window float32 [n]."""
    return mel_power(raised(window))[: -(-len(window) // HOP)]


class Resemblyzer:
    """Encodes audio with up to three LSTM layers and returns the outputs of chosen ones; see `load`."""

    def __init__(self, layers: list[nn.LSTM], wanted: tuple[int, ...], device: str, precision: torch.dtype):
        self._layers = layers
        self._wanted = wanted
        self._device = device
        self._precision = precision

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """Encode windows float32 [B,n] as float32 [B,ceil(n/160),L,256]; states start at zero."""
        return self._encode(np.stack([_mel_rows(window) for window in windows]))

    def ragged(self, windows: list[np.ndarray]) -> list[np.ndarray]:
        """Encode windows float32 [n_i] as float32 [ceil(n_i/160),L,256].

        The mel rows are padded at the end, which no earlier row of an LSTM reads.
        """
        mels = [_mel_rows(window) for window in windows]
        padded = np.zeros((len(mels), max(map(len, mels)), BANDS), np.float32)
        for row, mel in zip(padded, mels, strict=True):
            row[: len(mel)] = mel
        return [rows[: len(mel)] for rows, mel in zip(self._encode(padded), mels, strict=True)]

    @usual_defaults()
    @torch.inference_mode()
    def _encode(self, mels: np.ndarray) -> np.ndarray:
        """Encode mel power float32 [B,R,40] as float32 [B,R,L,256]."""
        x = to_device(mels, self._device, self._precision)
        states = {}
        for number, layer in enumerate(self._layers, 1):
            with exact(self._device):
                x = layer(x)[0]
            states[number] = x
        return to_host(torch.stack([states[n] for n in self._wanted], dim=2))


def load(request: Request) -> Resemblyzer:
    """Load the LSTM layers up to the highest one that is requested (1 to 3).

    Raises:
        WeightsError: the file does not hold this network.
    """
    try:
        stored = torch.load(request.path, weights_only=True, map_location="cpu")["model_state"]
        layers = []
        for i in range(max(request.layers)):
            layer = nn.LSTM(BANDS if i == 0 else WIDTH, WIDTH, batch_first=True)
            names = {
                f"{kind}_l0": f"lstm.{kind}_l{i}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            }
            layer.load_state_dict({own: stored[name] for own, name in names.items()})
            layers.append(layer.eval())
    except Exception as error:  # torch raises many types for a damaged file
        raise WeightsError(
            f"{request.path} does not hold Resemblyzer's encoder ({str(error).splitlines()[0]:.200}); "
            "give the file pretrained.pt of Resemblyzer 0.1.4"
        ) from None
    precision = getattr(torch, request.precision)
    placed = [layer.to(request.device, precision) for layer in layers]  # an error here is one of the device
    return Resemblyzer(placed, request.layers, request.device, precision)
