"""Shards: what goes in comes out, byte for byte, and nothing damaged or hostile is read."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.outcomes import Outcome, Status
from data.shard_writer import ShardWriter
from data.shards import ShardError, content_digest, map_field, open_shard, read_info

OK = Outcome(Status.OK)


def write(path: Path, clips: dict[str, np.ndarray]) -> Path:
    with ShardWriter(path, "faces", "k", {"size": 4}) as shard:
        for name, frames in clips.items():
            arrays = {
                "frames": frames,
                "time": np.arange(len(frames)) / 25,
                "valid": np.ones(len(frames), bool),
            }
            shard.add(name, OK, arrays, source="ab")
    return path


def frames(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_clips_come_out_as_they_went_in(tmp_path_factory, lengths):
    clips = {f"klip ü{i}": frames(n, i) for i, n in enumerate(lengths)}
    path = write(tmp_path_factory.mktemp("s") / "a.h5", clips)
    shard = open_shard(path)
    with h5py.File(path) as file:  # an HDF5 reader sees the same
        assert np.array_equal(file["frames"][()], np.concatenate(list(clips.values())))
    for name, expected in clips.items():
        got = shard.clip(name)
        assert np.array_equal(got["frames"], expected) and got["valid"].dtype == bool
        assert np.array_equal(got["time"], np.arange(len(expected)) / 25)


def test_same_content_same_bytes(tmp_path):
    a, b = (write(tmp_path / f"{n}.h5", {"x": frames(5), "y": frames(2, 1)}) for n in "ab")
    assert a.read_bytes() == b.read_bytes()


def test_clips_without_arrays_keep_their_outcome(tmp_path):
    with ShardWriter(tmp_path / "a.h5", "faces", "k", {}) as shard:
        shard.add("none", Outcome(Status.NO_FACE, "nobody there", 0.0), {}, "ab")
    shard = open_shard(tmp_path / "a.h5")
    assert shard.clip("none") == {} and shard.outcome("none") == Outcome(Status.NO_FACE, "nobody there", 0.0)


def test_failure_leaves_no_file(tmp_path):
    with pytest.raises(KeyboardInterrupt), ShardWriter(tmp_path / "a.h5", "faces", "k", {}) as shard:
        shard.add("x", OK, {"time": np.arange(3.0)}, "ab")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_large_fields_wait_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("data.shard_writer.SPOOL_BYTES", 100)
    clips = {"x": frames(50), "y": frames(70, 1)}
    shard = open_shard(write(tmp_path / "a.h5", clips))
    assert all(np.array_equal(shard.clip(n)["frames"], f) for n, f in clips.items())
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros(3), "b": np.zeros(4)}, "different lengths"),
        ({"a": np.array(["x"], dtype=object)}, "cannot hold object"),
        ({}, "if and only if"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path, arrays, message):
    with pytest.raises(ValueError, match=message), ShardWriter(tmp_path / "a.h5", "faces", "k", {}) as shard:
        shard.add("x", OK, arrays, "ab")


def test_any_flipped_array_byte_changes_the_digest(tmp_path):
    path = write(tmp_path / "a.h5", {"x": frames(3)})
    info, content = read_info(path), path.read_bytes()
    assert content_digest(path, info) == info.digest
    for layout in info.fields.values():
        for at in (layout.offset, layout.offset + layout.nbytes - 1):
            path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            assert content_digest(path, info) != info.digest


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_cut_files_are_refused(tmp_path, share):
    path = write(tmp_path / "a.h5", {"x": frames(300)})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ShardError, match="a.h5"):
        read_info(path)


def external_link(file):
    del file["time"]
    file["time"] = h5py.ExternalLink("/etc/passwd", "/x")


def soft_link(file):
    del file["time"]
    file["time"] = h5py.SoftLink("/time")


def external_data(file):
    del file["time"]
    file.create_dataset("time", (3,), "f8", external=[("/etc/passwd", 0, 24)])


def terabytes(file):
    del file["frames"]
    file.create_dataset("frames", (3, 2**20, 2**20, 3), "u1")


def packed(file):
    content = file["frames"][()]
    del file["frames"]
    file.create_dataset("frames", data=content, compression="gzip")


def objects(file):
    del file["time"]
    file["time"] = np.array([file.ref] * 3, dtype=h5py.ref_dtype)


def falling_offsets(file):
    file["offsets"][...] = [3, 0]


def other_format(file):
    file.attrs["format"] = 99


def group(file):
    file.create_group("more")


HOSTILE = [
    external_link,
    soft_link,
    external_data,
    terabytes,
    packed,
    objects,
    falling_offsets,
    other_format,
    group,
]


@pytest.mark.parametrize("harm", HOSTILE, ids=lambda f: f.__name__)
def test_hostile_files_are_refused_by_name(tmp_path, harm):
    path = write(tmp_path / "a.h5", {"x": frames(3)})
    with h5py.File(path, "r+") as file:
        harm(file)
    with pytest.raises(ShardError, match="a.h5"):
        read_info(path)


def test_maps_are_read_only(tmp_path):
    path = write(tmp_path / "a.h5", {"x": frames(3)})
    array = map_field(path, read_info(path).fields["frames"])
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 0
