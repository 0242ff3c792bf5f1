"""Reading shards: nothing damaged or hostile is read."""

from __future__ import annotations

import h5py
import numpy as np
import psutil
import pytest

from deiii.data.cache import shard_writer
from deiii.data.cache.index import record_of, record_shard
from deiii.data.cache.outcomes import Outcome, Status
from deiii.data.cache.shard_writer import ShardWriter
from deiii.data.cache.shards import Shard, ShardError, content_digest, map_fields, open_shard, read_info
from tests.helpers.small_shards import frames, write


def test_any_flipped_array_byte_changes_the_digest(tmp_path):
    path = write(tmp_path / "a.h5", {"x": frames(3)})
    info, content = read_info(path), path.read_bytes()
    assert content_digest(path, info) == info.digest
    for layout in info.fields.values():
        for at in (layout.offset, layout.offset + layout.nbytes - 1):
            path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            assert content_digest(path, info) != info.digest


def test_the_writer_knows_the_record_of_its_file(tmp_path):
    path, values = tmp_path / "a.h5", np.arange(5000.0)
    with ShardWriter(path, "logmel", "key", {"a": 1}) as writer:
        writer.add("one", Outcome(Status.OK), {"time": values, "valid": values > 9}, "ab")
        writer.add("two", Outcome(Status.FAILED, "why", 0.0), {}, "")
        writer.add("three", Outcome(Status.OK), {"time": values[:0], "valid": values[:0] > 9}, "cd")
    assert writer.info is not None
    assert record_of(path, writer.info, writer.structure) == record_shard(path)
    assert content_digest(path, read_info(path)) == writer.info.digest


@pytest.mark.parametrize("place", ["first", "last", "cut off"])
def test_bytes_that_read_back_differently_are_not_published(tmp_path, monkeypatch, place):
    """The disk returns another byte than was written."""
    write_file = ShardWriter._write

    def write_badly(self):
        write_file(self)
        layout = read_info(self._temporary).fields["time"]
        at = layout.offset + (0 if place == "first" else layout.nbytes - 1)
        content = self._temporary.read_bytes()
        broken = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        self._temporary.write_bytes(broken)
        if place == "cut off":
            info = read_info(self._temporary)
            monkeypatch.setattr(shard_writer, "read_info", lambda path: info)
            self._temporary.write_bytes(content[:at])

    monkeypatch.setattr(ShardWriter, "_write", write_badly)
    with pytest.raises(ShardError, match=r"a\.h5: written bytes read back differently; check the disk"):
        with ShardWriter(tmp_path / "a.h5", "logmel", "key") as writer:
            writer.add("one", Outcome(Status.OK), {"time": np.arange(5000.0)}, "ab")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["key", "reason", "offsets"])
def test_columns_and_settings_that_read_back_differently_are_not_published(tmp_path, monkeypatch, what):
    write_file = ShardWriter._write

    def write_badly(self):
        write_file(self)
        with h5py.File(self._temporary, "r+") as file:
            if what == "key":
                file.attrs["key"] = "kex"
            elif what == "reason":
                file["reason"][1] = b"whz"
            else:
                file["offsets"][1:3] = 6

    monkeypatch.setattr(ShardWriter, "_write", write_badly)
    with pytest.raises(ShardError, match=r"a\.h5: written settings or clips read back differently; check"):
        with ShardWriter(tmp_path / "a.h5", "logmel", "key") as writer:
            writer.add("one", Outcome(Status.OK), {"time": np.arange(5.0)}, "ab")
            writer.add("two", Outcome(Status.FAILED, "why", 0.0), {}, "cd")
            writer.add("three", Outcome(Status.OK), {"time": np.arange(5.0)}, "ef")
    assert list(tmp_path.iterdir()) == []


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
    array = map_fields(path, read_info(path).fields)["frames"]
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 0


def test_an_open_shard_keeps_one_file_open(tmp_path):
    """Python keeps a file open for each map; an overview of 48 clips opened more than 128 files."""
    path, process = write(tmp_path / "a.h5", {"x": frames(3)}), psutil.Process()
    before = process.num_fds()
    shards = [open_shard(path) for _ in range(5)]
    assert len(shards[0].info.fields) > 1
    assert process.num_fds() <= before + len(shards)


def test_a_field_behind_the_end_of_the_file_is_refused(tmp_path):
    path = write(tmp_path / "a.h5", {"x": frames(3)})
    info = read_info(path)
    path.write_bytes(path.read_bytes()[: info.fields["frames"].offset + 5])
    with pytest.raises(ShardError, match="a.h5: the file ends too early"):
        Shard(path, info)
