"""``deiii doctor``: check versions, devices, codecs, weights, memory and disk space of this machine.

A problem keeps a part of deiii from working and makes the exit status non-zero. A note is only information.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from deiii.data.command_line.missing import only_predicts
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.config.words import wrapped
from deiii.data.tools.counts import counted
from deiii.data.tools.machine import available_memory, usable_cores
from deiii.data.tools.os_errors import explain
from deiii.data.tools.packages.requirements import install_command, name_of, requirements
from deiii.data.tools.progress import show_no_loading_note
from deiii.data.tools.text.sizes import disk_size, memory_size

WIDTH = 120  # letters of a line
OPENCV = "opencv-contrib-python"
REINSTALL = "reinstall deiii and the packages that it needs in this environment"
LEAST_DISK_GB, LEAST_MEMORY_GB = 5.0, 4.0
DECODERS = {  # codecs, and where they are used
    "h264": "RAVDESS and most cameras", "flv": "CREMA-D", "mpeg4": "MSP-IMPROV and old cameras",
    "hevc": "phones", "vp9": "webcams in browsers", "aac": "audio of mp4", "mp3": "audio of CREMA-D",
    "flac": "audio", "pcm_s16le": "wav",
}  # fmt: skip


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        level: ``ok``, ``note`` or ``problem``.
        about: name of what was checked.
        text: what was found.
        remedy: what to do about a problem or note; empty if nothing has to be done.
    """

    level: str
    about: str
    text: str
    remedy: str = ""


def run_checks(config: Config) -> Iterator[Check]:
    """Yield the result of every check; one that raises an unexpected exception is a problem, not a crash.

    >>> [c.about for c in run_checks(Config())][:2]  # doctest: +SKIP
    ['python', 'packages']
    """
    checks: list[Callable[[Config], Iterator[Check]]] = [
        _python, _packages, _devices, _codecs, _detector, _weights, _encoders, _memory, _disk,
    ]  # fmt: skip
    for check in checks:
        name = check.__name__.strip("_")
        try:
            yield from check(config)
        except OSError as error:  # of a file or folder, not of a package
            yield Check("problem", name, explain(error))
        except Exception as error:
            yield Check("problem", name, f"{type(error).__name__}: {error}", REINSTALL)


def report(results: Iterator[Check]) -> int:
    """Print results as they arrive; returns the exit status: 1 if there is a problem, else 0."""
    counts = {"ok": 0, "note": 0, "problem": 0}
    show_no_loading_note()
    marks = {"ok": "  ok     ", "note": "  note   ", "problem": "  PROBLEM"}
    for result in results:
        counts[result.level] += 1
        text = wrapped(result.text, WIDTH, " " * 25)[25:]
        print(f"{marks[result.level]}  {result.about:<14s}{text}", flush=True)
        if result.remedy:
            print(f"{'':25s}-> {result.remedy}", flush=True)
    print(f"{counted(counts['problem'], 'problem')}, {counted(counts['note'], 'note')}")
    return 1 if counts["problem"] else 0


def _python(config: Config) -> Iterator[Check]:
    version = platform.python_version()
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    text = f"{version} on {platform.system()} {platform.machine()}, {counted(usable_cores(), 'usable core')}"
    remedy = "" if fits else "install deiii in an environment with Python 3.11, 3.12 or 3.13"
    yield Check("ok" if fits else "problem", "python", text, remedy)


def _installed() -> Iterator[str]:
    """Yield the names of the installed packages; what a stopped pip leaves behind has none."""
    for found in metadata.distributions():
        with suppress(FileNotFoundError):  # raised by the package importlib_metadata, which may be in use
            about = found.metadata
            if "Name" in about:
                yield about["Name"]


def _again(package: str) -> str:
    """Return the command that installs a dependency again, and leaves the versions of all others."""
    (need,) = [line for line in requirements() if name_of(line) == package] or [package]
    return f"pip install --force-reinstall --no-deps {shlex.quote(need)}"


def _packages(config: Config) -> Iterator[Check]:
    from packaging.requirements import Requirement

    shown: list[str] = []
    bad: list[str] = []
    missing: list[str] = []
    wanted: list[str] = []
    for line in requirements():
        need = Requirement(line)
        try:
            have = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            bad.append(f"{need.name} is missing")
            missing.append(need.name)
            wanted.append(f"'{need.name}{need.specifier}'")
            continue
        shown.append(f"{need.name} {have}")
        if not need.specifier.contains(have, prereleases=True):
            bad.append(f"{need.name} is {have}, but {need.specifier} is needed")
            wanted.append(f"'{need.name}{need.specifier}'")
    opencv = sorted({name for name in _installed() if name.startswith("opencv")})
    if len(opencv) > 1:
        bad.append(f"{' and '.join(opencv)} overwrite each other's files")
    if bad:
        steps = [f"pip install {' '.join(wanted)}"] if wanted else []
        if len(opencv) > 1:
            others = [name for name in opencv if name != OPENCV]
            steps = [f"pip uninstall --yes {' '.join(others)}", *steps, _again(OPENCV)]
        remedy = " && ".join(steps)
        if len(missing) == len(bad) and only_predicts(missing):
            text = (
                "no PyTorch: `deiii predict` works with exported folders (`deiii export RUN FOLDER --onnx`); "
            )
            text += f"what other commands need is missing ({', '.join(missing)})"
            yield Check("note", "packages", text, remedy)
        else:
            yield Check("problem", "packages", "; ".join(bad), remedy)
    else:
        yield Check("ok", "packages", ", ".join(shown))


def _devices(config: Config) -> Iterator[Check]:
    if importlib.util.find_spec("torch") is None:  # `_packages` reports it
        yield Check("note", "gpu", "not looked for: PyTorch is not installed")
        return
    import torch

    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(i)
            # As `deiii.model.distributed.devices.has_bfloat16`; PyTorch's function is for one GPU.
            half = "bfloat16" if torch.version.hip is not None or about.major >= 8 else "no bfloat16"
            yield Check("ok", f"cuda:{i}", f"{about.name}, {about.total_memory / 2**30:.0f} GiB, {half}")
        return
    if shutil.which("nvidia-smi"):
        yield Check(
            "problem", "gpu", f"there is a GPU, but PyTorch {torch.__version__} cannot use it",
            "update the driver, or install the PyTorch build for it from https://pytorch.org",
        )  # fmt: skip
        return
    threads = min(torch.get_num_threads(), usable_cores())  # as `limit_threads`
    yield Check(
        "note", "gpu", f"none; PyTorch uses {counted(threads, 'thread')}",
        "flow.method=dis and the preset tiny suit a CPU; `deiii settings tiny` shows all settings with it",
    )  # fmt: skip


def _codecs(config: Config) -> Iterator[Check]:
    import av
    import av.codec
    import av.error

    def has(name: str, mode: Literal["r", "w"]) -> bool:
        try:
            av.codec.Codec(name, mode)
            return True
        except (av.error.FFmpegError, ValueError):
            return False

    lost = [f"{name} ({where})" for name, where in DECODERS.items() if not has(name, "r")]
    remedy = f"install PyAV from PyPI ({_again('av')}), whose wheels bring FFmpeg"
    if lost:
        yield Check("problem", "decoders", f"missing: {', '.join(lost)}", remedy)
    else:
        yield Check("ok", "decoders", f"FFmpeg of PyAV {av.__version__}: {', '.join(DECODERS)}")
    if has("libx264", "w") and has("aac", "w"):
        yield Check("ok", "encoders", "libx264, aac: synthetic corpus and overlays")
    else:
        yield Check(
            "problem", "encoders", "libx264 or aac is missing: no synthetic corpus, no overlay", remedy
        )


def _detector(config: Config) -> Iterator[Check]:
    import cv2
    from cv2.data import haarcascades

    if (Path(haarcascades) / "haarcascade_frontalface_default.xml").is_file() and hasattr(cv2, "optflow"):
        yield Check("ok", "opencv", f"{cv2.__version__} with Haar cascades, DIS and TV-L1")
    else:
        remedy = f"{_again(OPENCV)}, and no other OpenCV package"
        yield Check("problem", "opencv", "this build lacks Haar cascades or TV-L1", remedy)


def _weights(config: Config) -> Iterator[Check]:
    from deiii.data.cache.stages import stages
    from deiii.data.tools.weights import RESNET18, SILERO_VAD, WeightsError, locate

    lost = []
    known = {name: use for stage in stages().values() for name, use in stage.known_weights.items()}
    known[RESNET18] = "model.imagenet=true"
    known[SILERO_VAD] = "deiii predict --segments speech"
    for name, use in known.items():
        try:
            found, places = locate(name)
        except WeightsError as error:
            yield Check("problem", "weights", str(error))
            continue
        if found:
            yield Check("ok", "weights", f"{found.name} in {found.parent}")
        else:
            lost.append(f"{places[0].name} (for {use})")
    if lost:
        yield Check(
            "note", "weights", f"not here: {', '.join(lost)}",
            "downloaded when first needed; without a network, put the files into a folder and set "
            "DEIII_WEIGHTS_DIR to it",
        )  # fmt: skip


def _encoders(config: Config) -> Iterator[Check]:
    """Yield frozen encoders of the configured stages, and the package that loads those of the Hub."""
    from deiii.data.cache.stages import get_stage
    from deiii.data.encoders.statement import used_encoders
    from deiii.data.tools.weights import WeightsError, locate

    try:
        yield Check("ok", "transformers", metadata.version("transformers"))
    except metadata.PackageNotFoundError:
        yield Check(
            "note", "transformers", "not installed; only encoders of the Hugging Face Hub need it",
            install_command("encoders"),
        )  # fmt: skip
    for name in ("speech", "speech2", "appearance"):
        if name not in config.stages:
            continue
        stage = get_stage(name)
        try:
            told = used_encoders(config, [name])[0]
            needed = stage.weights(stage.section(config))
            if needed and not needed.given and locate(needed.default)[0] is None:
                remedy = (
                    "downloaded when first needed; without a network, set DEIII_WEIGHTS_DIR to its folder"
                )
                yield Check("note", name, f"{needed.default} of the encoder {told.name} is not here", remedy)
                continue
        except (WeightsError, ConfigError) as error:
            yield Check("problem", name, str(error), f"set {name}.encoder or {name}.weights")
            continue
        yield Check("ok", name, f"{told.name}; emotion corpora in its training: {told.emotion}")


def _memory(config: Config) -> Iterator[Check]:
    free = available_memory()
    text = f"{memory_size(free)} available"
    if not free:
        yield Check("note", "memory", "unknown on this system")
    elif free < LEAST_MEMORY_GB * 2**30:
        remedy = "use fewer workers (workers=1) and a smaller loader.batch, or close other programs"
        yield Check("note", "memory", text, remedy)
    else:
        yield Check("ok", "memory", text)


def _disk(config: Config) -> Iterator[Check]:
    for about, folder in (("cache", Path(config.cache)), ("runs", Path(config.train.run).parent)):
        place = folder.absolute()
        try:
            while not place.exists():
                place = place.parent
            free = shutil.disk_usage(place).free
            text = f"{folder}: {disk_size(free)} free"
            with tempfile.NamedTemporaryFile(dir=place) as file:
                file.write(b"x")
        except OSError as error:
            remedy = f"name another folder: {'cache=' if about == 'cache' else 'train.run='}/path"
            if isinstance(error, PermissionError):
                remedy = f"allow this user (number {os.getuid()}) to write there (chmod, chown), or {remedy}"
            yield Check("problem", about, f"{place} cannot be written: {error.strerror}", remedy)
            continue
        if free < LEAST_DISK_GB * 1e9:
            remedy = "a frame takes about 63 kB at faces.size=112: name a larger disk with cache=/path"
            yield Check("note", about, text, remedy)
        else:
            yield Check("ok", about, text)
