"""Write one clip as an mp4 file: H.264 video and AAC audio, through PyAV.

Every frame is encoded by itself, with the constant quantiser of the clip. Prediction between frames would
blur moving parts differently from still ones, so that a single frame would carry information about its
neighbours. The quantisers that rate control chooses would carry it, too.
"""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from deiii.data.tools.atomic_files import atomic_path

X264 = {"preset": "veryfast", "g": "1", "threads": "1", "x264-params": "keyint=1:scenecut=0:aq-mode=0"}
AAC = {"aac_coder": "fast"}


def write_clip(
    path: str | Path, frames: np.ndarray, fps: float, audio: np.ndarray, sample_rate: int, quantiser: int = 22
) -> None:
    """Write a clip atomically.

    Args:
        path: the mp4 file; its folder exists.
        frames: uint8 [n,h,w,3], RGB; even height and width.
        fps: frames per second; frame i is shown at i / fps.
        audio: float32 [m], mono, full scale is 1.
        sample_rate: sample rate of the audio, in Hz.
        quantiser: H.264's constant quantiser; smaller values give better and larger videos.
    """
    rate = Fraction(fps).limit_denominator(1001)
    with atomic_path(path) as temporary:
        name = os.path.abspath(temporary)  # FFmpeg takes a relative path with a colon for a protocol
        with av.open(name, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
            video = container.add_stream("libx264", rate=rate, options=X264 | {"qp": str(quantiser)})
            video.height, video.width = frames.shape[1:3]
            video.pix_fmt = "yuv420p"
            track = container.add_stream("aac", rate=sample_rate, layout="mono", bit_rate=96_000, options=AAC)
            for frame in frames:
                container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(video.encode(None))
            samples = av.AudioFrame.from_ndarray(audio[None], format="fltp", layout="mono")
            samples.sample_rate = sample_rate
            samples.pts = 0
            samples.time_base = Fraction(1, sample_rate)
            container.mux(track.encode(samples))
            container.mux(track.encode(None))
