"""One clip as an mp4 file: H.264 video and AAC sound through PyAV.

Every frame is coded by itself and with the clip's own constant quantiser. Prediction between
frames would blur what moves differently from what keeps still, and so tell a sampled frame's
neighbours apart; rate control would do the same by its choice of quantisers.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from deiii.data.tools.atomic_files import atomic_path

X264 = {"preset": "veryfast", "g": "1", "threads": "1", "x264-params": "keyint=1:scenecut=0:aq-mode=0"}
AAC = {"aac_coder": "fast"}


def write_clip(
    path: str | Path, frames: np.ndarray, fps: float, sound: np.ndarray, sample_rate: int, quantiser: int = 22
) -> None:
    """Write a clip under its final name once it is whole.

    Args:
        path: the mp4 file; its folder exists.
        frames: uint8 [n,h,w,3], RGB; even height and width.
        fps: frames per second; frame i is shown at i / fps.
        sound: float32 [m], mono, full scale is 1.
        sample_rate: Hz.
        quantiser: H.264's constant quantiser; smaller is better and larger.
    """
    rate = Fraction(fps).limit_denominator(1001)
    with atomic_path(path) as temporary:
        with av.open(str(temporary), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
            video = container.add_stream("libx264", rate=rate, options=X264 | {"qp": str(quantiser)})
            video.height, video.width = frames.shape[1:3]
            video.pix_fmt = "yuv420p"
            audio = container.add_stream("aac", rate=sample_rate, layout="mono", bit_rate=96_000, options=AAC)
            for frame in frames:
                container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(video.encode(None))
            whole = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
            whole.sample_rate, whole.pts, whole.time_base = sample_rate, 0, Fraction(1, sample_rate)
            container.mux(audio.encode(whole))
            container.mux(audio.encode(None))
