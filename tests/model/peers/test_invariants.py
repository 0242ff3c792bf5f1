"""The invariants of all networks, for every peer with several inputs."""

from __future__ import annotations

import pytest

from deiii.data.cache.stages import stages
from tests.helpers.extra_stages import APPEARANCE, SPEECH
from tests.helpers.network_invariants import NetworkInvariants

PEERS = ("late", "gru", "mult", "attention", "vavl", "mbt")
INPUTS = {
    "everything": {},
    "audio alone": {"video": False, "flow": False},
    "video alone": {"audio": False},
    "extra streams beside": {"extra": ["speech", "appearance"]},
    "speech and appearance alone": {
        "extra": ["speech", "appearance"], "video": False, "flow": False, "audio": False,
        "pool": "statistics", "head": "linear", "standardise": True,
    },
    "appearance as tokens": {"extra": ["appearance"], "join": "fusion", "flow": False},
    "deeper, attributes alone, no heads of modalities": {
        "classes": False, "modality_heads": False, "blocks": 2, "ife_blocks": 2,
        "audio_channels": [8, 8, 12], "audio_deltas": True,
    },
}  # fmt: skip
CASES = {f"{name}, {what}": {"name": name, **changes} for name in PEERS for what, changes in INPUTS.items()}


@pytest.fixture(autouse=True)
def packages(monkeypatch):
    """The stages of another package, as if it were installed."""
    for stage in (SPEECH, APPEARANCE):
        monkeypatch.setitem(stages(), stage.name, stage)


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES.keys())
class TestEveryPeer(NetworkInvariants):
    """Shapes, independence of clips, padding, masked steps, gradients, missing modalities."""
