"""The figures of the synthetic tasks in peers.md are those of the stored tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.markdown_tables import table_rows

DOCS = Path(__file__).parents[1] / "docs"
TEXT = (DOCS / "peers.md").read_text(encoding="utf-8").split("## On the tasks of the synthetic corpus", 1)[1]
NETWORKS = {
    "DE-III": ("deiii",),
    "late fusion; equal size": ("late", "late-matched"),
    "GRU; equal size": ("gru", "gru-matched"),
    "MulT; equal size": ("mult", "mult-matched"),
    "two-stream attention; equal size": ("attention", "attention-matched"),
    "VAVL; equal size": ("vavl", "vavl-matched"),
    "MBT; equal size": ("mbt", "mbt-matched"),
    "VAVL along the batch, in batches": ("vavl-batch-axis", "vavl-batch-axis-matched"),
    "the same, one clip at a time": ("vavl-batch-axis-alone",),
}
TASKS = ("order", "told", "binding")


def stored(task: str) -> dict:
    return json.loads((DOCS / f"results/peers-{task}-2026-11-29/table.json").read_text(encoding="utf-8"))


def test_every_figure_is_the_stored_one():
    found = {name: cells for name, *cells in table_rows(TEXT)}
    assert set(found) == set(NETWORKS)
    for name, keys in NETWORKS.items():
        for task, cell in zip(TASKS, found[name], strict=True):
            networks = stored(task)["networks"]
            expected = []
            for row in (networks[key] for key in keys if key in networks):
                seeds = row["by_seed"].values()
                spread = f" ({min(seeds):.2f} to {max(seeds):.2f})" if task == "told" else ""
                expected.append(f"{row['uar']:.3f}{spread}")
            assert cell == "; ".join(expected), (name, task)


@pytest.mark.parametrize("task", ["told", "binding"])
def test_the_smallest_p_values_are_the_stored_ones(task):
    smallest = min(row["p_holm"] for row in stored(task)["networks"].values() if "p_holm" in row)
    line = next(line for line in TEXT.split("- **") if line.startswith(f"`{task}`"))
    assert f"smallest p after Holm: {smallest:.2f}" in " ".join(line.split())


def test_on_order_only_networks_without_relations_between_steps_are_at_chance():
    for name, row in stored("order")["networks"].items():
        if name.startswith(("attention", "vavl-batch-axis")):
            assert row["uar"] < 0.55 and row["p_holm"] < 0.0015
        else:
            assert row["uar"] == 1.0
