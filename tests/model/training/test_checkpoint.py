"""Checkpoints are read back bit for bit, damage is an error, a failed write leaves nothing."""

import pytest
import torch
from torch import nn

from deiii.model.training import checkpoint


def test_round_trip(tmp_path):
    tensors = {"a": torch.randn(3, 2).t(), "b": torch.tensor(3), "c": torch.ones(2, dtype=torch.bfloat16)}
    checkpoint.save(tmp_path / "x.safetensors", tensors, {"epoch": 3, "row": {"uar": None}})
    found, info = checkpoint.load(tmp_path / "x.safetensors")
    assert info == {"epoch": 3, "row": {"uar": None}}
    assert all(torch.equal(found[k], tensors[k]) and found[k].dtype == tensors[k].dtype for k in tensors)
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("damage", [b"", b"\x00" * 64, b"junk", None])
def test_damage_is_an_error(tmp_path, damage):
    path = tmp_path / "x.safetensors"
    checkpoint.save(path, {"a": torch.randn(100)}, {})
    path.write_bytes(path.read_bytes()[:-50] if damage is None else damage)
    with pytest.raises(checkpoint.CheckpointError, match="damaged"):
        checkpoint.load(path)
    with pytest.raises(checkpoint.CheckpointError, match="no checkpoint"):
        checkpoint.load(tmp_path / "y")


def test_weights_of_other_settings_are_an_error(tmp_path):
    with pytest.raises(checkpoint.CheckpointError, match="does not fit"):
        checkpoint.load_into(nn.Linear(2, 2), nn.Linear(3, 2).state_dict(), "x")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.safetensors"
    checkpoint.save(path, {"a": torch.ones(1)}, {})
    with pytest.raises(ValueError, match="JSON"):
        checkpoint.save(path, {"a": torch.zeros(1)}, {"bad": float("nan")})
    assert checkpoint.load(path)[0]["a"] == 1 and len(list(tmp_path.iterdir())) == 1


def test_an_optimizer_continues_where_it_stopped():
    def run(steps, model, optimizer):
        for i in range(steps):
            optimizer.zero_grad()
            ((model(torch.full((1, 3), float(i + 1)))) ** 2).sum().backward()
            optimizer.step()

    torch.manual_seed(0)
    a, b = nn.Linear(3, 2), nn.Linear(3, 2)
    first, second = (torch.optim.AdamW(m.parameters(), lr=0.1) for m in (a, b))
    run(3, a, first)
    b.load_state_dict(a.state_dict())
    checkpoint.load_optimizer(second, checkpoint.optimizer_tensors(first))
    run(2, a, first)
    run(2, b, second)
    assert torch.equal(a.weight, b.weight)
