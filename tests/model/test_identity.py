"""What a result came from, through the real commands: corpora of one name, moved corpora, edited labels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from deiii.__main__ import main
from deiii.data.cache.identity import IDENTITY
from deiii.data.cache.index import TABLE, read_table
from deiii.data.corpora.clips import Clip, Corpus
from deiii.data.corpora.differences import differences
from tests.helpers.clips import write_audio
from tests.helpers.shared_worker import preprocess
from tests.helpers.tables import read_rows, tone_rows, words_for, write_rows


def shards(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.h5")}


def folders(cache: Path) -> list[str]:
    return sorted(p.parent.name for p in cache.glob(f"*/{TABLE}"))


def test_two_corpora_of_one_name_stand_side_by_side(tmp_path, capsys):
    """The same file names, speakers and table name; other tones and other classes."""
    base, cache = tmp_path, tmp_path / "cache"
    for name, hertz, classes in (("a", 200.0, ("high", "low")), ("b", 900.0, ("calm", "tense"))):
        root = base / name
        write_rows(root, tone_rows(root, hertz=hertz, label=lambda s, n, c=classes: c[n % 2]))
    assert preprocess(*words_for(base / "a", cache)) == 0
    before = shards(cache / "table-clips")
    assert main(["train", *words_for(base / "a", cache, base / "run-a"), "--quiet"]) == 0

    # what is not preprocessed is not replaced by the corpus of its name
    words = words_for(base / "b", cache, base / "run-b")
    for command in (["train", *words], ["crossval", *words]):
        capsys.readouterr()
        assert main([*command, "--quiet"]) == 1
        told = capsys.readouterr().err
        assert f"{base / 'b/clips.csv'} is not preprocessed" in told and str(base / "a") in told
        assert "deiii preprocess" in told

    assert preprocess(*words_for(base / "b", cache)) == 0
    assert "another corpus has this one's name" in capsys.readouterr().out
    plain, other = folders(cache)
    assert plain == "table-clips" and len(other) == len("table-clips-12345678")
    assert shards(cache / plain) == before
    assert shards(cache / plain) != shards(cache / other)
    assert read_table(cache, plain).classes == ("high", "low")
    assert read_table(cache, other).classes == ("calm", "tense")
    assert main(["train", *words, "--quiet"]) == 0
    for name, classes in (("a", ["high", "low"]), ("b", ["calm", "tense"])):
        assert main(["evaluate", str(base / f"run-{name}")]) == 0
        rows = read_rows(base / f"run-{name}/predictions.csv")
        assert [k for k in rows[0] if k.startswith("p_")] == [f"p_{c}" for c in classes]
        assert json.loads((base / f"run-{name}/run.json").read_text())["classes"] == classes
    # again, in the other order: each finds its own folder and computes nothing
    for name in ("b", "a"):
        capsys.readouterr()
        assert preprocess(*words_for(base / name, cache)) == 0
        assert "nothing to do" in capsys.readouterr().out
    assert folders(cache) == [plain, other] and shards(cache / plain) == before

    # the split and the digests do not depend on the name of the folder
    words = words_for(base / "b", base / "own-cache", base / "run-own")
    assert preprocess(*words) == 0 and folders(base / "own-cache") == [plain]
    assert main(["train", *words, "--quiet"]) == 0
    one, other = (json.loads((base / f"run-{n}/run.json").read_text()) for n in ("own", "b"))
    for name in ("split", "clip_digest", "label_digest", "keys"):
        assert one[name] == other[name]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A corpus and its cache, to be copied."""
    base = tmp_path_factory.mktemp("made")
    rows = tone_rows(base / "raw")
    write_rows(base / "raw", rows)
    assert preprocess(*words_for(base / "raw", base / "cache")) == 0
    return base, rows


@pytest.fixture
def one(made, tmp_path, capsys):
    """A corpus and its cache: root, cache and rows."""
    base, rows = made
    for name in ("raw", "cache"):
        shutil.copytree(base / name, tmp_path / name)
    assert preprocess(*words_for(tmp_path / "raw", tmp_path / "cache")) == 0  # as a copied corpus
    assert "nothing to do" in capsys.readouterr().out
    return tmp_path / "raw", tmp_path / "cache", rows


def test_a_corpus_that_begins_takes_its_folder_before_its_first_shard(one, tmp_path, capsys):
    """As after a run that was cut off: there are shards, but neither index nor clip table."""
    root, cache, _ = one
    (cache / "table-clips" / TABLE).unlink()
    for index in cache.rglob("index.json"):
        index.unlink()
    before = shards(cache / "table-clips")
    other = tmp_path / "other"
    write_rows(other, tone_rows(other, hertz=700.0))
    assert preprocess(*words_for(other, cache)) == 0
    assert shards(cache / "table-clips") == before and len(list(cache.glob("table-clips-*"))) == 1
    capsys.readouterr()
    assert preprocess(*words_for(root, cache)) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_a_moved_corpus_keeps_its_features(one, tmp_path, capsys):
    """Copied files have another time of change, but the same content."""
    root, cache, _ = one
    root.rename(tmp_path / "moved")
    for path in (tmp_path / "moved").rglob("*.flac"):
        shutil.copyfile(path, path.with_suffix(".tmp"))  # another time of change
        path.with_suffix(".tmp").replace(path)
    words = words_for(tmp_path / "moved", cache)
    assert main(["train", *words, f"train.run={tmp_path / 'run'}", "--quiet"]) == 0  # without preprocess
    assert preprocess(*words) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert folders(cache) == ["table-clips"]
    assert json.loads((cache / "table-clips" / IDENTITY).read_text())["root"] == str(tmp_path / "moved")
    assert main(["train", *words, f"train.run={tmp_path / 'again'}", "--quiet"]) == 0


def test_a_moved_corpus_with_other_recordings_is_another_corpus(one, tmp_path, capsys):
    root, cache, rows = one
    root.rename(tmp_path / "moved")
    write_audio(tmp_path / "moved" / rows[3][0], 0.4, 3000.0)
    words = words_for(tmp_path / "moved", cache)
    assert main(["train", *words, f"train.run={tmp_path / 'run'}", "--quiet"]) == 1
    told = capsys.readouterr().err
    assert "is not preprocessed" in told and "compares the media files" in told


def test_labels_edited_in_a_moved_corpus_are_noticed(one, tmp_path, capsys):
    root, cache, rows = one
    root.rename(tmp_path / "moved")
    write_rows(tmp_path / "moved", swapped(rows))
    assert main(["train", *words_for(tmp_path / "moved", cache, tmp_path / "run"), "--quiet"]) == 1
    assert "the label of 2 clips" in capsys.readouterr().err


def test_labels_edited_in_a_corpus_that_was_moved_before_training_are_noticed(one, tmp_path, capsys):
    """Training takes the features of the moved corpus; the cache still names the old place."""
    root, cache, rows = one
    root.rename(tmp_path / "moved")
    run = tmp_path / "run"
    words = ["train", *words_for(tmp_path / "moved", cache, run), "--quiet"]
    assert main(words) == 0
    write_rows(tmp_path / "moved", swapped(rows))
    for command in (["evaluate", str(run)], [*words, "--resume"]):
        capsys.readouterr()
        assert main(command) == 1
        assert "the label of 2 clips" in capsys.readouterr().err


def test_media_replaced_in_place_are_noticed(one, tmp_path, capsys):
    root, cache, rows = one
    base, run = words_for(root, cache), tmp_path / "run"
    words = [*base, f"train.run={run}", "--quiet"]
    assert main(["train", *words]) == 0
    (root / rows[0][0]).touch()  # another time of change is no other recording
    assert main(["train", *base, f"train.run={tmp_path / 'touched'}", "--quiet"]) == 0
    write_audio(root / rows[0][0], 0.4, 3000.0)
    for command in (["evaluate", str(run)], ["train", *words, "--resume"]):
        capsys.readouterr()
        assert main(command) == 1
        told = capsys.readouterr().err
        assert f"1 media file of {root} was replaced since preprocessing ({rows[0][0]})" in told
        assert "deiii preprocess" in told
    assert preprocess(*base) == 0
    for command in (["evaluate", str(run)], ["train", *words, "--resume"]):
        capsys.readouterr()
        assert main(command) == 1
        assert f"1 media file was replaced since ({rows[0][0]})" in capsys.readouterr().err
    assert main(["train", *base, f"train.run={tmp_path / 'fresh'}", "--quiet"]) == 0
    assert main(["evaluate", str(tmp_path / "fresh")]) == 0


def test_a_table_that_grows_keeps_its_folder_and_its_features(one, capsys):
    root, cache, rows = one
    before = shards(cache)
    write_rows(root, [*rows, *([p.replace("s0/", "s9/"), "s9", c] for p, _, c in tone_rows(root, 1))])
    (root / "s9").mkdir()
    for path in (root / "s0").iterdir():
        shutil.copy(path, root / "s9")
    run = f"train.run={root.parent / 'run'}"
    assert main(["train", *words_for(root, cache), run, "--quiet"]) == 1
    told = capsys.readouterr().err
    assert "2 clips added (s9/c0, s9/c1)" in told and "deiii preprocess" in told
    assert preprocess(*words_for(root, cache)) == 0
    assert folders(cache) == ["table-clips"]
    after = shards(cache)
    assert before.items() < after.items() and len(after) == len(before) + 1
    # the copies are the recordings of another speaker: that is told with both names
    assert "one recording under several speakers: s0/c0.flac (speaker s0" in capsys.readouterr().out


def test_a_cache_without_a_record_of_its_corpus_is_used_for_the_same_clips(one, tmp_path, capsys):
    """As an earlier version made it, and away from its corpus."""
    root, cache, _ = one
    (cache / "table-clips" / IDENTITY).unlink()
    assert preprocess(*words_for(root, cache)) == 0
    assert "nothing to do" in capsys.readouterr().out and folders(cache) == ["table-clips"]
    (cache / "table-clips" / IDENTITY).unlink()
    root.rename(tmp_path / "elsewhere")
    assert main(["train", *words_for(root, cache, tmp_path / "run"), "--quiet"]) == 0


def swapped(rows):
    """The labels of the first two clips exchanged."""
    return [[*rows[0][:2], rows[1][2]], [*rows[1][:2], rows[0][2]], *rows[2:]]


def test_edited_labels_are_noticed_everywhere(one, tmp_path, capsys):
    root, cache, rows = one
    base, run = words_for(root, cache), tmp_path / "run"
    words = [*base, f"train.run={run}", "--quiet"]
    cross = ["crossval", *base, f"train.run={tmp_path / 'cv'}", "--quiet", "--folds", "0"]
    assert main(["train", *words]) == 0 and main(cross) == 0
    before = shards(cache)
    write_rows(root, swapped(rows))
    change = "the label of 2 clips (s0/c0: high -> low, s0/c1: low -> high)"
    for command in (["train", *words, "--resume"], ["train", *base, f"train.run={tmp_path / 'new'}"], cross):
        assert main(command) == 1
        told = capsys.readouterr().err
        assert change in told and "deiii preprocess" in told
    assert main(["evaluate", str(run)]) == 1
    assert change in capsys.readouterr().err

    assert preprocess(*base) == 0
    assert "nothing to do" in capsys.readouterr().out and shards(cache) == before
    for command, remedy in (
        (["train", *words, "--resume"], "train a new run"),
        (["evaluate", str(run)], "train a new run"),
        (cross, "choose another folder"),
    ):
        assert main(command) == 1
        told = capsys.readouterr().err
        assert change in told and remedy in told
    assert not (run / "metrics.json").exists()
    assert main(["train", *base, f"train.run={tmp_path / 'new'}", "--quiet"]) == 0
    old, new = (json.loads((tmp_path / f"{n}/run.json").read_text()) for n in ("run", "new"))
    assert old["label_digest"] != new["label_digest"] and old["clip_digest"] == new["clip_digest"]

    write_rows(root, rows)  # put back
    assert preprocess(*base) == 0
    assert main(["train", *words, "--resume"]) == 0
    assert main(["evaluate", str(run)]) == 0
    capsys.readouterr()
    assert main([*cross[:-3], "--folds", "0"]) == 0  # without --quiet
    assert "finished before: 1 of 1 run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda rows: [[p, s, {"low": "deep"}.get(c, c)] for p, s, c in rows], "classes (high, low -> deep,"),
        (lambda rows: rows[:-1], "1 clip gone (s4/c1)"),
        (lambda rows: [[p, "s3" if s == "s4" else s, c] for p, s, c in rows], "the speaker of 2 clips"),
    ],
)
def test_other_changes_of_a_table_are_told_too(one, tmp_path, capsys, change, says):
    root, cache, rows = one
    assert main(["train", *words_for(root, cache, tmp_path / "run"), "--quiet"]) == 0
    write_rows(root, change(rows))
    assert main(["evaluate", str(tmp_path / "run")]) == 1
    assert says in capsys.readouterr().err
    assert preprocess(*words_for(root, cache)) == 0
    assert main(["evaluate", str(tmp_path / "run")]) == 1
    assert says in capsys.readouterr().err


def test_a_clip_with_another_id_is_not_told_as_gone():
    """A second file of the same stem beside it gives a clip's id the suffix of its file."""

    def table(*clips):
        return Corpus("mine", ".", ("x",), tuple(Clip(i, path, "anna", "x") for i, path in clips))

    before = table(("a", "a.mp4"), ("b", "b.mp4"), ("c", "c.mp4"))
    after = table(("a.mp4", "a.mp4"), ("a.wav", "a.wav"), ("b", "b.mp4"))
    assert differences(before, after) == [
        "the id of 1 clip (a -> a.mp4)", "1 clip gone (c)", "1 clip added (a.wav)",
    ]  # fmt: skip


def test_going_on_elsewhere(one, tmp_path, capsys):
    """Threads, devices, workers and folders may change before --resume; what changes a result may not."""
    root, cache, _ = one
    run = tmp_path / "run"
    words = [w for w in words_for(root, cache, run) if not w.startswith("train.device")]
    assert main(["train", *words, "train.device=cpu", "train.epochs=2", "--quiet"]) == 0
    (cache).rename(tmp_path / "cache2")
    run.rename(tmp_path / "run2")
    moved = [f"cache={tmp_path / 'cache2'}", f"train.run={tmp_path / 'run2'}", "train.epochs=2"]
    moved += ["loader.threads=1", "workers=3", "train.device=auto", "loader.ahead=2", "check=sizes"]
    moved += ["faces.size=96", f"corpus.table={root / 'clips.csv'}"]  # no stage of this network
    assert main(["train", *words, *moved, "--quiet", "--resume"]) == 0
    assert main(["evaluate", str(tmp_path / "run2")]) == 0
    capsys.readouterr()
    for other, says in (
        ("train.lr=0.5", "train.lr: 0.001 -> 0.5"),
        ("loader.batch=3", "loader.batch: 2 -> 3"),
        ("split.fold=1", "split.fold: 0 -> 1"),
    ):
        assert main(["train", *words, *moved, other, "--quiet", "--resume"]) == 1
        assert says in capsys.readouterr().err


def test_the_test_speakers_are_scored_once(one, tmp_path, capsys):
    root, cache, _ = one
    run = tmp_path / "run"
    assert main(["train", *words_for(root, cache, run), "--quiet"]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run)]) == 0
    first = capsys.readouterr().out
    names = ("metrics.json", "predictions.csv", "report.html")
    before = {n: (run / n).read_bytes() for n in names}
    assert json.loads(before["metrics.json"])["evaluations"] == 1
    assert main(["evaluate", str(run)]) == 1
    told = capsys.readouterr().err
    assert "scored before" in told and f"`deiii evaluate {run} --keep`" in told
    assert f"`deiii evaluate {run} --again`" in told
    assert main(["evaluate", str(run), "--keep"]) == 0
    assert capsys.readouterr().out == first
    assert {n: (run / n).read_bytes() for n in names} == before
    assert main(["evaluate", str(run), "--again"]) == 0
    assert "the test speakers were scored 2 times" in capsys.readouterr().out
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["evaluations"] == 2 and len(json.loads((run / "run.json").read_text())["evaluations"]) == 2
    assert "The test speakers were scored 2 times" in (run / "report.html").read_text()
    assert {**metrics, "evaluations": 1} == json.loads(before["metrics.json"])
    # neither --resume nor a removed metrics.json makes it forget
    assert main(["train", *words_for(root, cache, run), "--quiet", "--resume"]) == 0
    (run / "metrics.json").unlink()
    assert main(["evaluate", str(run)]) == 1
