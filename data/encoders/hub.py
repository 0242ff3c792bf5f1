"""Folders of transformers: on disk, in ``DEIII_WEIGHTS_DIR``, or from the Hugging Face Hub.

Only settings and safetensors are read or downloaded: never a pickle, never code.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path

from deiii.data.tools.packages.requirements import install_command
from deiii.data.tools.weights import FOLDER_FILES, WeightsError, weights_folder

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")  # the second names the files of the parts


def is_folder(name: str) -> bool:
    """Return whether a name is a folder on disk that holds a network of transformers."""
    return (Path(name) / "config.json").is_file()


def is_hub_name(name: str) -> bool:
    """Return whether a name has the form of one on the Hub.

    >>> is_hub_name("facebook/dinov2-small"), is_hub_name("smart-turn"), is_hub_name("/a/b")
    (True, False, False)
    """
    return HUB_NAME.fullmatch(name) is not None and not name.startswith(".")


def refuse_path(path: str) -> None:
    """Raise WeightsError for an encoder that is a path, but not of an ONNX file or a folder of transformers.

    >>> refuse_path("smart-turn")
    """
    if os.path.isdir(path):
        weights_folder(path)
    if os.path.isfile(path):
        code = "" if path.endswith(".safetensors") else ", and files other than safetensors may run code"
        raise WeightsError(
            f"{path} is a file of parameters, which does not say what network they belong to{code}: name a "
            "folder that holds config.json and model.safetensors (save_pretrained(folder) of transformers "
            "writes both), or an ONNX file"
        )
    if os.path.isabs(path):
        raise WeightsError(f"no such ONNX file or folder of transformers: {path}")


def complete_folder(path: str) -> str:
    """Return the path of a folder whose safetensors have the names that transformers reads.

    Raises:
        WeightsError: they have others, or `weights_folder` refuses the folder.
    """
    folder = Path(weights_folder(path))
    named = any((folder / name).is_file() for name in WEIGHTS)
    if not named and b"transformers_weights" not in (folder / "config.json").read_bytes():
        there = sorted(file.name for file in folder.glob("*.safetensors"))
        raise WeightsError(
            f"{folder} holds {there[0]}, and transformers reads {' or '.join(WEIGHTS)}: give the file the "
            "first name, or for several files write the second"
        )
    return path


@lru_cache(maxsize=8)
def hub_folder(name: str, revision: str) -> str:
    """Return the folder of a network on the Hub; downloads it where it is not on this machine.

    It is looked for in ``DEIII_WEIGHTS_DIR/owner/name``, then in the cache of the Hub's own client.

    Raises:
        WeightsError: it is nowhere and cannot be downloaded, or holds no safetensors.
    """
    own = os.environ.get("DEIII_WEIGHTS_DIR")
    if own and is_folder(str(Path(own) / name)):
        return weights_folder(Path(own) / name)
    try:
        import huggingface_hub
    except ImportError:
        needs = f"needs the package huggingface_hub: {install_command('encoders')}"
        raise WeightsError(f"{name} is an encoder of the Hugging Face Hub, which {needs}") from None
    try:
        try:
            folder = huggingface_hub.snapshot_download(
                name, revision=revision, allow_patterns=list(FOLDER_FILES), local_files_only=True
            )
            return weights_folder(folder)
        except (OSError, WeightsError):  # the model is not, or not completely, in the client's cache
            folder = huggingface_hub.snapshot_download(
                name, revision=revision, allow_patterns=list(FOLDER_FILES)
            )
    except Exception as error:  # the client raises errors of several libraries
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"could not download {name} from the Hugging Face Hub ({why:.200}). Without a network, put its "
            f"config.json, preprocessor_config.json and model.safetensors into a folder and name it: "
            f"DEIII_WEIGHTS_DIR/{name}, or weights=/folder"
        ) from None
    return weights_folder(folder)
