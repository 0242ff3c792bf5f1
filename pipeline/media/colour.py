"""Colours of video frames as standard dynamic range (SDR) with BT.709 primaries.

Video is stored with a transfer function and primaries. Phones record HLG (ARIB STD-B67), cameras and
streaming services PQ (SMPTE ST 2084), both with BT.2020 primaries; some SDR video also has wide primaries.
Shown without conversion, such frames are pale and low in contrast. Here they are converted to light,
brought to BT.709 primaries, scaled so that the reference white of 203 cd/m2 (ITU-R BT.2408) is white, and
encoded for a display with gamma 2.4 (ITU-R BT.1886). Highlights are compressed into the last tenth.

>>> import numpy as np
>>> white = np.full((1, 1, 3), 0.5806 * 65535, np.uint16)  # 203 cd/m2 in PQ
>>> bool(to_sdr(white, ColourSpace(PQ, BT2020)).min() > 240)
True
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from deiii.data.cache.outcomes import ClipError, Status

LINEAR, LOG, LOG_SQRT, PQ, ST428, HLG = 8, 9, 10, 16, 17, 18  # transfer functions, ITU-T H.273 table 3
UNSPECIFIED, BT2020, XYZ, P3_DCI, P3_D65 = 2, 9, 10, 11, 12  # primaries, ITU-T H.273 table 2
# Matrices that FFmpeg's scaler converts, ITU-T H.273 table 4: RGB, unspecified and reserved ones (it takes a
# default for them), BT.709, FCC, BT.470 BG, SMPTE 170M, SMPTE 240M, BT.2020; not YCgCo, ICtCp and others.
MATRICES = frozenset({0, 1, 2, 3, 4, 5, 6, 7, 9})
WHITE = 203.0  # cd/m2 of diffuse white in HDR, ITU-R BT.2408
HLG_PEAK = 1000.0  # cd/m2 of the display that HLG is shown on; its system gamma is then 1.2
GAMMA = 2.4  # exponent of an SDR display, ITU-R BT.1886
KNEE = 0.9  # encoded value above which highlights are compressed
BRIGHTEST = 64.0  # in multiples of white; PQ ends at 10,000 cd/m2, which is 49
NAMES = {PQ: "PQ", HLG: "HLG", LINEAR: "linear light"}
WIDE = {BT2020: "BT.2020", P3_DCI: "P3", P3_D65: "P3"}
# Linear RGB to linear BT.709 RGB. BT.2020: Report ITU-R BT.2407, the inverse of Recommendation BT.2087.
# P3 D65: values in common use, within 0.0004 of the same derivation.
TO_BT709 = {
    BT2020: ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)),
    P3_D65: ((1.2249, -0.2247, 0.0), (-0.0420, 1.0419, 0.0), (-0.0197, -0.0786, 1.0979)),
}
TO_BT709[P3_DCI] = TO_BT709[P3_D65]
LUMA_BT2020 = np.array([0.2627, 0.6780, 0.0593], np.float32)


class ColourSpace(NamedTuple):
    """Transfer function and primaries of a frame, numbered as in ITU-T H.273."""

    transfer: int
    primaries: int

    @property
    def is_sdr(self) -> bool:
        """Whether frames can be used as they are."""
        return self.transfer not in NAMES and self.primaries not in WIDE

    @property
    def remark(self) -> str:
        """Describe the conversion of its frames."""
        if self.transfer in (PQ, HLG):
            return f"HDR video ({NAMES[self.transfer]}) was tone-mapped to SDR"
        name = WIDE.get(self.primaries) or NAMES[self.transfer]
        return f"wide-gamut video ({name}) was converted to BT.709"


def colour_space(transfer: int, primaries: int, matrix: int) -> ColourSpace:
    """Return the colour space of a frame from its tags.

    Args:
        transfer, primaries: numbers of ITU-T H.273.
        matrix: number of ITU-T H.273; `UNSPECIFIED` for a frame that is stored as RGB or grey.

    Raises:
        ClipError: its frames cannot be converted.
    """
    if matrix not in MATRICES or transfer in (LOG, LOG_SQRT, ST428) or primaries == XYZ:
        raise ClipError(
            Status.UNREADABLE,
            f"the video's colours (matrix {matrix}, transfer function {transfer}, primaries {primaries} of "
            "ITU-T H.273) cannot be converted; re-encode it in BT.709, e.g. with ffmpeg's zscale filter",
        )
    if transfer in (PQ, HLG) and primaries == UNSPECIFIED:
        primaries = BT2020
    return ColourSpace(transfer, primaries)


def to_sdr(rgb: np.ndarray, space: ColourSpace) -> np.ndarray:
    """Return RGB of 16 bits per channel, uint16 [H,W,3], as SDR with BT.709 primaries, uint8 [H,W,3]."""
    light = _light_table(space.transfer)[rgb]
    if space.transfer == HLG:  # converts the light of the scene to the light of the display
        luma = light @ LUMA_BT2020
        light *= (HLG_PEAK / WHITE) * np.maximum(luma, 1e-6)[..., None] ** np.float32(0.2)
    matrix = TO_BT709.get(space.primaries)
    if matrix is not None:
        light = light @ np.array(matrix, np.float32).T
    # The table's steps are even in the square root of light, fine enough for every step of 8 bits.
    table = _encode_table()
    index = np.sqrt(np.clip(light, 0.0, BRIGHTEST)) * np.float32((len(table) - 1) / BRIGHTEST**0.5)
    return table[(index + 0.5).astype(np.int32)]


@lru_cache(maxsize=4)
def _light_table(transfer: int) -> np.ndarray:
    """Return the light of every encoded value, float32 [65536]; 1 is white, for HLG the scene's peak."""
    x = np.linspace(0.0, 1.0, 1 << 16)
    if transfer == PQ:
        root = x ** (32 / 2523)
        light = np.maximum(root - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * root)
        light = 10_000 / WHITE * light ** (16384 / 2610)
    elif transfer == HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(x <= 0.5, x**2 / 3, (np.exp((x - c) / a) + b) / 12)
    elif transfer == LINEAR:
        light = x
    else:
        light = x**GAMMA
    return light.astype(np.float32)


@lru_cache(maxsize=1)
def _encode_table() -> np.ndarray:
    """Return encoded values of 8 bits for even steps of the square root of light, uint8."""
    light = np.linspace(0.0, BRIGHTEST**0.5, 1 << 16) ** 2
    x = light ** (1 / GAMMA)
    room = 1.0 - KNEE
    x = np.where(x > KNEE, KNEE + room * (1 - np.exp(-(x - KNEE) / room)), x)
    return (x * 255).round().astype(np.uint8)
