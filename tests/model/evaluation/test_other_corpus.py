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
            # Another file with the same frames and sound, so that it does not count as seen in training.
            content = (seen_run / f"raw/c{i}.mp4").read_bytes()
            (folder / f"d{i}.mp4").write_bytes(content + b"\0\0\0\x08free")
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


def test_recordings_of_the_training_are_left_out_under_other_names(seen_run, tmp_path):
    """As a copied or renamed corpus; the speaker of such a recording is left out with all recordings."""
    split = json.loads((seen_run / "run/split.json").read_text())
    tested = sorted(i for ids in split["test"].values() for i in ids)
    rows = [["path", "speaker", "label"]]
    for i in range(6):
        shutil.copy(seen_run / f"raw/c{i}.mp4", tmp_path / f"renamed-{i}.mp4")
        rows.append([f"renamed-{i}.mp4", f"person-{i}", "ab"[i % 2]])
    seen = next(i for i in range(6) if f"c{i}" not in tested)
    content = (tmp_path / f"renamed-{tested[0][1:]}.mp4").read_bytes()
    (tmp_path / "more.mp4").write_bytes(content + b"\0\0\0\x08free")
    rows.append(["more.mp4", f"person-{seen}", "a"])  # another clip of somebody who was trained on
    with open(tmp_path / "copy.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    config = [str(seen_run / "run/config.yaml"), f"corpus.root={tmp_path}", "corpus.table=copy.csv"]
    assert main(["preprocess", *config, "workers=1"]) == 0
    metrics, _ = evaluate_on(seen_run / "run", config)
    left_out = metrics["clips"]["left_out"]["their speakers were in its training or validation part"]
    assert (left_out, metrics["clips"]["scored"]) == (7 - len(tested), len(tested))


def test_classes_in_other_spellings_are_the_runs(seen_run, other, tmp_path):
    """Of a protocol of another laboratory: A is the run's a."""
    labels = ["A", "B", "A", "B", "B", "A"]
    rows = [["path", "speaker", "label"], *([f"d{i}.mp4", f"p{i}", label] for i, label in enumerate(labels))]
    with open(other / "capitals.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    config = [str(seen_run / "run/config.yaml"), f"corpus.root={other}", "corpus.table=capitals.csv"]
    assert main(["preprocess", *config, "workers=1"]) == 0
    metrics, folder = evaluate_on(seen_run / "run", config)
    assert metrics["classes"] == ["a", "b"] and metrics["clips"]["scored"] == 6
    assert "its class 'A' is the run's 'a'" in metrics["notes"]
    with open(folder / "predictions.csv", newline="") as file:
        assert [row["truth"].upper() for row in csv.DictReader(file)] == labels
