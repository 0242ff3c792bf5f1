"""Times of the rows of a speech network of transformers, from kernels, strides and padding in its settings.

A row is dated to the centre of the samples that its convolutions and its spectrogram read. Layers that mix
rows, such as attention and positional convolutions, are not counted, because they have a row of the same
number in their centre.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple


class _Rows(NamedTuple):
    """Rows over time: samples between two rows, and from the start of the audio to the first one's centre."""

    hop: float
    first: float

    def through(self, kernel: int, stride: int, before: int) -> _Rows:
        """Return the rows after a convolution; ``before`` are the rows of padding before the first one."""
        return _Rows(self.hop * stride, self.first + self.hop * ((kernel - 1) / 2 - before))


def first_centre(config: Any, extractor: Any, hop: int) -> int | None:
    """Return the samples from the start of the audio to the centre of those that the first row reads.

    It is negative where the padding before the audio is longer than that part of the audio, as in networks
    that read no later sample than the last one of a row.

    Args:
        config: settings of the network that reads audio, an object of transformers.
        extractor: what prepares its input.
        hop: measured distance of two rows in samples.

    Returns:
        None for a family that is not known, or whose settings give another distance of rows.

    >>> first_centre(None, None, 320) is None
    True
    """
    rows = _FAMILIES.get(getattr(config, "model_type", ""), lambda *_: None)(config, extractor)
    return round(rows.first) if rows is not None and rows.hop == hop else None


def _joined_frames(config: Any, extractor: Any) -> _Rows:
    """wav2vec2-BERT: windows of 25 ms every 10 ms without padding, of which neighbours are joined."""
    frames = _Rows(160, 400 / 2)
    return frames.through(extractor.stride, extractor.stride, 0)


def _streaming_conformer(config: Any, extractor: Any) -> _Rows:
    """Nemotron: spectra around multiples of 10 ms, and convolutions with all padding before the audio."""
    kernel, stride = config.subsampling_conv_kernel_size, config.subsampling_conv_stride
    count = config.subsampling_factor.bit_length() - 1
    return _causal(_Rows(extractor.hop_length, 0), [(kernel, stride, kernel - 1)] * count)


def _streaming_whisper(config: Any, extractor: Any) -> _Rows:
    """Voxtral Realtime: the two convolutions of Whisper with all padding before the audio."""
    return _causal(_Rows(extractor.hop_length, 0), [(3, 1, 2), (3, 2, 1)])


def _centred_spectra(config: Any, extractor: Any) -> _Rows:
    """Gemma 4: spectra around multiples of 10 ms, and two convolutions with equal padding on both sides."""
    return _Rows(extractor.hop_length, 0).through(3, 2, 1).through(3, 2, 1)


def _causal(rows: _Rows, convolutions: Iterable[tuple[int, int, int]]) -> _Rows:
    for kernel, stride, before in convolutions:
        rows = rows.through(kernel, stride, before)
    return rows


# By the kind of the network that reads audio. In those that are not here and read audio without padding, such
# as Moonshine and LASR, the samples that the first row needs are those that it reads.
_FAMILIES: dict[str, Callable[[Any, Any], _Rows | None]] = {
    "wav2vec2-bert": _joined_frames,
    "nemotron_asr_streaming_encoder": _streaming_conformer,
    "voxtral_realtime_encoder": _streaming_whisper,
    "gemma4_audio": _centred_spectra,
}
