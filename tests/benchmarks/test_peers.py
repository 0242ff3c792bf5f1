"""The table of peers from run folders made by hand, its variants and its archive."""

from __future__ import annotations

import csv
import io
import json
import sys
import tarfile
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from benchmarks import peers
from benchmarks.ablation_tasks import FILES, SETTINGS, TASKS
from benchmarks.peers_table import collect, markdown, write_tables
from benchmarks.peers_variants import ABLATIONS, left_out, variants
from deiii.data.config.load import load_config, to_yaml
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.config.words import read_settings
from deiii.data.corpora.clips import Clip, Corpus
from deiii.data.corpora.splits import make_split
from deiii.data.tools.atomic_files import write_json, write_text
from deiii.model.evaluation.predictions import PredictionTable, write_predictions
from deiii.model.intervals import holm
from deiii.model.network.task import Task
from deiii.model.peers.match import count_parameters
from tests.helpers.intervals import recall_interval

CLASSES = ("a", "b", "c")
TASK = Task(CLASSES, (), ())
FOLDS, SEEDS = [0, 1], [0, 1]
CLIPS = tuple(
    Clip(f"s{s}/c{n}", f"s{s}/c{n}.mp4", f"s{s}", CLASSES[n % 3]) for s in range(6) for n in range(6)
)
RIGHT = {"deiii": 0.8, "late": 0.5, "mbt": 0.8, "late-matched": 0.6}


def make_run(config, fold, seed, clips, share, rng):
    folder = Path(config.train.run) / f"fold{fold}-seed{seed}"
    folder.mkdir(parents=True)
    guess = [c.label if rng.random() < share else CLASSES[rng.integers(3)] for c in clips]
    nothing = np.zeros((len(clips), 0))
    table = PredictionTable(
        tuple(c.id for c in clips), tuple(c.speaker for c in clips), CLASSES, tuple(c.label for c in clips),
        tuple(guess), np.eye(3)[[CLASSES.index(g) for g in guess]], (), nothing, nothing,
    )  # fmt: skip
    write_predictions(folder / "predictions.csv", table)
    raters = {"uar": 0.5 + fold / 4, "war": 0.5, "clips": 18}
    write_json(folder / "metrics.json", {"ceilings": {"voice, majority": raters}})
    write_json(
        folder / "run.json",
        {"corpus": "mine", "classes": [], "revision": f"r{seed}", "keys": {"faces": "f00"}},
    )
    write_text(folder / "config.yaml", to_yaml(config))
    return guess


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("peers")
    base = load_config("tiny", ["split.protocol=speakers", "split.val_share=0.2"])
    found = variants(base, folder, ["late", "mbt"], TASK, match=True)
    rng = np.random.default_rng(0)
    corpus = Corpus("mine", ".", CLASSES, CLIPS)
    guesses = {}
    for variant in found:
        for fold in FOLDS:
            base.split.fold = fold
            split = make_split(corpus, base.split)
            for seed in SEEDS:
                if variant.name == "mbt-matched" or (variant.name, seed) == ("mbt", 1):
                    continue  # not trained yet
                clips = [c for c in CLIPS if c.id in split.test]
                guess = make_run(variant.config, fold, seed, clips, RIGHT[variant.name], rng)
                split.save(Path(variant.config.train.run) / f"fold{fold}-seed{seed}/split.json")
                for clip, own in zip(clips, guess, strict=True):
                    guesses[variant.name, seed, clip.id] = own
    return folder, found, guesses


def recall(guesses, name, seed, clips):
    shares = []
    for label in CLASSES:
        own = [guesses[name, seed, c.id] == label for c in clips if c.label == label]
        shares.append(np.mean(own))
    return np.mean(shares)


def test_figures_are_over_all_folds_and_paired_by_seed(made):
    _, found, guesses = made
    rows = collect(found, FOLDS, SEEDS, TASK)
    assert list(rows) == ["deiii", "late", "late-matched", "mbt"]
    tested = [c for c in CLIPS if ("deiii", 0, c.id) in guesses]
    for name, row in rows.items():
        seeds = [0] if name == "mbt" else SEEDS
        each = [recall(guesses, name, seed, tested) for seed in seeds]
        assert row["uar"] == pytest.approx(np.mean(each)) and row["by_seed"] == dict(
            zip(seeds, each, strict=True)
        )
        hits = [guesses[name, s, c.id] == c.label for s in seeds for c in tested]
        assert row["war"] == pytest.approx(np.mean(hits)) and row["clips"] == len(tested)
        if name != "deiii":
            first = [recall(guesses, "deiii", seed, tested) for seed in seeds]
            assert row["gap"] == pytest.approx(np.mean(each) - np.mean(first))
            assert row["gap_ci"][0] < row["gap"] < row["gap_ci"][1]
    one_seed = [(c.speaker, c.label, guesses["mbt", 0, c.id]) for c in tested]
    assert rows["mbt"]["uar_ci"] == pytest.approx(recall_interval(one_seed, len(tested)), abs=1e-9)


def test_p_values_are_corrected_for_their_number(made):
    rows = collect(made[1], FOLDS, SEEDS, TASK)
    ranked = sorted((row["p"], row["p_holm"]) for row in rows.values() if "p" in row)
    assert len(ranked) == 3 and ranked[0][1] == pytest.approx(min(1, 3 * ranked[0][0]))
    assert all(p <= corrected for p, corrected in ranked)


def test_parameters_and_widths_are_those_of_each_network(made):
    rows = collect(made[1], FOLDS, SEEDS, TASK)
    for variant in made[1]:
        if variant.name in rows:
            size = sum(p.numel() for p in TASK.network(variant.config).parameters())
            assert rows[variant.name]["parameters"] == size
    target = rows["deiii"]["parameters"]
    assert rows["late"]["width"] == rows["deiii"]["width"]
    assert abs(rows["late-matched"]["parameters"] - target) < abs(rows["late"]["parameters"] - target)


def test_tables_picture_and_every_prediction_are_written(made):
    folder, found, guesses = made
    text = write_tables(found, collect(found, FOLDS, SEEDS, TASK), FOLDS, SEEDS, TASK)
    head = next(line for line in text.splitlines() if line.startswith("| network"))
    body = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(body) == 4 and all(line.count("|") == head.count("|") for line in body)
    assert "revisions r0, r1;" in text and "2 folds" in text and (folder / "peers.png").stat().st_size > 1000
    tree = json.loads((folder / "table.json").read_text())
    assert tree["protocol"] == "speakers" and len(tree["splits"]["1"]["digest"]) == 64
    assert tree["runs"]["late/fold1-seed1"] == "r1" and tree["keys"] == {"faces": "f00"}
    seen = {}
    with tarfile.open(folder / "peers.tar.xz") as tar:
        names = tar.getnames()
        for entry in tar:
            if entry.name.endswith(".csv"):
                variant, run = entry.name.split("/")
                stored = io.TextIOWrapper(tar.extractfile(entry), encoding="utf-8")
                for row in csv.DictReader(stored):
                    seen[variant, int(run[-5]), row["clip"]] = row["predicted"]
    assert seen == guesses and "late/settings.json" in names
    fewer = "`mbt` has 1 seed only (0); the intervals of this row are t intervals over speakers."
    assert (
        "human raters (voice, majority): UAR 0.625, WAR 0.500 on 36 of these clips, mean over folds" in text
    )
    assert fewer in text and "each interval is a t interval over seeds and speakers (may be" in text
    before = (folder / "peers.tar.xz").read_bytes()
    write_tables(found, collect(found, FOLDS, SEEDS, TASK), FOLDS, SEEDS, TASK)
    assert (folder / "peers.tar.xz").read_bytes() == before


def test_variants_differ_in_the_network_alone(tmp_path):
    base = load_config("tiny", ["model.ife_blocks=2", "train.lr=0.002"])
    found = variants(base, tmp_path, ["gru", "vavl", "vavl-batch-axis"], TASK, match=False)
    assert [v.name for v in found] == ["deiii", "gru", "vavl", "vavl-batch-axis", "vavl-batch-axis-alone"]
    assert [v.config.model.batch_axis for v in found] == [False, False, False, True, True]
    for variant in found:
        variant.config.model.name, variant.config.model.batch_axis = "deiii", False
        variant.config.train.run = base.train.run
        assert variant.config == base
    with pytest.raises(ConfigError, match="--only names grru; the networks are deiii, late"):
        variants(base, tmp_path, ["grru"], TASK, match=False)


def test_ablations_have_the_changes_of_the_ablation(tmp_path):
    base = load_config("tiny")
    names = list(ABLATIONS)
    assert names == ["deiii-ov-concat", "deiii-no-conformer", "deiii-no-ife", "deiii-fused-head-only"]
    found = variants(base, tmp_path, ["late", *names], TASK, match=True)
    assert [v.name for v in found] == ["deiii", *names, "late", "late-matched"]
    assert left_out(base, tmp_path, names, TASK) == []
    for variant in found[1:5]:
        changes = TASKS["cues"][variant.name.removeprefix("deiii-").replace("-", "_")].changes
        assert variant.config == load_config("tiny", [*changes, f"train.run={tmp_path / variant.name}"])
        assert count_parameters(variant.config, TASK) < count_parameters(base, TASK)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["model.flow=false"], {"deiii-ov-concat"}),
        (["model.audio=false"], {"deiii-no-ife", "deiii-fused-head-only"}),
        (["model.video=false", "model.flow=false"], set(ABLATIONS) - {"deiii-no-conformer"}),
        (["model.conformer=false", "model.ov=concat"], {"deiii-no-conformer", "deiii-ov-concat"}),
    ],
)
def test_an_ablation_of_a_part_that_is_not_there_is_left_out_with_a_reason(tmp_path, words, expected):
    base = load_config("tiny", words)
    found = variants(base, tmp_path, list(ABLATIONS), TASK, match=False)
    assert {v.name for v in found} == {"deiii", *ABLATIONS} - expected
    reasons = left_out(base, tmp_path, list(ABLATIONS), TASK)
    assert {reason.split(" is left out: it needs ")[0] for reason in reasons} == expected
    assert left_out(base, tmp_path, ["late"], TASK) == []


@pytest.fixture(scope="module")
def priced(tmp_path_factory):
    """VAVL and VAVL along the batch on one fold and two seeds, the second without the last seed."""
    folder = tmp_path_factory.mktemp("priced")
    base = load_config("tiny", ["split.protocol=speakers"])
    found = variants(base, folder, ["vavl", "vavl-batch-axis"], TASK, match=False)[:3]
    rng, guesses = np.random.default_rng(1), {}
    for variant, share in zip(found, (0.9, 0.9, 0.2), strict=True):
        for seed in SEEDS if variant.name != "vavl-batch-axis" else SEEDS[:1]:
            guess = make_run(variant.config, 0, seed, CLIPS, share, rng)
            for clip, own in zip(CLIPS, guess, strict=True):
                guesses[variant.name, seed, clip.id] = own
    return found, guesses


def test_the_price_of_the_batch_axis_is_paired_and_counts_in_the_correction(priced):
    found, guesses = priced
    rows = collect(found, [0], SEEDS, TASK)
    price = rows["vavl"]["minus_batch_axis"]
    gap = recall(guesses, "vavl", 0, CLIPS) - recall(guesses, "vavl-batch-axis", 0, CLIPS)
    assert price["gap"] == pytest.approx(gap) and price["by_seed"] == {0: pytest.approx(gap)}
    assert price["gap_ci"][0] < gap < price["gap_ci"][1]
    values = sorted([price["p"], rows["vavl"]["p"], rows["vavl-batch-axis"]["p"]])
    corrected = sorted([price["p_holm"], rows["vavl"]["p_holm"], rows["vavl-batch-axis"]["p_holm"]])
    assert corrected == pytest.approx(holm(values))
    (line,) = [line for line in markdown(rows, "").splitlines() if line.startswith("| *")]
    assert f"| {gap:+.3f} |" in line and line.count("|") == markdown(rows, "").splitlines()[4].count("|")


def test_no_price_without_both_networks(priced):
    for name in ("vavl", "vavl-batch-axis"):
        rows = collect([v for v in priced[0] if v.name != name], [0], SEEDS, TASK)
        assert not any("minus_batch_axis" in row for row in rows.values())
        assert "| *" not in markdown(rows, "")


def test_rows_that_are_left_out_are_named_in_the_table(made):
    folder, found, _ = made
    words = ["deiii-no-ife is left out: it needs audio"]
    text = write_tables(found, collect(found, FOLDS, SEEDS, TASK), FOLDS, SEEDS, TASK, words)
    assert "`deiii-no-ife` is left out: it needs audio." in text
    assert json.loads((folder / "table.json").read_text())["left_out"] == words


def test_a_network_that_is_not_finished_has_no_difference(made):
    _, found, _ = made
    rows = collect([v for v in found if v.name != "deiii"], FOLDS, SEEDS, TASK)
    assert all("gap" not in row for row in rows.values()) and markdown(rows, "")


def test_no_network_is_trained_twice_where_its_width_matches_already(tmp_path):
    base = read_settings([*FILES, *SETTINGS["told"]])
    found = variants(base, tmp_path, ["late", "mbt", "vavl"], Task(("left", "right"), (), ()), match=True)
    widths = {v.name: v.config.model.width for v in found}
    assert widths["late-matched"] > widths["late"]
    assert sorted(widths) == ["deiii", "late", "late-matched", "mbt", "vavl"]


def test_a_task_brings_the_settings_of_the_ablation(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(peers, "preprocess", lambda config, corpus: seen.update(config=config, corpus=corpus))
    monkeypatch.setattr(peers.FeatureSet, "open", Mock(side_effect=ConfigError("stop here")))
    words = ["--task", "binding", f"corpus.root={tmp_path}/raw", "train.epochs=3"]
    words.append("corpus.synthetic.speakers=2")  # 24 in the settings, whose clips take more than a minute
    monkeypatch.setattr(sys, "argv", ["peers", *words])
    with pytest.raises(ConfigError, match="stop here"):
        peers.main()
    assert seen["config"].train.epochs == 3 and len(seen["corpus"].clips) == 2 * 2 * 30
    expected = read_settings([*FILES, *SETTINGS["binding"], *words[2:]])
    assert seen["config"] == expected and expected.corpus.synthetic.task == "binding"
    assert read_settings([*FILES, *SETTINGS["binding"]]).corpus.synthetic.speakers == 24


def test_one_finished_seed_has_intervals_over_speakers_and_its_predictions_alone_are_kept(made):
    """Two seeds were asked for, or trained before; the table has one of them."""
    folder, found, guesses = made
    some = [variant for variant in found if variant.name in ("deiii", "late")]
    text = write_tables(some, collect(some, FOLDS, [0], TASK), FOLDS, [0, 7], TASK)
    assert (
        "a t interval over speakers, in Wilson's form except for differences;" in text and "Seeds 0;" in text
    )
    write_tables(some, collect(some, FOLDS, [0], TASK), FOLDS, [0], TASK)
    with tarfile.open(folder / "peers.tar.xz") as tar:
        kept = {name for name in tar.getnames() if name.endswith(".csv")}
    assert kept == {f"{name}/fold{fold}-seed0.csv" for name in ("deiii", "late") for fold in FOLDS}
