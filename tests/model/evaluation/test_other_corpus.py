"""A run scored on another corpus: the figures are those of its predictions, what is left out is counted."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

from deiii.__main__ import main
from deiii.data.cache.index import CacheError
from deiii.model.evaluation.other_corpus import evaluate_on

LABELS = ["A", "b", "other", "a", "b", ""]  # A is another spelling of a


@pytest.fixture(scope="module")
def other(seen_run, tmp_path_factory):
    """The clips of the run under other names and labels, preprocessed into the run's cache."""
    folder = tmp_path_factory.mktemp("other")
    with open(folder / "rest.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "speaker", "label", "valence"])
        for i, label in enumerate(LABELS):
            shutil.copy(seen_run / f"raw/c{i}.mp4", folder / f"d{i}.mp4")
            table.writerow([f"d{i}.mp4", f"s{i}", label, "" if label else 0.5])
    words = [str(seen_run / "run/config.yaml"), f"corpus.root={folder}", "corpus.table=rest.csv", "workers=1"]
    assert main(["preprocess", *words]) == 0
    (folder / "rest.yaml").write_text(f"corpus: {{name: table, root: '{folder}', table: rest.csv}}\n")
    return folder


def test_scores_common_classes_and_counts_the_rest(seen_run, other, capsys):
    words = ["evaluate", str(seen_run / "run"), "--on", str(other / "rest.yaml")]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "5 of 6 clips of table-rest" in said
    assert "1 clip left out: they have no label that the network predicts" in said
    folder = seen_run / "run/on-table-rest"
    metrics = json.loads((folder / "metrics.json").read_text())
    with open(folder / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    with open(seen_run / "run/predictions.csv", newline="") as file:
        tested = {row["clip"]: row for row in csv.DictReader(file)}
    assert [row["clip"] for row in rows] == ["d0", "d1", "d3", "d4", "d5"]
    labelled = [row for row in rows if row["truth"]]
    right = sum(row["truth"] == row["predicted"] for row in labelled)
    assert metrics["test"]["war"] == pytest.approx(right / len(labelled))
    assert metrics["classes"] == ["a", "b"]
    for name, row in tested.items():  # the same recording has the same probabilities in both corpora
        for same in (r for r in rows if r["clip"] == name.replace("c", "d")):
            assert float(same["p_a"]) == pytest.approx(float(row["p_a"]), abs=2e-4)
    assert main(words) == 1
    assert "scored once" in capsys.readouterr().err
    assert main([*words, "--again"]) == 0
    info = json.loads((seen_run / "run/run.json").read_text())
    assert [entry["corpus"] for entry in info["other_corpora"]] == ["table-rest"] * 2


def test_other_names_of_classes(seen_run, other):
    words = [str(other / "rest.yaml"), "corpus.classes={other: b, a: null}"]
    metrics, _ = evaluate_on(seen_run / "run", words, again=True)
    assert metrics["classes"] == ["b"]
    assert metrics["test"]["per_class"]["b"]["clips"] == 3


def test_a_corpus_without_the_runs_preprocessing(seen_run, other, tmp_path):
    with pytest.raises(CacheError, match="deiii preprocess .*config.yaml.*corpus.table=rest.csv"):
        evaluate_on(seen_run / "run", [str(other / "rest.yaml")], cache=str(tmp_path))


def test_speakers_of_the_training_are_left_out(seen_run):
    words = [str(seen_run / "run/config.yaml")]
    metrics, _ = evaluate_on(seen_run / "run", words)
    count = metrics["clips"]["left_out"]["their speakers were in its training or validation part"]
    assert count + metrics["clips"]["scored"] == 6
    assert metrics["clips"]["scored"] == len((seen_run / "run/predictions.csv").read_text().splitlines()) - 1
