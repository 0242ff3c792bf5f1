"""The figures in peers.md are those of the stored tables."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shlex
import tarfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import recall_score

from benchmarks.ablation_tasks import FILES, SETTINGS
from deiii.data.config.load import result_settings
from deiii.data.config.words import read_settings
from tests.helpers.markdown_tables import table_rows

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "peers.md").read_text(encoding="utf-8")
TEXT = PAGE.split("## On the tasks of the synthetic corpus", 1)[1]
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


def folder_of(task: str) -> Path:
    return DOCS / f"results/peers-{task}-{'2026-11-30' if task == 'binding' else '2026-11-29'}"


def stored(task: str) -> dict:
    return json.loads((folder_of(task) / "table.json").read_text(encoding="utf-8"))


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


COMPARISONS = {
    "A first comparison": "emotional-av-2026-11-26",
    "A second comparison: voices": "ravdess-speech-2026-11-28",
    "A third comparison: from scratch": "emotional-av-scratch-2026-11-29",
}
THREE_SEEDS = "peers-ravdess-speech-2026-11-30"
OF_THREE_SEEDS = {
    "### Three seeds and equal sizes": (THREE_SEEDS, 12),
    "### Frozen features of face and voice, three seeds": ("peers-emotional-av-2026-11-30", 11),
}
BATCH_AXIS = "peers-ravdess-speech-batch-axis-2026-11-30"
NAMES = {
    "deiii": "DE-III", "late": "late fusion", "gru": "GRU", "mult": "MulT", "vavl": "VAVL",
    "attention": "two-stream attention", "mbt": "MBT",
}  # fmt: skip


@pytest.mark.parametrize("title", COMPARISONS)
def test_the_figures_of_real_clips_are_the_stored_ones(title):
    text = " ".join(PAGE.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0].split())
    file = DOCS / f"results/peers-{COMPARISONS[title]}/table.json"
    networks = json.loads(file.read_text(encoding="utf-8"))["networks"]
    listed = re.search(r"UAR: (.*?)[;:] ", text)[1]
    for key, name in NAMES.items():
        (figure,) = re.findall(rf"{name}(?: and [A-Za-z-]+)? (\d\.\d{{3}})", listed)
        assert figure == f"{networks[key]['uar']:.3f}", name
    batch, alone = (networks[f"vavl-batch-axis{end}"]["uar"] for end in ("", "-alone"))
    assert f"VAVL along the batch: {batch:.3f} in batches, {alone:.3f} one clip at a time" in text
    smallest = min(row["p_holm"] for row in networks.values() if "p_holm" in row)
    assert f"smallest p after Holm: {smallest:.2f}" in text


def test_the_differences_of_the_third_comparison_are_the_stored_ones():
    text = " ".join(PAGE.split("## A third comparison", 1)[1].split("\n## ", 1)[0].split())
    file = DOCS / "results/peers-emotional-av-scratch-2026-11-29/table.json"
    networks = json.loads(file.read_text(encoding="utf-8"))["networks"]
    price = networks["vavl"]["minus_batch_axis"]
    for row in (networks["attention"], networks["attention-matched"], price):
        low, high = row["gap_ci"]
        assert f"{row['gap']:.3f} ({low:.3f} to {high:.3f})" in text
    assert f"p after Holm {price['p_holm']:.2f}" in text
    for key in ("late", "mult", "gru", "attention"):
        assert re.search(rf"{NAMES[key]}(?: has)? {networks[key + '-matched']['uar']:.3f}", text), key
    assert not {"vavl-matched", "mbt-matched"} & networks.keys()
    other = [r["gap_ci"] for key, r in networks.items() if "gap_ci" in r and not key.startswith("attention")]
    assert all(low < 0 < high for low, high in other)


@pytest.mark.parametrize("task", ["told", "binding"])
def test_the_smallest_p_values_are_the_stored_ones(task):
    smallest = min(row["p_holm"] for row in stored(task)["networks"].values() if "p_holm" in row)
    line = next(line for line in TEXT.split("- **") if line.startswith(f"`{task}`"))
    assert f"smallest p after Holm: {smallest:.2f}" in " ".join(line.split())


def test_one_seed_of_mbt_did_not_learn_binding():
    networks = stored("binding")["networks"]
    assert f"{networks['mbt']['by_seed']['1']:.3f}" == "0.470" and "(0.470," in TEXT
    others = [u for key, row in networks.items() if key != "mbt" for u in row["by_seed"].values()]
    assert min(others) >= 0.8 and all(len(row["by_seed"]) == 3 for row in networks.values())


def test_on_order_only_networks_without_relations_between_steps_are_at_chance():
    for name, row in stored("order")["networks"].items():
        if name.startswith(("attention", "vavl-batch-axis")):
            assert row["uar"] < 0.55 and row["p_holm"] < 0.0015
        else:
            assert row["uar"] == 1.0


def test_the_table_of_parts_has_the_figures_of_its_file():
    lines = PAGE.split("### DE-III without its parts", 1)[1].split("\n## ", 1)[0].splitlines()
    file = DOCS / "results/peers-emotional-av-scratch-parts-2026-11-29/table.json"
    networks = json.loads(file.read_text(encoding="utf-8"))["networks"]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")][2:]
    assert len(rows) == len(networks) == 5
    for (_, uar, gap, p), network in zip(rows, networks.values(), strict=True):
        assert uar == f"{network['uar']:.3f}"
        if "gap" in network:
            low, high = network["gap_ci"]
            assert low < 0 < high  # as the text says of all
            assert gap == f"{network['gap']:+.3f} ({low:+.3f} to {high:+.3f})"
            assert p == f"{network['p_holm']:.2f}"
    whole = json.loads((DOCS / "results/peers-emotional-av-scratch-2026-11-29/table.json").read_text())
    assert networks["deiii"]["by_seed"] == whole["networks"]["deiii"]["by_seed"]


@pytest.mark.parametrize("title", OF_THREE_SEEDS)
def test_the_table_of_three_seeds_has_the_figures_of_its_file(title):
    text = PAGE.split(title, 1)[1].split("\n## ", 1)[0]
    rows = {name: cells for name, *cells in table_rows(text)}
    folder, count = OF_THREE_SEEDS[title]
    networks = json.loads((DOCS / f"results/{folder}/table.json").read_text(encoding="utf-8"))["networks"]
    assert len(rows) == len(networks) == count
    for key, network in networks.items():
        peer, _, matched = key.partition("-")
        uar, gap, p = rows[NAMES[peer] + (", equal size" if matched else "")]
        assert uar == f"{network['uar']:.3f}" and len(network["by_seed"]) == 3
        if "gap" in network:
            low, high = network["gap_ci"]
            assert gap == f"{network['gap']:+.3f} ({low:+.3f} to {high:+.3f})"
            assert p == f"{network['p_holm']:.2f}"


def test_no_difference_on_frozen_features_of_emotional_clips_is_shown():
    folder, _ = OF_THREE_SEEDS["### Frozen features of face and voice, three seeds"]
    networks = json.loads((DOCS / f"results/{folder}/table.json").read_text(encoding="utf-8"))["networks"]
    gaps = [row["gap_ci"] for row in networks.values() if "gap_ci" in row]
    assert len(gaps) == 10 and all(low < 0 < high for low, high in gaps)
    assert not {"vavl-matched", "mbt-matched"} & networks.keys()


def test_what_is_said_of_three_seeds_follows_from_the_table():
    text = " ".join(PAGE.split("### Three seeds and equal sizes", 1)[1].split("\n## ", 1)[0].split())
    networks = json.loads((DOCS / f"results/{THREE_SEEDS}/table.json").read_text(encoding="utf-8"))[
        "networks"
    ]
    others = {key: row for key, row in networks.items() if "gap" in row}
    assert all(row["p_holm"] > 0.05 for row in others.values())
    assert {key for key, row in others.items() if np.prod(row["gap_ci"]) > 0} == {"gru-matched", "attention"}
    batch = json.loads((DOCS / f"results/{BATCH_AXIS}/table.json").read_text(encoding="utf-8"))["networks"]
    for key in ("vavl", "mbt"):
        assert networks[f"{key}-matched"]["width"] < networks[key]["width"]
        assert networks[f"{key}-matched"]["uar"] < networks[key]["uar"]
    pair = (batch["vavl-batch-axis"]["uar"], batch["vavl-batch-axis-alone"]["uar"])
    assert "{:.3f} in batches, {:.3f} one clip at a time".format(*pair) in text
    price = batch["vavl"]["minus_batch_axis"]
    assert f"{price['gap']:+.3f} ({price['gap_ci'][0]:+.3f} to {price['gap_ci'][1]:+.3f})" in text
    for seed in ("0", "1"):  # of one training each
        assert batch["vavl"]["by_seed"][seed] == networks["vavl"]["by_seed"][seed]


def test_seed_0_has_the_predictions_of_the_table_of_one_seed():
    """To the last byte; except for VAVL and MBT, which have another number of blocks."""
    with (
        tarfile.open(
            DOCS / f"results/peers-{COMPARISONS['A second comparison: voices']}/peers.tar.xz"
        ) as one,
        tarfile.open(DOCS / f"results/{THREE_SEEDS}/peers.tar.xz") as three,
    ):
        digests = json.load(three.extractfile("sha256.json"))
        for peer in ("deiii", "late", "gru", "mult", "attention"):
            for fold in range(6):
                name = f"{peer}/fold{fold}-seed0.csv"
                content = one.extractfile(name).read()
                assert hashlib.sha256(content).hexdigest() == digests[name]


def test_the_figures_of_three_seeds_follow_from_the_stored_predictions():
    networks = json.loads((DOCS / f"results/{THREE_SEEDS}/table.json").read_text(encoding="utf-8"))[
        "networks"
    ]
    with tarfile.open(DOCS / f"results/{THREE_SEEDS}/peers.tar.xz") as archive:
        for key, network in networks.items():
            for seed, uar in network["by_seed"].items():
                rows = []
                for fold in range(6):
                    text = archive.extractfile(f"{key}/fold{fold}-seed{seed}.csv").read().decode()
                    rows += list(csv.DictReader(io.StringIO(text)))
                assert len(rows) == 1440
                truth, predicted = ([row[name] for row in rows] for name in ("truth", "predicted"))
                assert uar == pytest.approx(recall_score(truth, predicted, average="macro"), abs=1e-12)


@pytest.mark.parametrize("task", TASKS)
def test_the_settings_of_a_task_are_those_of_its_stored_networks(task):
    now = result_settings(read_settings([*FILES, *SETTINGS[task]]))
    assert not changed_since(folder_of(task).name, now)


def changed_since(folder: str, now: dict) -> set[str]:
    """The settings of a stored DE-III that are others now."""
    with tarfile.open(DOCS / f"results/{folder}/peers.tar.xz") as tar:
        then = json.load(tar.extractfile("deiii/settings.json"))
    return {name for name in then if json.loads(json.dumps(now.get(name))) != then[name]}


@pytest.mark.parametrize(
    "title",
    ["A second comparison: voices", "Three seeds and equal sizes", "A third comparison: from scratch"],
)
def test_the_commands_give_the_settings_of_the_stored_networks(title):
    """A default or a configuration that changed since must be named in the command."""
    command = re.findall(r"benchmarks\.peers (.*?)```", PAGE.split(f"# {title}\n", 1)[1], re.DOTALL)[0]
    words = [w for w in shlex.split(command.replace("\\\n", " ")) if "=" in w or w.endswith(".yaml")]
    now = result_settings(read_settings(words))
    assert not changed_since(f"peers-{COMPARISONS[title]}" if title in COMPARISONS else THREE_SEEDS, now)
