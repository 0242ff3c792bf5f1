"""8. Hostile caches and checkpoints: refused by name before anything is allocated or run."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import training
from checks import check_told, check_whole, shards
from harness import Lost, faults
from laboratory import Lab
from programs import ROOT, main_in
from safetensors.torch import save_file

from data.cache import CacheError, _write_sealed, read_index, read_table
from data.shards import ShardError, open_shard
from data.weights import WeightsError
from model import checkpoint
from pipeline.raft import load_network

hostile = faults("8 hostile")
REFUSED = "refused with its name; nothing allocated, nothing followed"
GROWTH = 300  # MB that a refusal may take


def _bounded(call: Callable[[], object], kind: type[Exception]) -> str:
    """The message of an expected refusal, made without taking memory."""
    before = _megabytes()
    with pytest.raises(kind) as refused:
        call()
    grown = _megabytes() - before
    assert grown < GROWTH, f"took {grown:.0f} MB"
    return str(refused.value)


def _megabytes() -> float:
    text = Path("/proc/self/status").read_text()
    return next(int(t.split()[1]) for t in text.splitlines() if t.startswith("VmHWM")) / 1024


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
    """A chunked array whose filter no build of HDF5 has."""
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


def _shard(name: str, harm) -> None:
    @hostile(f"a shard with {name}", REFUSED, short=True)
    def inject(lab: Lab) -> str:
        victim = lab.folder() / "victim.h5"
        shutil.copyfile(sorted(lab.whole.glob("*/faces-*/*.h5"))[0], victim)
        with h5py.File(victim, "r+") as file:
            harm(file)
        told = _bounded(lambda: open_shard(victim), ShardError)
        assert "victim.h5" in told, told
        return told.split("victim.h5: ")[-1][:90]


for _name, _harm in SHARDS.items():
    _shard(_name, _harm)


@hostile(
    "a hostile shard in a cache, no index, then preprocess", "set aside by name and made anew", short=True
)
def adopted(lab: Lab) -> str:
    cache = lab.copy()
    victim = sorted(cache.glob("*/logmel-*/*.h5"))[0]
    (victim.parent / "index.json").unlink()
    with h5py.File(victim, "r+") as file:
        _external_link(file)
    done = lab.run("preprocess", *lab.words(cache))
    assert done.code == 0 and victim.name in done.text, done.text[-300:]
    victim.with_name(victim.name + ".damaged").unlink()
    check_whole(cache, lab.whole)
    return "1 shard made anew"


@hostile(
    "{case} shard files with random bytes changed",
    "each refused or read, none crashes or grows",
    cases=(400,),
)
def fuzzed_shards(lab: Lab, case: int) -> str:
    """In a process of its own, so that a crash of HDF5 is seen."""
    source = sorted(lab.whole.glob("*/logmel-*/*.h5"))[0]
    code = """
import sys, numpy as np, resource
from pathlib import Path
from data.shards import ShardError, open_shard
data, path, refused = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]), 0
for n in range(int(sys.argv[3])):
    rng, content = np.random.default_rng(n), bytearray(data)
    for _ in range(rng.integers(1, 12)):  # metadata lies at both ends
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
print(refused, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
    command = [sys.executable, "-W", "ignore", "-c", code, str(source), str(lab.folder() / "x.h5"), str(case)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    last = done.stdout.split("\n")[-2]
    assert done.returncode == 0, f"exit status {done.returncode} at file {last}: {done.stderr[-300:]}"
    refused, megabytes = last.split()
    assert int(megabytes) < 1000, f"{megabytes} MB"
    return f"{refused} refused, {case - int(refused)} read, peak {megabytes} MB"


# Indices and clip tables. Their digests are made right: these were written by somebody who knows how.


def _forged(lab: Lab, path_of: str, change: Callable[[dict], None]) -> Path:
    cache = lab.copy()
    path = next(cache.glob(path_of))
    tree = json.loads(path.read_text())
    tree.pop("digest")
    change(tree)
    _write_sealed(path, tree)
    return path


def _first(tree: dict) -> dict:
    return tree["shards"][0]


INDICES: dict[str, Callable[[dict], None]] = {
    "a shard's name that leaves the folder": lambda t: _first(t).update(name="../../../etc/passwd"),
    "an absolute name": lambda t: _first(t).update(name="/etc/passwd"),
    "an object type": lambda t: _first(t)["fields"].update(time=[4096, "|O", [40]]),
    "a string type": lambda t: _first(t)["fields"].update(time=[4096, "|S8", [40]]),
    "an offset outside the file": lambda t: _first(t)["fields"]["time"].__setitem__(0, 1 << 40),
    "a negative offset": lambda t: _first(t)["fields"]["time"].__setitem__(0, -8),
    "a shape of terabytes": lambda t: _first(t)["fields"]["time"].__setitem__(2, [1 << 44]),
    "negative shapes": lambda t: _first(t)["fields"]["time"].__setitem__(2, [-1, -1]),
    "a clip's rows outside the field": lambda t: _first(t)["clips"][-1].__setitem__(2, 1 << 30),
    "a clip's rows below zero": lambda t: _first(t)["clips"][0].__setitem__(1, -9),
    "an unknown status": lambda t: _first(t)["clips"][0].__setitem__(3, "fine"),
    "a number for the shards": lambda t: t.update(shards=3),
}


def _index(name: str, change) -> None:
    @hostile(f"an index with {name}", REFUSED, short=True)
    def inject(lab: Lab) -> str:
        path = _forged(lab, "*/faces-*/index.json", change)
        told = _bounded(lambda: read_index(path.parent), CacheError)
        assert "index.json" in told and "make preprocess" in told, told
        return told.split("index.json ")[-1][:90]


for _name, _change in INDICES.items():
    _index(_name, _change)


TABLES: dict[str, Callable[[dict], None]] = {
    "a label that is no class": lambda t: t["clips"][0].update(label="x" * 9),
    "a clip twice": lambda t: t["clips"].append(t["clips"][0]),
    "an unknown entry": lambda t: t["clips"][0].update(surprise=1),
    "no classes": lambda t: t.pop("classes"),
}


def _table(name: str, change) -> None:
    @hostile(f"a clip table with {name}", REFUSED, short=True)
    def inject(lab: Lab) -> str:
        path = _forged(lab, "*/clips.json", change)
        told = _bounded(lambda: read_table(path.parent.parent, path.parent.name), CacheError)
        assert "clips.json" in told and "make preprocess" in told, told
        return told.split("clips.json ")[-1][:90]


for _name, _change in TABLES.items():
    _table(_name, _change)


@hostile("an index of 100,000 nested lists", REFUSED, short=True)
def nested(lab: Lab) -> str:
    cache = lab.copy()
    path = next(cache.glob("*/faces-*/index.json"))
    path.write_text("[" * 100_000 + "]" * 100_000)
    return _bounded(lambda: read_index(path.parent), CacheError).split("index.json ")[-1][:90]


# Checkpoints


class Payload:
    """Runs a command where it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def _safetensors(path: Path, header: dict | bytes, size: int | None = None, body: bytes = b"") -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text) if size is None else size) + text + body)


def _huge_header(path: Path) -> None:
    _safetensors(path, b"{", size=8 << 30)
    with open(path, "r+b") as file:
        file.truncate(9 << 30)  # sparse


def _huge_header_claim(path: Path) -> None:
    _safetensors(path, b"{}", size=1 << 62)


def _huge_tensor(path: Path) -> None:
    entry = {"dtype": "F32", "shape": [1 << 38], "data_offsets": [0, 1 << 40]}
    _safetensors(path, {"__metadata__": {"info": "{}"}, "w": entry})


def _sparse_tensor(path: Path) -> None:
    entry = {"dtype": "F32", "shape": [1 << 36], "data_offsets": [0, 1 << 38]}
    _safetensors(path, {"__metadata__": {"info": '{"epoch": 0}'}, "w": entry})
    with open(path, "r+b") as file:
        file.truncate((1 << 38) + file.seek(0, 2))


def _outside(path: Path) -> None:
    _safetensors(path, {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 800]}}, body=bytes(8))


def _overlapping(path: Path) -> None:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    _safetensors(path, {"a": entry, "b": entry}, body=bytes(8))


def _pickled(path: Path) -> None:
    with open(path, "wb") as file:
        pickle.dump(Payload(path.with_name("pwned")), file)


def _torch_saved(path: Path) -> None:
    torch.save({"w": Payload(path.with_name("pwned"))}, path)


def _no_info(path: Path) -> None:
    save_file({"w": torch.zeros(2)}, str(path))


def _bad_info(path: Path) -> None:
    save_file({"w": torch.zeros(2)}, str(path), metadata={"info": "[" * 100_000})


def _info_list(path: Path) -> None:
    save_file({"w": torch.zeros(2)}, str(path), metadata={"info": "[1]"})


def _other_names(path: Path) -> None:
    checkpoint.save(path, {"other": torch.zeros(2)}, {"epoch": 0})


def _other_shapes(path: Path) -> None:
    weights, info = checkpoint.load(path)
    name = next(iter(weights))
    checkpoint.save(path, {**weights, name: torch.zeros(7)}, info)


def _half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


CHECKPOINTS = {
    "a header of 8 gigabytes": _huge_header,
    "a header that claims exabytes": _huge_header_claim,
    "a tensor that claims a terabyte": _huge_tensor,
    "a sparse tensor of 256 gigabytes": _sparse_tensor,
    "a tensor outside the file": _outside,
    "overlapping tensors": _overlapping,
    "a pickled payload": _pickled,
    "a payload by torch.save": _torch_saved,
    "no info": _no_info,
    "info of nested lists": _bad_info,
    "info that is a list": _info_list,
    "weights of other names": _other_names,
    "weights of other shapes": _other_shapes,
    "half of its bytes": _half,
    "nothing in it": lambda path: path.write_bytes(b""),
}


def _checkpoint(name: str, harm) -> None:
    @hostile(
        f"a checkpoint with {name}, then evaluate", "a line that names the file; nothing runs", short=True
    )
    def inject(lab: Lab) -> str:
        run = training.undisturbed(lab)
        folder = lab.folder() / "run"
        shutil.copytree(run, folder)
        best = folder / "best.safetensors"
        harm(best)
        before = _megabytes()
        told = check_told(main_in("model", "evaluate", str(folder), "--device", "cpu"), "best.safetensors")
        assert not list(folder.glob("pwned")), "the payload ran"
        assert _megabytes() - before < GROWTH, f"took {_megabytes() - before:.0f} MB"
        return told[-90:]


for _name, _harm in CHECKPOINTS.items():
    _checkpoint(_name, _harm)


@hostile("RAFT weights with a pickled payload", "refused with its name; the payload does not run", short=True)
def raft_payload(lab: Lab) -> str:
    path = lab.folder() / "raft.pth"
    _torch_saved(path)
    with pytest.raises(WeightsError, match="raft.pth") as refused:
        load_network("raft_small", str(path))
    assert not path.with_name("pwned").exists(), "the payload ran"
    return str(refused.value)[-90:]


@hostile(
    "RAFT weights of {case}",
    "refused with the file's name",
    cases=("other shapes", "another network", "garbage"),
)
def raft_other(lab: Lab, case: str) -> str:
    path = lab.folder() / "raft.pth"
    if case == "garbage":
        path.write_bytes(b"garbage" * 999)
    else:
        torch.save(
            {"feature_encoder.convnormrelu.0.weight": torch.zeros(3)} if case == "other shapes" else [1], path
        )
    with pytest.raises(WeightsError, match="raft.pth") as refused:
        load_network("raft_small", str(path))
    return str(refused.value)[-90:]


@hostile(
    "a face detector that is {case}", "one line before any work; exit status 1", cases=("garbage", "empty")
)
def detector(lab: Lab, case: str) -> str:
    path = lab.folder() / "yunet.onnx"
    path.write_bytes(b"\x08\x07garbage" * 500 if case == "garbage" else b"")
    cache = lab.folder()
    done = lab.run("preprocess", *lab.words(cache), "faces.detector=yunet", f"faces.weights={path}")
    told = check_told(done, "yunet.onnx")
    if shards(cache):
        raise Lost("shards were made")
    return told[-90:]
