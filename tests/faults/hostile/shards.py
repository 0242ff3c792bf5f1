"""8. Hostile files: refused by name before anything is allocated or run. This module: shards."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable

import h5py
import numpy as np
import pytest

from deiii.data.cache.shards import ShardError, open_shard
from tests.faults.checks import check_identical
from tests.faults.harness import faults
from tests.faults.peak import new_peak_mb, peak_mb
from tests.faults.processes import ROOT
from tests.faults.workspace import Workspace

hostile = faults("8 hostile")
REFUSED = "refused by name; no memory allocated, no link followed"
GROWTH = 300  # MB that may be allocated


def bounded(call: Callable[[], object], kind: type[Exception]) -> str:
    """The message of an expected error, after checking that little memory was allocated."""
    before = new_peak_mb()
    with pytest.raises(kind) as refused:
        call()
    grown = peak_mb() - before
    assert grown < GROWTH, f"took {grown:.0f} MB"
    return str(refused.value)


def _replace(file: h5py.File, name: str, make: Callable[[], object]) -> None:
    del file[name]
    make()


def _external_link(f):
    _replace(f, "time", lambda: f.__setitem__("time", h5py.ExternalLink("/etc/passwd", "/x")))


def _soft_cycle(f):
    _replace(f, "time", lambda: f.__setitem__("time", h5py.SoftLink("/time")))


def _two_soft_links(f):
    _replace(f, "time", lambda: f.__setitem__("time", h5py.SoftLink("/other")))
    f["other"] = h5py.SoftLink("/time")


def _external_data(f):
    shape = f["time"].shape
    _replace(f, "time", lambda: f.create_dataset("time", shape, "f8", external=[("/etc/passwd", 0, 1 << 20)]))


def _virtual(f):
    layout = h5py.VirtualLayout(f["time"].shape, "f8")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", f["time"].shape)
    _replace(f, "time", lambda: f.create_virtual_dataset("time", layout))


def _terabytes(f):
    rows = f["frames"].shape[0]
    _replace(f, "frames", lambda: f.create_dataset("frames", (rows, 1 << 20, 1 << 20, 3), "u1"))


def _terabytes_of_clips(f):
    _replace(f, "offsets", lambda: f.create_dataset("offsets", (1 << 40,), "i8"))


def _chunks_of_terabytes(f):
    _replace(
        f, "frames", lambda: f.create_dataset("frames", (1 << 40,), "u1", chunks=(1 << 30,), fillvalue=7)
    )


def _unknown_filter(f):
    """A chunked array with the shuffle filter."""
    shape = f["time"].shape
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk(shape)
    plist.set_filter(h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FLAG_OPTIONAL)
    del f["time"]
    h5py.h5d.create(f.id, b"time", h5py.h5t.NATIVE_DOUBLE, h5py.h5s.create_simple(shape), plist)


def _object_references(f):
    rows = f["time"].shape[0]
    _replace(f, "time", lambda: f.__setitem__("time", np.array([f.ref] * rows, dtype=h5py.ref_dtype)))


def _strings_as_numbers(f):
    rows = f["time"].shape[0]
    _replace(f, "time", lambda: f.__setitem__("time", np.array([b"x"] * rows, "S8")))


def _compound(f):
    rows = f["time"].shape[0]
    _replace(f, "time", lambda: f.__setitem__("time", np.zeros(rows, [("a", "f8"), ("b", "i4")])))


def _vlen(f):
    _replace(f, "clip_id", lambda: f.create_dataset("clip_id", (4,), h5py.string_dtype()))


def _offsets_beyond(f):
    f["offsets"][-1] = 1 << 50


def _offsets_negative(f):
    f["offsets"][1] = -5


def _status_unknown(f):
    f["status"][0] = b"fine"


def _more_groups(f):
    g = f.create_group("a")
    g["back"] = f["time"]


def _huge_attribute(f):
    f.attrs.create("provenance", np.zeros(8000, "f8"))


def _format_is_text(f):
    f.attrs["format"] = "one"


def _digest_missing(f):
    del f.attrs["digest"]


SHARDS = {
    "an external link": _external_link,
    "a soft link to itself": _soft_cycle,
    "soft links in a circle": _two_soft_links,
    "data in /etc/passwd": _external_data,
    "a virtual array over /etc/passwd": _virtual,
    "a claimed shape of terabytes": _terabytes,
    "terabytes of clips": _terabytes_of_clips,
    "chunks of gigabytes": _chunks_of_terabytes,
    "a filter": _unknown_filter,
    "object references": _object_references,
    "strings for numbers": _strings_as_numbers,
    "a compound type": _compound,
    "variable-length strings": _vlen,
    "offsets beyond its rows": _offsets_beyond,
    "negative offsets": _offsets_negative,
    "an unknown status": _status_unknown,
    "groups": _more_groups,
    "an array as provenance": _huge_attribute,
    "text as its format": _format_is_text,
    "no digest": _digest_missing,
}


def _shard(name: str, damage) -> None:
    @hostile(f"a shard with {name}", REFUSED, short=True)
    def inject(work: Workspace) -> str:
        victim = work.folder() / "victim.h5"
        shutil.copyfile(sorted(work.undisturbed.glob("*/faces-*/*.h5"))[0], victim)
        with h5py.File(victim, "r+") as file:
            damage(file)
        message = bounded(lambda: open_shard(victim), ShardError)
        assert "victim.h5" in message, message
        return message.split("victim.h5: ")[-1][:90]


for _name, _damage in SHARDS.items():
    _shard(_name, _damage)


@hostile(
    "a hostile shard in a cache, no index, then preprocess",
    "renamed, named in the output and recomputed",
    short=True,
)
def adopted(work: Workspace) -> str:
    cache = work.copy()
    victim = sorted(cache.glob("*/logmel-*/*.h5"))[0]
    (victim.parent / "index.json").unlink()
    with h5py.File(victim, "r+") as file:
        _external_link(file)
    done = work.preprocess(cache)
    assert done.code == 0 and victim.name in done.text, done.text[-300:]
    victim.with_name(victim.name + ".damaged").unlink()
    check_identical(cache, work.undisturbed)
    return "1 shard recomputed"


@hostile(
    "{case} shard files with random bytes changed",
    "each refused or read; no crash, no memory growth",
    cases=(400,),
)
def fuzzed_shards(work: Workspace, case: int) -> str:
    """In a process of its own, so that a crash of HDF5 is noticed."""
    source = sorted(work.undisturbed.glob("*/logmel-*/*.h5"))[0]
    code = """
import sys, numpy as np
from pathlib import Path
from deiii.data.cache.shards import ShardError, open_shard
from tests.faults.peak import peak_mb
data, path, refused = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]), 0
for n in range(int(sys.argv[3])):
    rng, content = np.random.default_rng(n), bytearray(data)
    for _ in range(rng.integers(1, 12)):  # metadata is at both ends
        at = int(rng.integers(0, 4096) if rng.random() < 0.6 else rng.integers(0, len(content)))
        content[at] = int(rng.integers(256))
    path.write_bytes(content)
    print(n, flush=True)
    try:
        shard = open_shard(path)
        for row in shard.info.clips:
            [a.sum() for a in shard.clip(row.id).values()]
    except ShardError:
        refused += 1
print(refused, round(peak_mb()))
"""
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        code,
        str(source),
        str(work.folder() / "x.h5"),
        str(case),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    last = done.stdout.split("\n")[-2]
    assert done.returncode == 0, f"exit status {done.returncode} at file {last}: {done.stderr[-300:]}"
    refused, megabytes = last.split()
    assert int(megabytes) < 1000, f"{megabytes} MB"
    return f"{refused} refused, {case - int(refused)} read, peak {megabytes} MB"
