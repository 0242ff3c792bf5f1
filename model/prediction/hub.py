"""Exported folders on the Hugging Face Hub, through huggingface_hub (``pip install 'deiii[hub]'``).

A repository has the layout of an exported folder: ``deiii.json``, ``model.safetensors``, ``model.onnx``,
``README.md`` with the Hub's metadata. Only these files are downloaded, and none of them is executed. The
address of another server is taken from ``HF_ENDPOINT``, the token from ``HF_TOKEN`` or ``hf auth login``.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deiii.data.tools.packages.requirements import install_command
from deiii.model.prediction.manifest import CARD, FILES, MANIFEST, MEMBER, ONNX, WEIGHTS
from deiii.model.scored_weights import own_members

PREFIX = "hub:"
NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
DOWNLOADED = (MANIFEST, WEIGHTS, ONNX, CARD)  # not the torch.export program, which `deiii.load` does not read

NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR)


class HubError(OSError):
    """Files cannot be downloaded from the Hub or uploaded to it; the message states what to do."""


def download(name: str) -> Path:
    """Return the folder of a repository's files in the local cache, downloaded where they are missing.

    Args:
        name: ``user/name`` or ``user/name@revision``; a branch, a tag or a commit.

    Raises:
        HubError: huggingface_hub is not installed, the name is not possible, there is no such repository, or
            it holds no complete export.
    """
    repository, _, revision = _checked(name).partition("@")
    hub = _library()
    try:
        folder = hub.snapshot_download(
            repository, revision=revision or None, allow_patterns=_with_members(DOWNLOADED)
        )
    except Exception as error:  # the library and its HTTP client raise many types
        raise HubError(f"{PREFIX}{name} cannot be downloaded: {_brief(error)}") from None
    _check_complete(Path(folder), name)
    return Path(folder)


def _check_complete(folder: Path, name: str) -> None:
    """Raise HubError where a repository holds no export, or only some of its files."""
    if not (folder / MANIFEST).is_file():
        raise HubError(f"{PREFIX}{name} holds no {MANIFEST}, so it is not a network of deiii")
    networks = own_members(folder) or [folder]
    files = [network / name for network in networks for name in (MANIFEST, WEIGHTS)]
    lost = [os.path.relpath(file, folder) for file in files if not file.is_file()]
    if lost:
        raise HubError(
            f"{PREFIX}{name} holds no {', '.join(lost)}: its upload is not complete. Name another "
            "revision (user/name@revision), or upload the network again with push_to_hub"
        )


def upload(folder: Path, name: str, private: bool = True) -> str:
    """Upload an exported folder in one commit; returns the address of the repository.

    Args:
        folder: an exported folder.
        name: ``user/name``; the repository is created where it does not exist.
        private: whether a new repository is visible to its owner alone.

    Raises:
        HubError: huggingface_hub is not installed, the name is not possible or has a revision, or the Hub
            refuses the upload.
    """
    repository, _, revision = _checked(name).partition("@")
    if revision:
        raise HubError(f"{name}: name the repository without a revision to upload to it")
    hub = _library()
    try:
        hub.create_repo(repository, private=private, exist_ok=True)
        hub.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=_with_members(FILES),
            commit_message="Network exported by deiii",
        )
        return f"{hub.constants.ENDPOINT}/{repository}"
    except Exception as error:  # the library and its HTTP client raise many types
        raise HubError(f"{name} cannot be uploaded: {_brief(error)}") from None


def _with_members(files: Iterable[str]) -> list[str]:
    """Return the patterns of files of one network, and of those of each member of an ensemble."""
    return [pattern for name in files for pattern in (name, f"{MEMBER}*/{name}")]


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise HubError(f"{name!r} names no repository of the Hub; write user/name or user/name@revision")
    return name


def _library() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.constants
    except ImportError:
        remedy = install_command("hub")
        raise HubError(f"the Hugging Face Hub needs the package huggingface_hub: {remedy}") from None
    return huggingface_hub


def _brief(error: Exception) -> str:
    """Return the first lines of a library's message in one line, and what to do."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:300].rstrip('. ')}. {_remedy(error, words)}".rstrip(". ")


def _remedy(error: Exception, words: str) -> str:
    """Return what to do about an error of the library; empty where its own message states that."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "RevisionNotFoundError" in kinds:
        return "Name a branch, a tag or a commit of the repository, or leave @revision out"
    if "RepositoryNotFoundError" in kinds or re.search(r"\b40[13]\b", words):
        return (
            "Check the name; the Hub shows a private repository only to those who may read it: log in with "
            "`hf auth login`, or set HF_TOKEN"
        )
    if kinds & {"LocalEntryNotFoundError", "ConnectError", "ConnectionError", "TimeoutException"}:
        return (
            "Without a connection, only networks that were downloaded before can be loaded; copy an exported "
            "folder to this machine and name that"
        )
    if isinstance(error, OSError) and error.errno in NOT_WRITABLE:
        return "Downloads go to the folder HF_HOME: set it to a folder that can be written and has space"
    return ""
