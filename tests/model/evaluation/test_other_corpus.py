"""A run scored on another corpus: the figures are those of its predictions, what is left out is counted."""

from __future__ import annotations

import csv
import json
import shlex
import shutil

import pytest

from deiii.__main__ import main
from deiii.data.cache.index import CacheError
from deiii.data.config.words import read_settings
from deiii.data.tools.machine import machine, source_revision
from deiii.data.tools.writer_lock import Locked, writer_lock
from deiii.model.evaluation import other_corpus
from deiii.model.evaluation.evaluate import evaluate
from deiii.model.evaluation.other_corpus import evaluate_on, summary
from deiii.model.training import checkpoint
from deiii.model.training.run_folder import RunError, RunFolder
from tests.helpers.shared_worker import preprocess
from tests.helpers.tables import tone_rows, words_for, write_rows

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
    words = [str(seen_run / "run/config.yaml"), f"corpus.root={folder}", "corpus.table=rest.csv"]
    assert preprocess(*words) == 0
    (folder / "rest.yaml").write_text(f"corpus: {{name: table, root: '{folder}', table: rest.csv}}\n")
    return folder


def test_scores_common_classes_and_counts_the_rest(seen_run, other, capsys):
    words = ["evaluate", str(seen_run / "run"), "--on", str(other / "rest.yaml")]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "5 of 6 clips of table-rest" in said
    assert "1 clip left out: they have no label or rating that the network predicts" in said
    assert "labels that the network does not predict: other (1 clip); it predicts a, b. " in said
    assert "'corpus.classes={other: a}'" in said
    folder = seen_run / "run/on-table-rest"
    metrics = json.loads((folder / "metrics.json").read_text())
    with open(folder / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    with open(seen_run / "run/predictions.csv", newline="") as file:
        tested = {row["clip"]: row for row in csv.DictReader(file)}
    assert [row["clip"] for row in rows] == ["d0", "d1", "d3", "d4", "d5"]
    for own in (metrics, json.loads((seen_run / "run/metrics.json").read_text())):
        assert (own["interval"], own["interval_form"]) == ("t interval over speakers", "in Wilson's form")
    labelled = [row for row in rows if row["truth"]]
    right = sum(row["truth"] == row["predicted"] for row in labelled)
    assert metrics["test"]["war"] == pytest.approx(right / len(labelled))
    assert metrics["classes"] == ["a", "b"]
    assert metrics["hardware"] == machine() and metrics["revision"] == source_revision()
    assert metrics["versions"]["torch"] and metrics["gpu"] is None
    for name, row in tested.items():  # the same recording has the same probabilities in both corpora
        for same in (r for r in rows if r["clip"] == name.replace("c", "d")):
            assert float(same["p_a"]) == pytest.approx(float(row["p_a"]), abs=2e-4)
    assert main(words) == 1
    assert "scored once" in capsys.readouterr().err
    assert main([*words, "--again"]) == 0
    info = json.loads((seen_run / "run/run.json").read_text())
    assert [entry["corpus"] for entry in info["other_corpora"]] == ["table-rest"] * 2


def test_the_scores_of_raters_are_those_on_the_scored_clips(seen_run, other, monkeypatch):
    asked = []

    def raters(clips, classes, labels, votes):
        asked.append(([clip.id for clip in clips], tuple(classes)))
        return {"voice, majority": {"uar": 0.625, "war": 0.5, "clips": 5}}

    monkeypatch.setattr(other_corpus, "human_ceilings", raters)
    metrics, _ = evaluate_on(seen_run / "run", [str(other / "rest.yaml")], again=True)
    (clips, classes) = asked[0]
    assert clips == ["d0", "d1", "d3", "d4", "d5"] and "other" in classes
    assert "human raters (voice, majority): UAR 0.625, WAR 0.500" in summary(metrics)


def test_streams_that_the_run_hides_are_hidden_and_named(seen_run, other, tmp_path):
    metrics = {}
    for hidden in ("[]", "[audio]"):
        run = shutil.copytree(seen_run / "run", tmp_path / hidden, ignore=shutil.ignore_patterns("on-*"))
        text = (run / "config.yaml").read_text()
        assert text.count("  hide: []\n") == 1
        (run / "config.yaml").write_text(text.replace("  hide: []\n", f"  hide: {hidden}\n"))
        metrics[hidden], folder = evaluate_on(run, [str(other / "rest.yaml")])
        assert json.loads((folder / "metrics.json").read_text())["hidden"] == metrics[hidden]["hidden"]
    assert metrics["[]"]["hidden"] == [] and "hidden" not in summary(metrics["[]"])
    assert "hidden from these clips (split.hide): audio" in summary(metrics["[audio]"])


def test_predictions_that_are_no_numbers_are_refused(seen_run, other, tmp_path):
    """The most probable class of NaN would be the first one, with figures like any other."""
    run = RunFolder(
        shutil.copytree(seen_run / "run", tmp_path / "run", ignore=shutil.ignore_patterns("on-*"))
    )
    weights, info = checkpoint.load(run.best)
    weights["fused_head.classes.weight"].fill_(float("nan"))
    checkpoint.save(run.best, weights, info)
    before = run.read_info()
    with pytest.raises(RunError, match=r"for 5 clips of rest in .* are NaN or infinite \(d0, d1"):
        evaluate_on(run.path, [str(other / "rest.yaml")])
    assert run.read_info() == before and not (run.path / "on-table-rest").exists()


def test_a_run_that_another_process_writes_is_not_scored(seen_run, other, tmp_path):
    """Both would pass the check that a corpus is scored once, and one entry of run.json would be lost."""
    run = shutil.copytree(seen_run / "run", tmp_path / "run", ignore=shutil.ignore_patterns("on-*"))
    with writer_lock(run), pytest.raises(Locked, match="another run is writing"):
        evaluate_on(run, [str(other / "rest.yaml")])


def test_no_interval_is_named_for_fewer_than_three_speakers():
    metrics = {"corpus": "rest", "classes": [], "notes": [], "interval": "t interval over speakers"}
    metrics["interval_form"] = "in Wilson's form"
    metrics |= {"clips": {"scored": 4, "in_corpus": 4, "left_out": {}}, "test": {"uar": 0.5}}
    for speakers, interval, words in (
        ("ab", None, "no intervals: they need 3 speakers"),
        (  # one of them has no labelled clip
            "abc",
            None,
            "no intervals: they need 3 speakers with labels, and figures that are defined without any one of "
            "them",
        ),
        ("abc", [0.3, 0.7], "95 % t interval over speakers, in Wilson's form"),
    ):
        metrics["test"] |= {"per_speaker": dict.fromkeys(speakers), "uar_ci": interval}
        assert summary(metrics).endswith(f"{len(speakers)} speakers; {words}")


def test_other_names_of_classes(seen_run, other):
    words = [str(other / "rest.yaml"), "corpus.classes={other: b, a: null}"]
    metrics, _ = evaluate_on(seen_run / "run", words, again=True)
    assert metrics["classes"] == ["b"]
    assert metrics["test"]["per_class"]["b"]["clips"] == 3


def test_a_corpus_without_the_runs_preprocessing(seen_run, other, tmp_path):
    words = [str(other / "rest.yaml"), "corpus.title=Others"]  # a title has no effect on a table
    with pytest.raises(CacheError) as found:
        evaluate_on(seen_run / "run", words, cache=str(tmp_path))
    command = str(found.value).rpartition("`deiii preprocess ")[2].rstrip("`")
    config = read_settings(shlex.split(command))
    assert config.cache == str(tmp_path) and config.corpus.table == "rest.csv"
    assert "title" not in command and "corpus.root" in command
    # With the run's own cache, the command has the corpus alone.
    (tmp_path / "clips.csv").write_text("path,speaker,label\nx.mp4,s,a\n")
    with pytest.raises(CacheError) as found:
        evaluate_on(seen_run / "run", ["table", f"corpus.root={tmp_path}"])
    assert str(found.value).endswith(f"config.yaml corpus.root={tmp_path}`")


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
    assert preprocess(*config) == 0
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
    assert preprocess(*config) == 0
    metrics, folder = evaluate_on(seen_run / "run", config)
    assert metrics["classes"] == ["a", "b"] and metrics["clips"]["scored"] == 6
    assert "its class 'A' is the run's 'a'" in metrics["notes"]
    with open(folder / "predictions.csv", newline="") as file:
        assert [row["truth"].upper() for row in csv.DictReader(file)] == labels


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    """A run on two corpora of tones whose paths are the same; the second one has a config in a file."""
    folder = tmp_path_factory.mktemp("mixture")
    for name, hertz in (("first", 200.0), ("second", 233.0)):
        write_rows(folder / name, tone_rows(folder / name, hertz=hertz))
        (folder / name / "clips.csv").rename(folder / name / f"{name}.csv")
        assert preprocess(*tone_words(folder, name)) == 0
    (folder / "second.yaml").write_text(
        f"corpus: {{name: table, root: '{folder / 'second'}', table: second.csv}}\nstages: [logmel]\n"
    )
    words = [*tone_words(folder, "first"), f"mix=[{folder / 'second.yaml'}]", f"train.run={folder / 'run'}"]
    assert main(["train", *words]) == 0
    return folder


def tone_words(folder, name):
    return [*words_for(folder / name, folder / "cache"), f"corpus.table={name}.csv"]


def parts_of(run):
    """The parts of a run's split by clip id."""
    split = json.loads((run / "split.json").read_text())
    return {i: part for part in ("train", "val", "test") for ids in split[part].values() for i in ids}


def scored(folder):
    with open(folder / "predictions.csv", newline="") as file:
        return {row["clip"] for row in csv.DictReader(file)}


@pytest.mark.parametrize("name", ["first", "second"])
@pytest.mark.parametrize("recorded", [True, False])  # an earlier version recorded neither corpora nor digests
def test_speakers_of_each_corpus_of_a_mixture_are_left_out(mixture, tmp_path, name, recorded):
    """Their names have the corpus's name in front in the mixture."""
    run = mixture / "run"
    tested = {i for i, part in parts_of(run).items() if part == "test"}
    expected = {i.split(":", 1)[1] for i in tested if i.startswith(f"table-{name}:")}
    if not recorded:
        run = shutil.copytree(run, tmp_path / "old")
        info = json.loads((run / "run.json").read_text())
        del info["mixed"]
        (run / "run.json").write_text(json.dumps(info))
        (run / "media.json").write_text("{}")
        # Whose speakers have which names is unknown, so that those of both corpora count.
        seen = {i.split(":", 1)[1] for i in parts_of(run).keys() - tested}
        expected = {i for i in expected if i.split("/")[0] not in {j.split("/")[0] for j in seen}}
    words = ["table", f"corpus.root={mixture / name}", f"corpus.table={name}.csv"]
    if not expected:
        with pytest.raises(
            RunError, match="10 clips left out: their speakers were in its training or validation part"
        ):
            evaluate_on(run, words)
        return
    metrics, folder = evaluate_on(run, words)
    assert scored(folder) == expected
    assert recorded is not any("has no digests of its recordings" in note for note in metrics["notes"])


def test_recordings_of_a_mixture_are_left_out_under_other_names(mixture, tmp_path):
    """Both corpora have the same paths; the digests of the files tell their recordings apart."""
    rows = []
    for clip, part in sorted(parts_of(mixture / "run").items()):
        corpus, _, name = clip.partition(":")
        path = f"{part}-{len(rows)}.flac"
        shutil.copy(mixture / corpus.removeprefix("table-") / f"{name}.flac", tmp_path / path)
        rows.append([path, f"{corpus}-{name.split('/')[0]}-renamed", ("high", "low")[len(rows) % 2]])
    write_rows(tmp_path, rows).rename(tmp_path / "copies.csv")
    words = ["table", f"corpus.root={tmp_path}", "corpus.table=copies.csv"]
    assert preprocess(*words_for(tmp_path, mixture / "cache"), words[-1]) == 0
    metrics, folder = evaluate_on(mixture / "run", words)
    assert scored(folder) == {path[:-5] for path, *_ in rows if path.startswith("test")}
    assert metrics["notes"] == []


def test_a_corpus_that_is_only_trained_on_is_not_scored(mixture, tmp_path):
    """The protocol divides the first corpus; all clips of the second one are trained on."""
    words = [*tone_words(mixture, "first"), f"mix=[{mixture / 'second.yaml'}]", "mix_test=false"]
    words += ["mix_weights=[0.25]", f"train.run={tmp_path / 'run'}"]
    assert main(["train", *words]) == 0 and main(["evaluate", str(tmp_path / "run")]) == 0
    parts = parts_of(tmp_path / "run")
    assert {part for i, part in parts.items() if i.startswith("table-second:")} == {"train"}
    assert sum(i.startswith("table-second:") for i in parts) == 10
    tested = {i for i, part in parts.items() if part == "test"}
    assert tested and scored(tmp_path / "run") >= tested
    assert not any(":" in i for i in tested)  # named as without the mixture


def test_replaced_recordings_of_a_mixture_are_noticed(mixture, tmp_path):
    """As those of a single corpus: the run names the corpus and the path."""
    run = shutil.copytree(mixture / "run", tmp_path / "run")
    media = json.loads((run / "media.json").read_text())
    assert len(media) == 20
    media["table-second:s0/c0.flac"] = "0" * 64
    (run / "media.json").write_text(json.dumps(media))
    with pytest.raises(RunError, match=r"1 media file was replaced since \(table-second:s0/c0.flac\)"):
        evaluate(run)
