"""Where the data live: what is chosen and why, and that batches do not depend on it."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from deiii.data.loader.augment import Augment
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.loader import Loader
from deiii.data.loader.residency import GIB, choose_residency, free_bytes, hold, remote
from deiii.data.tools.devices import DeviceError
from tests.helpers.caches import KEYS, make_cache


def test_auto_residency_says_what_and_why():
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert choose_residency("auto", 8 * GIB, gpu, 70 * GIB, 64 * GIB)[0] == "device"
    assert choose_residency("auto", 40 * GIB, gpu, 70 * GIB, 64 * GIB)[0] == "stream"
    assert "exceed" in choose_residency("auto", 90 * GIB, cpu, 0, 64 * GIB)[1]
    chosen, why = choose_residency("ram", 8 * GIB, gpu, 70 * GIB, 64 * GIB)
    assert chosen == "ram" and "loader.residency" not in why  # `train` writes the setting in front
    assert choose_residency("device", 8 * GIB, cpu, 0, 64 * GIB)[0] == "ram"


@pytest.mark.parametrize(
    ("nbytes", "size"), [(GIB // 1024, "1.0 MiB fit"), (GIB // 4, "256.0 MiB fit"), (2 * GIB, "2.00 GiB fit")]
)
def test_the_size_of_few_features_is_not_zero(nbytes, size):
    assert size in choose_residency("auto", nbytes, torch.device("cpu"), 0, 64 * GIB)[1]


def test_features_that_do_not_fit_on_the_gpu_are_refused_before_work():
    gpu = torch.device("cuda")
    assert choose_residency("device", 8 * GIB, gpu, 8 * GIB, 64 * GIB)[0] == "device"
    with pytest.raises(DeviceError, match="9.00 GiB of features exceed the 8.00 GiB.*loader.residency=auto"):
        choose_residency("device", 9 * GIB, gpu, 8 * GIB, 64 * GIB)


def test_memory_that_pytorch_keeps_of_freed_tensors_counts_as_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2 * GIB, 8 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 5 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1 * GIB)
    assert free_bytes(torch.device("cuda"))[0] == 6 * GIB
    assert free_bytes(torch.device("cpu"))[0] == 0


def test_resident_rows_give_the_same_batches(tmp_path):
    """What a GPU does with `device`, done with tensors on the CPU."""
    config = make_cache(
        tmp_path, [30, 20, 0, 3, 50, 9, 12, 1, 8, 40, 41], [40, 15, 30, 0, 60, *[20] * 4, 80, 10]
    )
    features = FeatureSet.open(config, KEYS)
    stream = Loader(features, range(11), config.loader, training=True, seed=2)
    other = Loader(features, range(11), config.loader, training=True, seed=2)
    other.gather.held = hold(other.gather, other.indices, torch.device("cpu"))
    resident = {stage: h.array for stage, h in other.gather.held.items()}
    other.augment = Augment(config.loader, True, resident)
    for a, b in zip(stream.epoch(0), other.epoch(0), strict=True):
        for f in ("video_mask", "flow_mask", "audio_mask", "label", "index", "logmel"):
            assert torch.equal(getattr(a, f), getattr(b, f)), f
        assert torch.equal(a.frames[a.video_mask], b.frames[b.video_mask])
        assert torch.equal(a.flow[a.flow_mask], b.flow[b.flow_mask])


def test_loaders_of_one_feature_set_share_one_copy(tmp_path):
    """The same batches as from mapped files; the fields are copied once."""
    config = make_cache(tmp_path, [30, 20, 0, 3, 50, 9], [40, 15, 30, 0, 60, 20])
    alone, shared = FeatureSet.open(config, KEYS), FeatureSet.open(config, KEYS)
    shared.resident = {}
    settings = replace(config.loader, residency="ram")
    copies = []
    for rows in ([0, 1, 4], [2, 3, 5], range(6)):
        stream = Loader(alone, rows, config.loader, training=True, seed=2)
        other = Loader(shared, rows, settings, training=True, seed=2)
        assert all(held is shared.resident[stage] for stage, held in other.gather.held.items())
        for a, b in zip(stream.epoch(0), other.epoch(0), strict=True):
            assert all(torch.equal(x, b.tensors()[name]) for name, x in a.tensors().items())
        copies.append(dict(shared.resident))
    assert all(held is copies[0][stage] for later in copies for stage, held in later.items())


def test_auto_copies_from_a_network_file_system():
    cpu = torch.device("cpu")
    residency, why = choose_residency("auto", 8 * GIB, cpu, 0, 64 * GIB, "nfs4")
    assert residency == "ram" and "nfs4" in why
    assert choose_residency("auto", 40 * GIB, cpu, 0, 64 * GIB, "nfs4")[0] == "stream"  # too large to hold
    assert choose_residency("auto", 8 * GIB, cpu, 0, 64 * GIB, "")[0] == "stream"


def test_the_nearest_mount_tells_the_file_system(monkeypatch):
    Mount = namedtuple("Mount", "mountpoint fstype")
    table = {"/": "ext4", "/mnt/lab": "nfs4", "/mnt/lab/scratch": "xfs", "/s": "fuse.sshfs"}
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: [Mount(*m) for m in table.items()])
    assert remote([Path("/home/me/cache")]) == "" and remote([Path("/mnt/lab/scratch/x")]) == ""
    assert remote([Path("/home"), Path("/mnt/lab/cache/faces-1")]) == "nfs4"
    assert remote([Path("/s/cache")]) == "fuse.sshfs" and remote([]) == ""
