"""8. Hostile files, continued: checkpoints and weights; nothing in them is run or allocated."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from deiii.data.tools.weights import WeightsError
from deiii.model.training import checkpoint
from deiii.pipeline.flow.raft.network import load_network
from tests.faults import training
from tests.faults.checks import check_error
from tests.faults.harness import Lost
from tests.faults.hostile.shards import GROWTH, hostile
from tests.faults.peak import new_peak_mb, peak_mb
from tests.faults.processes import main_in
from tests.faults.workspace import Workspace, shards


class Payload:
    """An object that runs a command when it is unpickled."""

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
    "no content": lambda path: path.write_bytes(b""),
}


def _checkpoint(name: str, damage) -> None:
    @hostile(
        f"a checkpoint with {name}, then evaluate",
        "an error line that names the file; nothing runs",
        short=True,
    )
    def inject(work: Workspace) -> str:
        run = training.undisturbed(work)
        folder = work.folder() / "run"
        shutil.copytree(run, folder)
        best = folder / "best.safetensors"
        damage(best)
        before = new_peak_mb()
        message = check_error(main_in("evaluate", str(folder), "train.device=cpu"), "best.safetensors")
        assert not list(folder.glob("pwned")), "the payload ran"
        assert peak_mb() - before < GROWTH, f"took {peak_mb() - before:.0f} MB"
        return message[-90:]


for _name, _damage in CHECKPOINTS.items():
    _checkpoint(_name, _damage)


@hostile("RAFT weights with a pickled payload", "refused by name; the payload does not run", short=True)
def raft_payload(work: Workspace) -> str:
    path = work.folder() / "raft.pth"
    _torch_saved(path)
    with pytest.raises(WeightsError, match="raft.pth") as refused:
        load_network("raft_small", str(path))
    assert not path.with_name("pwned").exists(), "the payload ran"
    return str(refused.value)[-90:]


@hostile(
    "RAFT weights of {case}",
    "refused by name",
    cases=("other shapes", "another network", "garbage"),
)
def raft_other(work: Workspace, case: str) -> str:
    path = work.folder() / "raft.pth"
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
    "a face detector that is {case}",
    "an error line before any work; exit status 1",
    cases=("garbage", "empty"),
)
def detector(work: Workspace, case: str) -> str:
    path = work.folder() / "yunet.onnx"
    path.write_bytes(b"\x08\x07garbage" * 500 if case == "garbage" else b"")
    cache = work.folder()
    done = work.preprocess(cache, "faces.detector=yunet", f"faces.weights={path}")
    message = check_error(done, "yunet.onnx")
    if shards(cache):
        raise Lost("shards were computed")
    return message[-90:]
