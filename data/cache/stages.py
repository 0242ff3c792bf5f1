"""The stages: names, versions, fields and what each depends on."""

from __future__ import annotations

from collections.abc import Mapping

# Raise a stage's version whenever its code changes what it computes: old caches are then not found.
VERSIONS: Mapping[str, int] = {"faces": 3, "flow": 2, "logmel": 2}

UPSTREAM: Mapping[str, str | None] = {"faces": None, "flow": "faces", "logmel": None}

RAFT_ONLY = ("model", "updates", "precision")  # settings of a method that is not in use change nothing

YUNET_ONLY = ("min_score",)

RAFT_WEIGHTS = {
    "raft_small": "Raft_Small_Weights.DEFAULT",
    "raft_large": "Raft_Large_Weights.DEFAULT",
}

MAIN = {"faces": "frames", "flow": "flow", "logmel": "logmel"}  # a stage's large field

SMALL = {"faces": ("time", "valid"), "flow": ("scale", "valid"), "logmel": ("time",)}

OPTIONAL = {"scale"}  # flow stored as float16 has none

FIELDS = {  # what a batch takes of each stage: type and shape after the row; S is the crop, M the mel bands
    "faces": {"frames": ("u1", ("S", "S", 3)), "time": ("f8", ()), "valid": ("?", ())},
    "flow": {"flow": ("i1", ("S", "S", 2)), "scale": ("f4", ()), "valid": ("?", ())},
    "logmel": {"logmel": ("f2", ("M",)), "time": ("f8", ())},
}
