"""Where the large fields are kept during training: mapped files, memory, or GPU memory.

``stream`` maps the files and leaves them to the system's page cache, which all trainings on the machine
share. ``ram`` copies the chosen clips into the memory of this process once, which is faster for files on a
network file system. ``device`` copies them to the GPU, so that only indices are sent for each batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import psutil
import torch

from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.gather import Gather, Resident
from deiii.data.tools.devices import DeviceError
from deiii.data.tools.machine import available_memory
from deiii.data.tools.text.sizes import memory_size

DEVICE_SHARE = 0.5  # largest share of the GPU's free memory; the rest is for the network
RAM_SHARE = 0.5  # largest share of the available memory, for files on a network file system
GIB = 2**30
REMOTE = {"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "lustre", "glusterfs", "beegfs", "afs", "gpfs"}


def choose_residency(
    wanted: str, nbytes: int, device: torch.device, free_device: int, free_ram: int, remote: str = ""
) -> tuple[str, str]:
    """Return the residency to use and the reason, in words.

    Args:
        wanted: the setting ``loader.residency``.
        nbytes: size in bytes of the large fields of the chosen clips.
        device: device of the training.
        free_device, free_ram: free bytes of the GPU and of memory.
        remote: type of the network file system that holds the files; empty for a local disk.

    Raises:
        DeviceError: ``device`` is wanted, and the fields exceed the free memory of the GPU.

    >>> choose_residency("auto", 8 * GIB, torch.device("cpu"), 0, 16 * GIB)[0]
    'stream'
    """
    size = _precise(nbytes)
    if wanted != "auto":
        if wanted == "device" and device.type == "cpu":
            return "ram", f"loader.residency=device without a GPU is ram; {size}"
        if wanted == "device" and nbytes > free_device:
            room = _precise(free_device)
            raise DeviceError(
                f"loader.residency=device: {size} of features exceed the {room} that are free on the GPU; "
                "use loader.residency=auto, which sends them batch by batch"
            )
        return wanted, f"as set; the features take {size}"
    if device.type != "cpu" and nbytes <= DEVICE_SHARE * free_device:
        return "device", f"{size} fit into half of the {memory_size(free_device)} that are free on the GPU"
    if remote and nbytes <= RAM_SHARE * free_ram:
        return "ram", (
            f"{size} fit into half of the {memory_size(free_ram)} of memory, and {remote} is slower"
        )
    if nbytes <= free_ram:
        return "stream", f"{size} fit into the page cache ({memory_size(free_ram)} available)"
    return (
        "stream",
        f"{size} exceed the available memory ({memory_size(free_ram)}): expect disk reads every epoch",
    )


def _precise(count: int) -> str:
    return memory_size(count, decimals=2 if count >= GIB else 1)


def free_bytes(device: torch.device) -> tuple[int, int]:
    """Return free memory of the device (0 for a CPU) and memory that this process may still use, in bytes.

    What PyTorch keeps of freed tensors of this process is free as well.
    """
    on_device = 0
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        on_device = torch.cuda.mem_get_info(device)[0] + kept
    return on_device, available_memory()


def remote(folders: Iterable[Path]) -> str:
    """Return the type of the network file system that holds one of the folders; empty if all are local."""
    mounts = {Path(m.mountpoint): m.fstype for m in psutil.disk_partitions(all=True)}
    for folder in sorted(folders):
        home = next((mounts[p] for p in (folder.resolve(), *folder.resolve().parents) if p in mounts), "")
        if home in REMOTE or home.startswith("fuse."):
            return home
    return ""


def hold(
    gather: Gather, rows: np.ndarray, device: torch.device | None, stages: Iterable[str] | None = None
) -> dict[str, Resident]:
    """Copy the large fields of some clips into memory, or to a device.

    Args:
        gather: reader of the arrays of all clips.
        rows: int64 [N], rows of the clips.
        device: device to copy to; ``None`` for NumPy arrays in memory.
        stages: stages whose fields are copied; all that the batches hold if not given.

    Returns:
        The copies by stage.
    """
    held = {}
    rows = np.unique(rows)  # sorted in the order of the files, without repetition
    for stage in sorted(gather.large if stages is None else stages):
        stream = gather.streams[stage]
        lengths = np.zeros_like(stream.length)
        lengths[rows] = stream.length[rows]
        first = np.cumsum(lengths) - lengths
        total = max(1, int(lengths.sum()))  # one row of zeros, so that masked steps can point at it
        chosen = rows[stream.length[rows] > 0]
        if device is None:
            array = np.zeros((total, *stream.shape), stream.dtype)
            for row in chosen:
                array[first[row] : first[row] + lengths[row]] = stream.main(int(row))
            held[stage] = Resident(array, first)
        else:
            kind = torch.from_numpy(np.empty(0, stream.dtype)).dtype
            tensor = torch.zeros((total, *stream.shape), dtype=kind, device=device)
            for row in chosen:
                values = torch.from_numpy(stream.main(int(row)).copy())
                tensor[first[row] : first[row] + lengths[row]] = values
            held[stage] = Resident(tensor, first)
    return held


def hold_shared(features: FeatureSet, gather: Gather) -> dict[str, Resident]:
    """Return the large fields of all clips in memory, copied once for all loaders of a feature set.

    Args:
        features: feature set with a table in ``resident``, to which missing fields are added.
        gather: reader of the arrays, from the loader that calls.
    """
    table = {} if features.resident is None else features.resident
    table |= hold(gather, np.arange(len(features)), None, gather.large - table.keys())
    return {stage: table[stage] for stage in gather.large}
