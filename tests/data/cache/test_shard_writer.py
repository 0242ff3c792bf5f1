"""Writing shards: what goes in comes out, byte for byte; what cannot be written leaves nothing."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import tempfile

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deiii.data.cache.outcomes import Outcome, Status
from deiii.data.cache.shard_writer import ShardWriter
from deiii.data.cache.shards import open_shard
from tests.helpers.small_shards import OK, frames, write


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


def test_shards_are_written_where_hdf5_gets_no_file_lock(tmp_path):
    """Network file systems without locks answer an error, as the kernel does to a second lock of a file."""
    shard = ShardWriter(tmp_path / "a.h5", "faces", "k", {})
    with open(shard._temporary, "w") as held, shard:
        fcntl.flock(held, fcntl.LOCK_EX)
        shard.add("x", OK, {"time": np.arange(3.0)}, "ab")
    assert open_shard(tmp_path / "a.h5").clip("x")["time"].tolist() == [0.0, 1.0, 2.0]


def test_a_disk_that_became_read_only_is_named_by_the_shard(tmp_path, monkeypatch):
    """Such a disk refuses to remove files too, by an error that named the hidden temporary file."""

    def refuse(path, *_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    with pytest.raises(OSError) as caught, ShardWriter(tmp_path / "a.h5", "faces", "k", {}) as shard:
        shard.add("x", OK, {"time": np.arange(3.0)}, "ab")
        monkeypatch.setattr(ShardWriter, "_write", lambda self: refuse(self._temporary))
        monkeypatch.setattr(os, "unlink", refuse)
    assert caught.value.filename == str(tmp_path / "a.h5")


def test_a_full_disk_is_named_although_its_spool_cannot_be_closed(tmp_path, monkeypatch):
    """Closing the file without a name writes its last bytes once more, and fails without a name."""
    monkeypatch.setattr("deiii.data.cache.shard_writer.SPOOL_BYTES", 0)
    with open("/dev/full", "wb") as full, pytest.raises(OSError) as caught:
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: full)
        with ShardWriter(tmp_path / "a.h5", "faces", "k", {}) as shard:
            for i in range(4000):
                shard.add(f"x{i}", OK, {"time": np.arange(3.0)}, "ab")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path))


@pytest.mark.parametrize("shape", [(3, 0), (0, 4)], ids=["rows without bytes", "no rows"])
def test_fields_without_bytes_keep_their_shape(tmp_path, shape):
    with ShardWriter(tmp_path / "a.h5", "own", "k", {}) as shard:
        shard.add("x", OK, {"found": np.zeros(shape, np.float32), "time": np.zeros(shape[0])}, "ab")
    clip = open_shard(tmp_path / "a.h5").clip("x")
    assert clip["found"].shape == shape and clip["found"].dtype == np.float32


def test_large_fields_wait_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("deiii.data.cache.shard_writer.SPOOL_BYTES", 100)
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


def test_a_refused_clip_leaves_nothing_behind(tmp_path):
    def arrays(value: float, kind: str) -> dict[str, np.ndarray]:
        return {"logmel": np.full((2, 3), value, "f4"), "time": np.arange(2, dtype=kind)}

    with ShardWriter(tmp_path / "a.h5", "logmel", "k", {}) as shard:
        shard.add("x", OK, arrays(1, "f8"), "ab")
        with pytest.raises(ValueError, match="y: field 'time' is float32"):
            shard.add("y", OK, arrays(2, "f4"), "ab")
        shard.add("z", OK, arrays(3, "f8"), "ab")
    clip = open_shard(tmp_path / "a.h5").clip("z")
    assert np.all(clip["logmel"] == 3) and clip["time"].tolist() == [0, 1]


LIMITED = """
import resource, sys
from pathlib import Path
from tests.helpers.small_shards import frames, write
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    write(Path(sys.argv[1]), {"x": frames(1000)})
except OSError as error:
    print(error.errno, error.filename)
"""


@pytest.mark.parametrize("limit", [10_000, 66_000], ids=["of few bytes", "of nearly enough"])
def test_a_limit_on_the_size_of_files_is_reported_with_the_file(tmp_path, limit):
    """HDF5 reports it in several errors, of which the last one has no number."""
    path = tmp_path / "a.h5"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path), str(limit)], capture_output=True, text=True, timeout=120
    )
    number, _, name = done.stdout.strip().partition(" ")
    assert int(number) == errno.EFBIG and path.name in name, done
    assert done.stderr == "" and list(tmp_path.iterdir()) == []
