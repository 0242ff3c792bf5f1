"""Decode video on an NVIDIA GPU (NVDEC) through FFmpeg, where the frames equal those of the processor.

H.264 and H.265 define every px of an intact stream, so that decoders agree to the bit. Frames are copied from
the GPU's memory as they were decoded, and take the same way to RGB as all others. The processor decodes what
the standards do not define to the bit: damaged streams, and all streams but those of 8 bits and 4:2:0.

Sources: PyAV's documentation of ``av.codec.hwaccel``; FFmpeg's of the hwaccel ``cuda``. Part ``decode`` of
`benchmarks.gpu_check` compares frames on a GPU; tests cover the choice, the conversion of frames, and the
ways back to the processor.

>>> with open_video("clip.mp4", "auto") as (opened, on_gpu): ...  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import av
import av.error
from av.codec import Codec
from av.codec.hwaccel import HWAccel, hwdevices_available

from deiii.data.cache.outcomes import ClipError
from deiii.data.config.schema import Config, FacesConfig
from deiii.data.config.strict_yaml import ConfigError
from deiii.pipeline.media.container import open_media, video_stream
from deiii.pipeline.media.formats.ogg import Link
from deiii.pipeline.media.survey import Surveyed, open_surveyed

CODECS = frozenset({"h264", "hevc"})
FORMAT = (
    "yuv420p"  # pixel format of the streams that are decoded here; others differ in depth, chroma or range
)
LEAST_PIXELS = 1280 * 720  # of a frame that auto sends to the GPU; copies cost more than smaller ones save
FIRST_PYAV = 18  # earlier ones lose colours, orientation and interlacing of frames that come from a GPU
FULL_RANGE = 2  # AVCOL_RANGE_JPEG


class GpuDecodingFailed(Exception):
    """The GPU did not decode a video as the processor would; decode it with the processor."""


@lru_cache(maxsize=1)
def problem() -> str:
    """Return why this process cannot decode on a GPU; empty if it can.

    >>> isinstance(problem(), str)
    True
    """
    if int(av.__version__.split(".")[0]) < FIRST_PYAV:
        return f"PyAV is {av.__version__}; it needs {FIRST_PYAV} or later (pip install 'av>={FIRST_PYAV}')"
    if "cuda" not in hwdevices_available():
        return "PyAV's FFmpeg was built without CUDA; install PyAV from PyPI"
    try:
        _accelerator().create(Codec("h264", "r"))
    except (av.error.FFmpegError, OSError, NotImplementedError) as error:
        return f"FFmpeg finds no NVIDIA GPU that this process may use ({error})"
    return ""


def _accelerator() -> HWAccel:
    return HWAccel("cuda", allow_software_fallback=False)


def suits(stream: av.VideoStream, decoder: str) -> bool:
    """Return whether the GPU decodes a stream.

    Args:
        stream: opened without the GPU.
        decoder: ``faces.decoder``: ``cpu`` for none, ``auto`` for large frames where a GPU works, ``gpu`` for
            all that it decodes as the processor does.
    """
    codec = stream.codec_context
    if decoder == "cpu" or codec.name not in CODECS or codec.pix_fmt != FORMAT:
        return False
    large = decoder == "gpu" or stream.width * stream.height >= LEAST_PIXELS
    return large and not problem()


@contextmanager
def open_video(
    path: str, decoder: str, link: Link | None = None, useless: Sequence[int] = ()
) -> Iterator[tuple[Surveyed, bool]]:
    """Open a media file, or one recording of it, to decode its video; yields it, and whether the GPU does.

    Args:
        path: the media file.
        decoder: argument of `suits`.
        link, useless: arguments of `open_surveyed`.

    Raises:
        ClipError: as `open_surveyed`.
        GpuDecodingFailed: the GPU cannot decode it, or the block raised an error while the GPU did.
    """
    with open_surveyed(path, "video", useless, link) as opened:
        if link or not suits(video_stream(opened.container, useless)[0], decoder):
            yield opened, False
            return
    try:
        with open_media(path, _accelerator()) as container:
            yield Surveyed(container, opened.times, None), True
    except (ClipError, av.error.FFmpegError, OSError, ValueError) as error:
        raise GpuDecodingFailed(str(error)) from error


def as_decoded(frames: Iterator[av.VideoFrame], size: tuple[int, int]) -> Iterator[av.VideoFrame]:
    """Yield frames that the GPU decoded in the format in which the processor decodes them.

    Args:
        frames: NV12, whose chroma planes are interleaved.
        size: width and height that the file declares.

    Raises:
        GpuDecodingFailed: a frame is of a kind that is left to the processor.
    """
    for frame in frames:
        if frame.format.name != "nv12" or (frame.width, frame.height) != size:
            raise GpuDecodingFailed(f"frames of {frame.width}x{frame.height} px in {frame.format.name}")
        if frame.interlaced_frame or frame.is_corrupt or frame.color_range == FULL_RANGE:
            raise GpuDecodingFailed("interlaced or damaged frames, or colours of full range")
        yield frame.reformat(format=FORMAT, threads=1)


def require(faces: FacesConfig) -> None:
    """Refuse ``faces.decoder=gpu`` in a process that cannot decode on a GPU.

    Raises:
        ConfigError: it cannot; the message states why, and what to do.
    """
    if faces.decoder == "gpu" and (why := problem()):
        raise ConfigError(f"faces.decoder=gpu: {why}; use faces.decoder=auto or cpu")


def check(config: Config) -> None:
    """Refuse ``faces.decoder=gpu`` in a run whose workers would see no GPU.

    Raises:
        ConfigError: names the settings.
    """
    if config.faces.decoder == "gpu" and (hidden := _hidden(config)):
        raise ConfigError(f"faces.decoder=gpu: {hidden}; use faces.decoder=auto or cpu")


def note(config: Config) -> str:
    """Return a line on what decodes the videos of a run; empty for ``faces.decoder=cpu``.

    It is also empty where no GPU decodes and ``faces.decoder=gpu`` requires one: `check` or `require` then
    refuses the work.
    """
    if config.faces.decoder == "cpu":
        return ""
    if why := _hidden(config) or problem():
        if config.faces.decoder == "gpu":
            return ""
        return f"faces.decoder={config.faces.decoder}: the processor decodes all videos: {why}"
    least = "" if config.faces.decoder == "gpu" else " of at least 1280x720 px"
    return f"a GPU decodes videos in H.264 and H.265{least}; the processor decodes all others"


def _hidden(config: Config) -> str:
    """Return why the workers that compute faces see no GPU; empty if they see those of the machine."""
    if config.scheduler or config.cluster.kind != "local":
        return "workers of clusters compute faces without a GPU"
    return "gpus=0 hides all GPUs" if config.gpus == 0 else ""
