"""The ablation's tables from run folders made by hand, and its settings."""

from __future__ import annotations

import csv
import json
import tarfile

import numpy as np
import pytest

from benchmarks.ablation import collect, draw_figure, markdown, variant_config, write_tables
from benchmarks.ablation_tasks import TASKS
from deiii.data.config.load import load_config, to_yaml
from deiii.data.corpora.synthetic.plan import check

CLIPS = [(f"s{s}", f"s{s}/c{n}") for s in range(4) for n in range(5)]


def make_run(folder, task, variant, seed, right):
    """A finished run whose n-th clip was classified rightly where ``right[n]``."""
    path = folder / f"{task}-{variant}-seed{seed}"
    path.mkdir(parents=True)
    with open(path / "predictions.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["clip", "speaker", "truth", "predicted"])
        for (speaker, clip), hit in zip(CLIPS, right, strict=True):
            writer.writerow([clip, speaker, "a", "a" if hit else "b"])
    (path / "metrics.json").write_text(json.dumps({"without": {"audio": {"war": 0.25 + seed / 4}}}))
    (path / "run.json").write_text(json.dumps({"revision": f"revision-of-{seed}", "keys": {}, "classes": []}))
    (path / "config.yaml").write_text(to_yaml(load_config(overrides=[f"train.seed={seed}"])))


@pytest.fixture
def runs(tmp_path):
    rng = np.random.default_rng(0)
    right = {
        (v, s): rng.random(20) < p
        for v, p in (("full", 0.9), ("no_flow", 0.5), ("no_ife", 0.9))
        for s in (0, 1)
    }
    for (variant, seed), hits in right.items():
        if (variant, seed) != ("no_ife", 1):  # not finished yet
            make_run(tmp_path, "cues", variant, seed, hits)
    return tmp_path, right


def test_figures_are_paired_with_the_full_network_by_seed_and_clip(runs):
    folder, right = runs
    rows = collect(folder, "cues", [0, 1])
    assert list(rows) == ["full", "no_flow", "no_ife"]
    means = {k: hits.mean() for k, hits in right.items()}
    assert rows["full"]["accuracy"] == pytest.approx((means["full", 0] + means["full", 1]) / 2)
    gaps = [means["no_flow", s] - means["full", s] for s in (0, 1)]
    assert rows["no_flow"]["against_full"] == pytest.approx(np.mean(gaps))
    assert rows["no_flow"]["against_full_sd"] == pytest.approx(np.std(gaps, ddof=1))
    low, high = rows["no_flow"]["against_full_ci"]
    assert low <= rows["no_flow"]["against_full"] <= high
    # two comparisons: Holm doubles the smaller p-value, and the larger one is at least that
    p = {v: rows[v]["against_full_p"] for v in ("no_flow", "no_ife")}
    small, large = sorted(p, key=p.get)
    assert rows[small]["against_full_p_holm"] == pytest.approx(min(1, 2 * p[small]))
    assert rows[large]["against_full_p_holm"] == pytest.approx(max(p[large], min(1, 2 * p[small])))
    assert rows["no_ife"]["by_seed"] == {0: pytest.approx(means["no_ife", 0])}
    assert rows["no_ife"]["against_full"] == pytest.approx(means["no_ife", 0] - means["full", 0])
    assert rows["full"]["without"] == {"audio": pytest.approx(0.375)}


def test_tables_and_picture_are_written_of_what_is_there(runs):
    folder, _ = runs
    tables = {"cues": collect(folder, "cues", [0, 1])}
    write_tables(folder, tables, [0, 1])
    text = (folder / "table.md").read_text()
    head = next(line for line in text.splitlines() if line.startswith("| variant"))
    body = [line for line in text.splitlines() if line.startswith("| `")]
    assert "revisions revision-of-0, revision-of-1;" in text
    assert len(body) == 3 and all(line.count("|") == head.count("|") for line in body)
    stored = json.loads((folder / "table.json").read_text())
    assert stored["tasks"]["cues"]["full"]["ceiling"] == 1.0
    assert stored["settings"]["train.lr"] == 1e-3 and "train.seed" not in stored["settings"]
    assert (folder / "ablation.png").stat().st_size > 1000
    assert len(draw_figure(tables).axes) == 1 and "no optical flow" in markdown(tables, "")
    with tarfile.open(folder / "predictions.tar.xz") as archive:
        kept = {entry.name: archive.extractfile(entry).read() for entry in archive}
    assert kept == {
        f"predictions-cues-{v}-seed{s}.csv": (folder / f"cues-{v}-seed{s}/predictions.csv").read_bytes()
        for v, s in (("full", 0), ("full", 1), ("no_flow", 0), ("no_flow", 1), ("no_ife", 0))
    }


def test_every_variant_has_settings_and_another_run_folder(tmp_path):
    seen = set()
    for task, variants in TASKS.items():
        for variant, what in variants.items():
            config = variant_config(tmp_path, (task, variant, 1), ["train.epochs=2"])
            assert config.train.epochs == 2 and config.train.seed == 1
            assert config.corpus.synthetic.task == task.removesuffix("_linear")
            check(config.corpus.synthetic)
            streams = config.model.video + config.model.flow + config.model.audio
            if task == "cues":  # each of three independent bits that is out of reach halves the accuracy
                assert what.ceiling == 2.0 ** (streams - 3)
            seen.add(config.train.run)
    assert len(seen) == sum(map(len, TASKS.values()))


@pytest.mark.parametrize(
    ("seeds", "head"),
    [
        ((0,), "| 95 % t over speakers |"),
        ((0, 1), "| 95 % t over seeds and speakers (may be too narrow: only two seeds) |"),
    ],
)
def test_the_table_names_the_interval_that_was_computed(runs, seeds, head):
    text = markdown({"cues": collect(runs[0], "cues", seeds)}, "")
    assert head in text
    fewer = "`no_ife` has 1 seed only (0); the intervals of this row are t intervals over speakers."
    assert (fewer in text) == (len(seeds) == 2)
