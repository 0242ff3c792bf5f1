"""smart-turn's weights in a Whisper encoder of transformers, and encoders of log-mel that fine-tune it.

The file of smart-turn (`deiii.pipeline.encoders.smart_turn`) holds int8 weights, which no gradient can
change. `whisper_encoder` reads them as float32. `WhisperLogMel` makes Whisper's input from log-mel as the
loader returns it, and runs the encoder. `frozen` and `lora` are what a package names in the entry-point group
``deiii.encoders``.

It needs onnx, transformers and peft: ``pip install onnx 'deiii[encoders]' peft``.

Axes: B clips, L log-mel hops, M mel bands, W hops of the window, P = W / 2 positions, K layers, F features.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deiii.data.config.schema import LogMelConfig, ModelConfig
from deiii.data.loader.augmentation.audio import DB_CENTRE, DB_SCALE
from deiii.data.tools.compilation.librosa_loading import load_librosa
from deiii.data.tools.weights import SMART_TURN, resolve
from deiii.model.network.extra_encoders import RowEncoder
from deiii.pipeline.encoders.whisper_mel import N_FFT, RANGE
from deiii.pipeline.logmel.stage import sizes

LOGMEL = LogMelConfig(n_mels=80, fmin=0.0, fmax=8000.0, trim_db=40.0)  # Whisper's bands
WINDOW = 400  # hops of 10 ms; half of smart-turn's window, because the attention takes less time
RANK, ALPHA = 8, 16  # of LoRA
TARGETS = ["q_proj", "k_proj", "v_proj", "out_proj"]
PREFIX = "inner.encoder."
LEAST = 1e-12  # smallest mean square of the samples


def dequantised(values: np.ndarray, scale: np.ndarray, zero: np.ndarray, axis: int = 1) -> np.ndarray:
    """Return integers as float32, ``(values - zero) * scale``, as DequantizeLinear of ONNX defines it.

    Args:
        values: integers of any shape.
        scale, zero: scalars, or one for each place along ``axis``.
        axis: axis of ``values``.

    >>> dequantised(np.int8([[1, 3]]), np.float32([0.5, 2]), np.int8([0, 1])).tolist()
    [[0.5, 4.0]]
    """
    if np.ndim(scale):
        shape = [-1 if n == axis else 1 for n in range(values.ndim)]
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    return (values.astype(np.int32) - zero.astype(np.int32)).astype(np.float32) * scale.astype(np.float32)


def whisper_weights(path: str) -> dict[str, Tensor]:
    """Return the weights of smart-turn's encoder under the names of transformers' `WhisperEncoder`.

    Biases keep their names in the ONNX file, and matrices do not. A matrix is found by the bias that is added
    to its product; the matrix of the keys, which have no bias, by its input, which is that of the queries.

    Args:
        path: smart-turn v3.2, int8.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    constant = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    maker = {out: node for node in graph.node for out in node.output}

    def value(name: str) -> np.ndarray:
        """Return a constant of the graph, dequantised if it is stored as integers."""
        if name in constant:
            return constant[name]
        node = maker[name]  # DequantizeLinear
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        return dequantised(*(constant[own] for own in node.input), axis)

    def product(name: str) -> Any:
        """Return the product that a value is, before it was rounded to 8 bits and back."""
        node = maker[name]
        while node.op_type in ("DequantizeLinear", "QuantizeLinear"):
            node = maker[node.input[0]]
        return node

    found = {
        name.removeprefix(PREFIX): own
        for name, own in constant.items()
        if name.startswith(PREFIX) and ("norm." in name or "embed_positions" in name)
    }
    named: set[str] = set()  # outputs of the products whose matrices are found
    keys: dict[str, str] = {}  # names of the matrices of the keys, by their input
    for node in graph.node:
        if node.op_type == "Conv":
            conv = node.input[2].removeprefix(PREFIX).removesuffix(".bias")
            found |= {f"{conv}.weight": value(node.input[1]), f"{conv}.bias": value(node.input[2])}
        bias = next((name for name in node.input if name.startswith(f"{PREFIX}layers.")), "")
        if node.op_type == "Add" and bias.endswith(".bias"):
            layer = bias.removeprefix(PREFIX).removesuffix(".bias")
            matmul = product(next(name for name in node.input if name != bias))
            found |= {f"{layer}.bias": constant[bias], f"{layer}.weight": value(matmul.input[1]).T}
            named.add(matmul.output[0])
            if layer.endswith("q_proj"):
                keys[matmul.input[0]] = layer.replace("q_proj", "k_proj") + ".weight"
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[0] in keys and node.output[0] not in named:
            found[keys[node.input[0]]] = value(node.input[1]).T
    return {name: torch.from_numpy(np.array(own, np.float32)) for name, own in found.items()}


def whisper_config(weights: Mapping[str, Tensor], heads: int = 6) -> Any:
    """Return the settings of transformers for an encoder with these weights."""
    from transformers import WhisperConfig

    positions, width = weights["embed_positions.weight"].shape
    layers = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("layers."))
    return WhisperConfig(
        num_mel_bins=weights["conv1.weight"].shape[1], d_model=width, encoder_layers=layers,
        encoder_attention_heads=heads, encoder_ffn_dim=weights["layers.0.fc1.weight"].shape[0],
        max_source_positions=positions, dropout=0.0, attention_dropout=0.0, activation_dropout=0.0,
    )  # fmt: skip


@lru_cache(maxsize=1)
def _stored_weights(path: str) -> dict[str, Tensor]:
    return whisper_weights(path)


def whisper_encoder(path: str, window: int) -> nn.Module:
    """Return transformers' `WhisperEncoder` with smart-turn's weights, for windows of ``window`` hops.

    A shorter window has the last positions, because audio is at the end of smart-turn's window.
    """
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    weights = dict(_stored_weights(path))
    weights["embed_positions.weight"] = weights["embed_positions.weight"][-(window // 2) :]
    encoder = WhisperEncoder(whisper_config(weights))
    encoder.load_state_dict(weights)
    return encoder


def layer_states(encoder: nn.Module, mel_BMW: Tensor) -> Tensor:
    """Return the states after each layer of a `WhisperEncoder`, normalised as for the next, [B,P,K,F]."""
    parts: Any = encoder
    x = torch.nn.functional.gelu(parts.conv1(mel_BMW))
    x = torch.nn.functional.gelu(parts.conv2(x)).transpose(1, 2) + parts.embed_positions.weight
    norms = [*(layer.self_attn_layer_norm for layer in parts.layers[1:]), parts.layer_norm]
    states = []
    for layer, norm in zip(parts.layers, norms, strict=True):
        x = layer(x, None)
        states.append(norm(x))
    return torch.stack(states, dim=2)


def band_widths(config: LogMelConfig) -> np.ndarray:
    """Return half the width of each mel band in Hz, float32 [M].

    librosa divides the triangle of a band by this number. The sum of the bands, each times its number, is the
    power of the spectrum between the centres of the first and the last band.
    """
    ends = load_librosa().mel_frequencies(config.n_mels + 2, fmin=config.fmin, fmax=config.fmax)
    return ((ends[2:] - ends[:-2]) / 2).astype(np.float32)


class WhisperInput(nn.Module):
    """Makes Whisper's input from log-mel in dB, with the audio at the end of a window of W hops.

    smart-turn scales a recording to a variance of 1. Here the variance is estimated from the log-mel of the
    valid hops. Hops that are masked, or before the beginning of a clip, have the lowest value.

    Args:
        window: W; even.
        config: settings of the log-mel.
    """

    widths: Tensor

    def __init__(self, window: int, config: LogMelConfig = LOGMEL):
        super().__init__()
        self.window = window
        n_fft, length, _ = sizes(config)
        # Both lengths use the same analysis window, so the power of a band grows with the number of bins.
        self.fft_db = 10 * np.log10(n_fft / N_FFT)
        energy = np.hanning(length + 1)[:-1] ** 2
        self.register_buffer("widths", torch.from_numpy(band_widths(config)) * 2 / (n_fft * energy.sum()))

    def forward(self, db_BLM: Tensor, mask_BL: Tensor) -> tuple[Tensor, Tensor]:
        """Return the input float32 [B,M,W] and the place of each clip's first hop in the window, int64 [B].

        Raises:
            ValueError: L is greater than W.
        """
        hops = db_BLM.shape[1]
        if hops > self.window:
            raise ValueError(
                f"the encoder's window has {self.window} log-mel hops, and a clip has up to {hops}; set "
                f"loader.audio_steps and loader.eval_audio_steps to {self.window} or less"
            )
        db = db_BLM.float()
        mean_square = (10 ** (db / 10) * self.widths).sum(2).masked_fill(~mask_BL, 0.0).sum(1)
        mean_square = mean_square / mask_BL.sum(1).clamp_min(1)
        db = db - self.fft_db - 10 * mean_square.clamp_min(LEAST).log10()[:, None, None]
        log = db / 10
        largest = log.masked_fill(~mask_BL[..., None], -torch.inf).amax((1, 2))
        floor = (largest - RANGE).nan_to_num(neginf=0.0)[:, None, None]
        log = torch.maximum(log, floor)
        log = torch.where(mask_BL[..., None], log, floor)
        # The last valid hop, and with an odd number of hops one more, is at the end of the window.
        number = torch.arange(1, hops + 1, device=log.device)
        count = (mask_BL * number).amax(1)
        first = self.window - (count + 1) // 2 * 2
        at = torch.arange(self.window, device=log.device) - first[:, None]
        inside = (at >= 0) & (at < count[:, None])
        moved = log.gather(1, at.clamp(0, hops - 1)[..., None].expand(-1, -1, log.shape[2]))
        return (torch.where(inside[..., None], moved, floor) + 4).transpose(1, 2) / 4, first


class WhisperLogMel(nn.Module):
    """Encodes the loader's log-mel with a Whisper encoder: one token for every four hops.

    A token is the mean of the states of two positions, which are 20 ms apart. `RowEncoder` averages the
    layers with learned weights and projects the states to the network's width.

    Args:
        encoder: a `WhisperEncoder` for windows of ``window`` hops.
        width: D.
        window: W.
        trained: whether gradients of the encoder are computed.

    >>> WhisperLogMel(whisper_encoder(path, 400), 64, 400)(logmel, mask).shape     # doctest: +SKIP
    torch.Size([2, 75, 64])
    """

    def __init__(self, encoder: nn.Module, width: int, window: int, trained: bool = False):
        super().__init__()
        self.trained = trained
        self.input = WhisperInput(window)
        layers: Any = encoder.layers
        self.rows = RowEncoder((len(layers), len(layers[0].fc2.bias)), width)
        self.encoder = encoder

    def forward(self, logmel_BLM: Tensor, mask_BL: Tensor) -> Tensor:
        """Encode [B,L,M] with its mask, bool [B,L], as [B,ceil(L/4),D]; step i begins at hop 4i."""
        states, mask = self.states(logmel_BLM, mask_BL)
        return self.rows(states, mask)

    def states(self, logmel_BLM: Tensor, mask_BL: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states of the tokens, [B,ceil(L/4),K,F], with their mask."""
        mel, first = self.input(logmel_BLM * DB_SCALE + DB_CENTRE, mask_BL)
        with torch.set_grad_enabled(self.trained and torch.is_grad_enabled()):
            states = layer_states(self.encoder, mel)
        mask = mask_BL[:, ::4]
        token = torch.arange(mask.shape[1], device=mel.device)
        at = (first[:, None] // 2 + 2 * token)[..., None] + torch.arange(2, device=mel.device)
        at = at.clamp(0, states.shape[1] - 1).flatten(1)[..., None, None]
        pairs = states.gather(1, at.expand(-1, -1, *states.shape[2:])).unflatten(1, (-1, 2))
        return pairs.mean(dim=2), mask


def make(shape: tuple[int, ...], config: ModelConfig, trained: bool) -> WhisperLogMel:
    """Return the encoder of log-mel with smart-turn's weights, frozen or with trained matrices of LoRA.

    Raises:
        ValueError: the log-mel has another number of bands than that of Whisper.
    """
    if shape != (LOGMEL.n_mels,):
        raise ValueError(f"smart-turn reads log-mel of {LOGMEL.n_mels} bands; set logmel.n_mels to that")
    path, _ = resolve(SMART_TURN, SMART_TURN)
    with torch.random.fork_rng([]):  # the other parts of the network begin with the same weights in both
        encoder = whisper_encoder(path, WINDOW).requires_grad_(False)
        if trained:
            encoder = with_lora(encoder)
    return WhisperLogMel(encoder, config.width, WINDOW, trained)


def with_lora(encoder: nn.Module) -> nn.Module:
    """Add trained matrices of low rank to the attention of an encoder; its own weights are frozen."""
    from peft import LoraConfig, inject_adapter_in_model

    return inject_adapter_in_model(LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=TARGETS), encoder)


def frozen(shape: tuple[int, ...], config: ModelConfig) -> WhisperLogMel:
    """Return smart-turn's encoder with frozen weights; see `make`."""
    return make(shape, config, trained=False)


def lora(shape: tuple[int, ...], config: ModelConfig) -> WhisperLogMel:
    """Return smart-turn's encoder with trained matrices of rank 8 beside its attention; see `make`."""
    return make(shape, config, trained=True)
