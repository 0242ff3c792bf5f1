"""A run whose training is not finished is scored on request only, with a record, and stays unfinished."""

from __future__ import annotations

import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deiii.__main__ import main
from deiii.data.config.load import load_config
from deiii.data.config.schema import Config
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.tools.writer_lock import Locked, writer_lock
from deiii.model.evaluation.compare import compare
from deiii.model.evaluation.evaluate import evaluate
from deiii.model.evaluation.many_runs import finished
from deiii.model.training import checkpoint
from deiii.model.training.monitor import training_state
from deiii.model.training.run_folder import RunError, RunFolder
from tests.helpers.clips import audio_corpus
from tests.helpers.shared_worker import preprocess

EPOCHS = 3


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """The words of a small corpus of tones that is preprocessed."""
    folder = tmp_path_factory.mktemp("unfinished")
    corpus = audio_corpus(folder / "raw", speakers=6)
    rows = "".join(f"{c.path},{c.speaker},{c.label}\n" for c in corpus.clips)
    (folder / "raw/clips.csv").write_text(f"path,speaker,label\n{rows}")
    words = ["tiny", "corpus.name=table", f"corpus.root={folder / 'raw'}", "stages=[logmel]"]
    words += [f"cache={folder / 'cache'}", "model.video=false", "model.flow=false"]
    words += [f"train.epochs={EPOCHS}", "loader.batch=4", "train.device=cpu", "model.width=32"]
    assert preprocess(*words) == 0
    return words


@pytest.fixture(scope="module")
def whole(words, tmp_path_factory):
    """A run that came to its end."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert main(["train", *words, f"train.run={run}", "--quiet"]) == 0
    return run


def interrupted(whole, target, epochs: int = 1):
    """A copy of a run as it was after some epochs, as far as `metrics.csv` tells."""
    shutil.copytree(whole, target)
    lines = (target / "metrics.csv").read_text().splitlines(keepends=True)
    (target / "metrics.csv").write_text("".join(lines[: epochs + 1]))
    return target


def test_an_unfinished_run_is_refused_with_the_remedy(whole, tmp_path):
    run = interrupted(whole, tmp_path / "run")
    with pytest.raises(RunError, match=rf"interrupted after 1 of {EPOCHS} epochs.*--resume.*--unfinished"):
        evaluate(run)
    assert not (run / "metrics.json").exists() and not RunFolder(run).evaluations()


def test_an_unfinished_run_is_scored_on_request_and_that_is_recorded(whole, tmp_path, capsys):
    run = interrupted(whole, tmp_path / "run")
    assert main(["evaluate", str(run), "--unfinished"]) == 0
    sentence = f"scored before the end of its training, after 1 of {EPOCHS} epochs"
    said = capsys.readouterr().out
    assert sentence in said
    speakers = json.loads((run / "metrics.json").read_text())["test"]["per_speaker"]
    assert len(speakers) < 3 and f"`deiii crossval {run}/config.yaml train.run={run}-crossval`" in said
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["training"] == {"finished": False, "epochs": 1, "planned": EPOCHS}
    assert sentence in (run / "report.html").read_text()
    other = shutil.copytree(run, tmp_path / "other")
    assert compare([run, other], tmp_path / "compare").count(sentence) == 2


def test_a_run_that_is_being_trained_is_refused(whole, tmp_path):
    run = interrupted(whole, tmp_path / "run")
    with writer_lock(run), pytest.raises(Locked, match="another run is writing"):
        evaluate(run, unfinished=True)


def test_keep_returns_the_stored_result_and_scores_a_run_without_one(whole, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    first, report = evaluate(run, keep=True)
    assert first["training"]["finished"] and report.is_file()
    second, _ = evaluate(run, keep=True)
    assert second == json.loads((run / "metrics.json").read_text())
    assert len(RunFolder(run).evaluations()) == 1
    with pytest.raises(RunError, match="scored before"):
        evaluate(run)


def test_crossval_does_not_count_an_unfinished_run_as_finished(words, whole, tmp_path):
    run = interrupted(whole, tmp_path / "run")
    config = load_config(words[:1], [*words[1:], f"train.run={run}"])
    assert not finished(config)
    evaluate(run, unfinished=True)
    with pytest.raises(RunError, match="before the end of its training.*remove that folder"):
        finished(config)
    shutil.copy(whole / "metrics.csv", run)  # the training went on, the figures are those of before
    with pytest.raises(RunError, match="before the end of its training"):
        finished(config)
    done = shutil.copytree(whole, tmp_path / "done")
    evaluate(done)
    assert finished(load_config(words[:1], [*words[1:], f"train.run={done}"]))


def test_resuming_a_finished_run_says_so(words, whole, tmp_path, capsys):
    run = shutil.copytree(whole, tmp_path / "run")
    capsys.readouterr()
    assert main(["train", *words, f"train.run={run}", "--resume"]) == 0
    assert f"finished after {EPOCHS} of {EPOCHS} epochs; nothing is left to train" in capsys.readouterr().out


FIGURES = st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.3]), st.sampled_from([1.0, 2.0])), max_size=8)


@given(FIGURES, st.integers(1, 8), st.integers(0, 4))
def test_a_training_ends_where_the_trainer_ends_it(figures, epochs, patience):
    """The trainer's own rule, epoch by epoch: keep the first best, wait at most ``patience`` epochs."""
    config = Config()
    config.train.epochs, config.train.patience = epochs, patience
    best, best_epoch, done = None, -1, 0
    for epoch, (figure, loss) in enumerate(figures):
        if done >= epochs or 0 < patience <= done - 1 - best_epoch:
            break
        done += 1
        if best is None or [figure, -loss] > best:
            best, best_epoch = [figure, -loss], epoch
    over = done >= epochs or 0 < patience <= done - 1 - best_epoch
    rows = [{"val_monitor": figure, "val_loss": loss} for figure, loss in figures[:done]]
    state = training_state(rows, config.train)
    assert (state.epochs, state.finished) == (done, over)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a"], "only .*a is named; name two runs or more"),
        ([], "no run is named"),
        (["a", "a"], "a is named twice; name different runs"),
        (["a", "./a"], "a is named twice, also as .*a"),
        (["gone", "a"], "there is no run folder .*gone; `deiii train` writes one"),
        (["aa"], "there is no run folder .*aa; did you mean '.*/a'"),
        (["file", "a"], "file is a file; a run is a folder"),
        (["", "a"], "holds no run, but runs are in it: a"),
    ],
)
def test_what_cannot_be_compared_is_refused(names, message, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/run.json").write_text('{"keys": {}, "classes": []}')
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=message):
        compare([f"{tmp_path}/{name}" for name in names], tmp_path / "out")


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00"])
def test_a_damaged_run_is_named(text, tmp_path):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunError, match=r"run\.json is damaged .*train the run again"):
        RunFolder(tmp_path).read_info()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["clip.mp4"], "clip.mp4 is a file; the first word names a run folder"),
        (["clip.mp4", "clip.mp4"], "clip.mp4 is a file; the first word names a run folder"),
        (["runs/gone", "clip.mp4"], "runs/gone is not there; the first word names a run folder"),
        (["runs/voises", "clip.mp4"], "runs/voises is not there; did you mean 'runs/voices'? the first word"),
        (["voices", "clip.mp4"], "voices is not there; did you mean 'runs/voices'? the first word names"),
        (["."], "name at least one media file or folder"),
        ([".", "clip.mp4"], "holds no run"),
    ],
)
def test_predict_tells_which_word_is_missing(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.mp4").touch()
    (tmp_path / "runs/voices").mkdir(parents=True)
    (tmp_path / "runs/voices/run.json").touch()
    assert main(["predict", *words]) == 1
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1


def test_predictions_that_are_no_numbers_are_named(whole, tmp_path):
    """Damaged weights, for example; without the check every figure would be NaN or count wrong classes."""
    run = RunFolder(shutil.copytree(whole, tmp_path / "run"))
    weights, info = checkpoint.load(run.best)
    checkpoint.save(
        run.best, {n: w * float("nan") if w.is_floating_point() else w for n, w in weights.items()}, info
    )
    with pytest.raises(
        RunError, match=r"predictions for \d+ clips of the test part are NaN or infinite \(s\d"
    ):
        evaluate(run.path)
    assert not run.metrics_json.exists()


def test_parts_whose_features_are_gone_are_named_or_left_out(whole, tmp_path, monkeypatch):
    """They may be computed anew after the training, and fail."""
    run = RunFolder(shutil.copytree(whole, tmp_path / "run"))
    split, rows = run.read_split(), FeatureSet.rows

    def rows_without(*gone):
        monkeypatch.setattr(
            FeatureSet, "rows", lambda self, ids: rows(self, [i for i in ids if i not in gone])
        )

    rows_without(*split.test)
    with pytest.raises(RunError, match=r"no test clip to score: .* and the others no features"):
        evaluate(run.path)
    rows_without(*split.val)
    metrics, _ = evaluate(run.path)
    assert metrics["val"] == {} and metrics["calibration"]["temperature"] is None
    assert metrics["clips"]["val"] == {"in_split": len(split.val), "scored": 0, "unlabelled": 0}


def test_a_folder_holds_one_run_or_the_runs_of_one_command(words, whole, tmp_path, capsys):
    kept = {path: path.read_bytes() for path in whole.iterdir() if path.is_file()}
    for command in (["crossval"], ["sweep", "train.lr=[1e-3,2e-3]"]):
        assert main([*command, *words, f"train.run={whole}"]) == 1
        kind = "sweep" if command[0] == "sweep" else "cross-validation"
        assert f"{whole} already holds a run; choose another folder for a {kind}" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in whole.iterdir() if path.is_file()} == kept
    for name, kind in (("crossval.json", "cross-validation"), ("sweep.md", "sweep")):
        folder = tmp_path / kind
        folder.mkdir()
        (folder / name).write_text("{}")
        assert main(["train", *words, f"train.run={folder}"]) == 1
        assert f"{folder} holds a {kind}; choose another folder" in capsys.readouterr().err
        assert [path.name for path in folder.iterdir()] == [name]
