"""Folders of transformers: on disk, in ``DEIII_WEIGHTS_DIR``, or from the Hugging Face Hub.

Only settings and safetensors are read or downloaded: never a pickle, never code.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path

from deiii.data.tools.weights import FOLDER_FILES, WeightsError, weights_folder

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
INSTALL = "install the extra: pip install 'deiii[encoders]'"


def is_folder(name: str) -> bool:
    """Return whether a name is a folder on disk that holds a network of transformers."""
    return (Path(name) / "config.json").is_file()


def is_hub_name(name: str) -> bool:
    """Return whether a name has the form of one on the Hub.

    >>> is_hub_name("facebook/dinov2-small"), is_hub_name("smart-turn"), is_hub_name("/a/b")
    (True, False, False)
    """
    return HUB_NAME.fullmatch(name) is not None and not name.startswith(".")


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
        raise WeightsError(f"{name} is an encoder of the Hugging Face Hub; {INSTALL}") from None
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
