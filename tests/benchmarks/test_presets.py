"""The page of presets: parameters and operations are those of the networks of the configurations."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.presets import PRESETS, flops, network_of
from deiii.data.config.load import load_config

PAGE = Path("docs/presets.md").read_text(encoding="utf-8")
ROWS = {
    line.split("`")[1]: [cell.strip() for cell in line.split("|")[2:-1]]
    for line in PAGE.splitlines()
    if line.startswith("| `")
}


@pytest.mark.parametrize("name", PRESETS)
def test_the_page_has_the_parameters_and_operations_of_each_preset(name):
    config = load_config(f"configs/{name}.yaml")
    parameters = sum(p.numel() for p in network_of(config).parameters())
    assert ROWS[name][:2] == [f"{parameters:,}", f"{flops(config) / 1e9:.2f}"]


def test_the_page_has_all_presets():
    assert list(ROWS) == list(PRESETS)
