"""`deiii sweep` on tones: validation only, resumable, with failures recorded; with and without Optuna."""

from __future__ import annotations

import json
import shutil
import sys

import pytest

from deiii.__main__ import main
from deiii.data.config.load import load_config
from deiii.model.sweep import proposals
from deiii.model.sweep import results as results_module
from deiii.model.sweep.results import Result, Trial, draw, ranked, read_result, write_results
from deiii.model.sweep.space import Axis, split_space
from deiii.model.training.run_folder import RunFolder


@pytest.fixture(scope="module")
def swept(words, tmp_path_factory):
    """A grid of three widths, one of which cannot be divided among the heads, with two seeds."""
    base = tmp_path_factory.mktemp("grid") / "sweep"
    own = [*words, f"train.run={base}", "model.width=[16,18,32]", "--seeds", "0,1", "--quiet"]
    assert main(["sweep", *own]) == 0
    return base, own


def test_each_score_is_the_best_validation_figure_of_its_runs(swept):
    base, _ = swept
    results = json.loads((base / "sweep.json").read_text())["results"]
    assert {r["settings"]["model.width"] for r in results} == {16, 18, 32}
    good = [r for r in results if not r["problem"]]
    for result in good:
        histories = [RunFolder(base / name).read_history() for name in result["runs"]]
        scores = [max(row["val_monitor"] for row in history) for history in histories]
        assert result["scores"] == scores and result["mean"] == pytest.approx(sum(scores) / 2)
        for name, seed in zip(result["runs"], (0, 1), strict=True):
            config = load_config(base / name / "config.yaml")
            assert config.train.seed == seed and config.model.width == result["settings"]["model.width"]
    assert [r["mean"] for r in good] == sorted((r["mean"] for r in good), reverse=True)


def test_the_test_speakers_are_never_scored(swept):
    base, _ = swept
    runs = [folder for folder in base.iterdir() if (folder / "run.json").exists()]
    assert len(runs) >= 4
    for folder in runs:
        assert not (folder / "metrics.json").exists() and not (folder / "predictions.csv").exists()
        assert "evaluations" not in RunFolder(folder).read_info()


def test_settings_that_cannot_be_trained_are_recorded_with_the_reason(swept):
    base, _ = swept
    (failed,) = [r for r in json.loads((base / "sweep.json").read_text())["results"] if r["problem"]]
    assert failed["settings"]["model.width"] == 18 and "heads" in failed["problem"]
    assert failed["problem"] in (base / "sweep.md").read_text()


def test_best_yaml_is_a_config_with_the_best_settings_alone(swept):
    base, _ = swept
    best = json.loads((base / "sweep.json").read_text())["results"][0]
    assert load_config(base / "best.yaml").model.width == best["settings"]["model.width"]
    text = [line for line in (base / "best.yaml").read_text().splitlines() if not line.startswith("#")]
    assert text == ["model:", f"  width: {best['settings']['model.width']}"]
    assert (base / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_a_second_call_trains_nothing_and_an_interrupted_run_continues(swept, monkeypatch, capsys):
    base, own = swept
    before = (base / "sweep.json").read_bytes()
    trained = []
    real = sys.modules["deiii.model.evaluation.many_runs"].train
    monkeypatch.setattr(
        "deiii.model.evaluation.many_runs.train", lambda c, **k: trained.append(c.train.run) or real(c, **k)
    )
    assert main(["sweep", *own]) == 0
    assert trained == [] and (base / "sweep.json").read_bytes() == before
    victim = base / json.loads(before)["results"][0]["runs"][0]
    shutil.rmtree(victim)
    assert main(["sweep", *own]) == 0
    assert trained == [str(victim)]
    scores = [r["scores"] for r in json.loads((base / "sweep.json").read_text())["results"]]
    assert scores == [r["scores"] for r in json.loads(before)["results"]]


def test_other_settings_in_the_same_folder_are_refused(swept, capsys):
    base, own = swept
    assert main(["sweep", *own, "train.weight_decay=0.5"]) == 1
    err = capsys.readouterr().err
    assert "train.weight_decay" in err and "choose another folder" in err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ([], "nothing is varied"),
        (["train.lr=[1e-3,99]"], "train.lr"),
        (["logmel.n_mels=[40,80]"], "run `deiii preprocess`"),
        (["logmel.n_mels=int(40,80)"], "needs preprocessing for each value"),
    ],
)
def test_impossible_sweeps_are_refused_before_training(more, says, words, tmp_path, capsys):
    assert main(["sweep", *words, f"train.run={tmp_path}/s", *more]) == 1
    assert says in capsys.readouterr().err
    assert not list(tmp_path.glob("s/*-seed*"))


def test_a_range_without_optuna_names_the_command_that_installs_it(words, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["sweep", *words, f"train.run={tmp_path}/s", "lr=log(1e-4,1e-2)"]) == 1
    assert "pip install 'deiii[sweep]'" in capsys.readouterr().err


def test_optuna_proposes_within_the_range_and_goes_on_where_it_was_stopped(words, tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    base = tmp_path / "s"
    own = [*words, f"train.run={base}", "lr=log(1e-4,1e-2)", "model.conformer=[true,false]", "--quiet"]
    real = proposals.Proposals.tell
    told = []

    def stop(self, number, score):
        if told:
            raise KeyboardInterrupt
        told.append(number)
        real(self, number, score)

    monkeypatch.setattr(proposals.Proposals, "tell", stop)
    assert main(["sweep", *own, "--trials", "3"]) == 130
    monkeypatch.undo()
    folders = {p.name for p in base.glob("*-seed0")}
    assert main(["sweep", *own, "--trials", "3"]) == 0
    results = json.loads((base / "sweep.json").read_text())["results"]
    assert len(results) == 3 and folders <= {name for r in results for name in r["runs"]}
    rates = [r["settings"]["train.lr"] for r in results]
    assert len(set(rates)) == 3 and all(1e-4 <= rate <= 1e-2 for rate in rates)
    for r in results:
        config = load_config(base / r["runs"][0] / "config.yaml")
        assert config.train.lr == pytest.approx(r["settings"]["train.lr"])
    assert main(["sweep", *words, f"train.run={base}", "lr=log(1e-3,1e-2)", "--quiet"]) == 1


def trial(**settings) -> Trial:
    return Trial(settings, ())


def test_the_order_is_by_the_mean_and_failures_come_last():
    results = [Result(trial(a=1), (0.5, 0.7)), Result(trial(a=2), problem="no"), Result(trial(a=3), (0.9,))]
    assert [r.trial.settings["a"] for r in ranked(results)] == [3, 1, 2]
    assert results[0].mean == pytest.approx(0.6) and results[0].deviation == pytest.approx(0.1 * 2**0.5)


def test_the_choice_of_an_earlier_sweep_does_not_stay_beside_failures(tmp_path):
    axes = [Axis("train.lr", (0.1, 0.2))]
    found = [Result(trial(**{"train.lr": 0.1}), (0.5,)), Result(trial(**{"train.lr": 0.2}), (0.4,))]
    assert write_results(tmp_path, axes, found, [0]) == found[0]
    assert {"best.yaml", "sweep.png"} <= {path.name for path in tmp_path.iterdir()}
    failed = [Result(one.trial, problem="no") for one in found]
    assert write_results(tmp_path, axes, failed, [0]) is None
    assert {path.name for path in tmp_path.iterdir()} == {"sweep.json", "sweep.md"}


def test_a_score_of_zero_is_a_score(swept, tmp_path):
    """With few clips, no validation clip may be right in any epoch."""
    folders = []
    for name in json.loads((swept[0] / "sweep.json").read_text())["results"][0]["runs"]:
        folders.append(tmp_path / name)
        shutil.copytree(swept[0] / name, folders[-1])
        run = RunFolder(folders[-1])
        run.write_history([row | {"val_uar": 0.0, "val_monitor": 0.0} for row in run.read_history()])
    result = read_result(Trial({"model.width": 16}, tuple(folders)))
    assert result.scores == (0.0, 0.0) and result.mean == 0 and result.deviation == 0


def test_the_picture_has_a_panel_for_each_setting():
    axes, _ = split_space(["lr=log(1e-4,1e-2)", "model.ov=[attention,concat]"])
    results = [
        Result(Trial({"train.lr": rate, "model.ov": ov}, ()), (score,))
        for rate, ov, score in ((1e-3, "attention", 0.6), (3e-3, "concat", 0.5))
    ]
    figure = draw(axes, ranked(results))
    first, second = figure.axes
    assert first.get_xscale() == "log" and second.get_xscale() == "linear"
    assert [label.get_text() for label in second.get_xticklabels()] == ["attention", "concat"]


def test_the_title_of_a_picture_of_one_setting_is_whole():
    axes, _ = split_space(["train.lr=[1e-3,2e-3]"])
    figure = draw(axes, ranked([Result(Trial({"train.lr": rate}, ()), (0.5,)) for rate in (1e-3, 2e-3)]))
    figure.canvas.draw()
    box = figure._suptitle.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height
    assert "diamond: the best" in figure._suptitle.get_text()


def test_the_results_name_their_score(swept):
    base, _ = swept
    page = (base / "sweep.md").read_text()
    assert "\nMean validation UAR over the seeds; test" in page and "| model.width | validation UAR |" in page
    assert "by the mean validation UAR, " in (base / "best.yaml").read_text()
    axes = [Axis("a.b", (1, 2))]
    for monitor, name in (("ccc", "validation CCC"), ("loss", "negated validation loss"), ("", "score")):
        found = [Result(Trial({"a.b": value}, ()), (0.5,), monitor=monitor) for value in (1, 2)]
        assert draw(axes, found).axes[0].get_ylabel().endswith(name)


def test_combinations_with_the_same_best_score_are_counted(tmp_path):
    axes = [Axis("train.lr", (0.1, 0.2, 0.3))]
    trials = [Trial({"train.lr": value}, (tmp_path / str(value),)) for value in (0.1, 0.2, 0.3)]
    said = "2 combinations share the best score; best.yaml holds the first of them"
    for scores, told in ((((0.5, 0.6), (0.6, 0.5), (0.1, 0.2)), True), (((0.5,), (0.4,), (0.4,)), False)):
        results = [Result(trial, own) for trial, own in zip(trials, scores, strict=True)]
        best = write_results(tmp_path, axes, results, [0])
        assert best == results[0]
        assert (said in (tmp_path / "sweep.md").read_text()) == told
        assert (f"# {said}" in (tmp_path / "best.yaml").read_text()) == told


@pytest.mark.slow
@pytest.mark.parametrize("space", [["train.lr=[1e-3,2e-3]"], ["lr=log(1e-4,1e-2)", "--trials", "3"]])
def test_dask_workers_do_the_runs(space, words, tmp_path):
    from distributed import LocalCluster

    if "--trials" in space:
        pytest.importorskip("optuna")
    base = tmp_path / "s"
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        own = [*words, f"train.run={base}", f"scheduler={cluster.scheduler_address}", "--quiet"]
        assert main(["sweep", *own, *space]) == 0
    results = json.loads((base / "sweep.json").read_text())["results"]
    assert len(results) == (3 if "--trials" in space else 2)
    assert all(r["scores"] and not r["problem"] for r in results)


def test_with_the_last_epoch_its_own_score_ranks(words, tmp_path):
    """`val_monitor` is then the number of the epoch, which says nothing of the settings."""
    own = [*words, f"train.run={tmp_path / 'sweep'}", "train.monitor=last", "train.epochs=[1,2]", "--quiet"]
    assert main(["sweep", *own]) == 0
    for result in json.loads((tmp_path / "sweep/sweep.json").read_text())["results"]:
        (row,) = RunFolder(tmp_path / "sweep" / result["runs"][0]).read_history()[-1:]
        assert row["epoch"] == result["settings"]["train.epochs"] - 1
        assert result["scores"] == [row["val_uar"]]


@pytest.mark.parametrize("varied", ["model.width=[16,32]", "train.lr=log(1e-4,1e-2)"])
def test_a_sweep_needs_validation_speakers(words, tmp_path, capsys, varied):
    own = [*words, f"train.run={tmp_path / 'sweep'}", "split.val_share=0", "train.monitor=last", varied]
    assert main(["sweep", *own]) == 1
    assert "a sweep ranks settings by validation scores" in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()


def test_the_results_say_where_combinations_were_validated_on_other_clips(swept, tmp_path):
    """The inputs are varied, and some clips have features of one input only."""
    axes, results = [Axis("model.audio", (True, False))], []
    for value, clips in ((True, (10, 10)), (False, (9, 9))):
        trial = Trial({"model.audio": value}, (tmp_path / str(value),))
        results.append(Result(trial, (0.5, 0.6), clips=clips))
    said = "The combinations were validated on 9 to 10 clips"
    for some, told in ((results, True), (results[:1], False)):
        write_results(tmp_path, axes, some, (0, 1))
        assert (said in (tmp_path / "sweep.md").read_text()) == told
        assert (f"# {said}" in (tmp_path / "best.yaml").read_text()) == told
    load_config(tmp_path / "best.yaml")
    best = json.loads((swept[0] / "sweep.json").read_text())["results"][0]
    folders = tuple(swept[0] / name for name in best["runs"])
    validated = {RunFolder(folder).read_info()["clips"]["val"] for folder in folders}
    assert set(read_result(Trial({}, folders)).clips) == validated and len(validated) == 1


def test_values_with_signs_of_formulas_and_tables_are_shown_as_they_are(tmp_path):
    axis = Axis("speech.encoder", ("a$b_{$", "c|d"))
    results = [Result(Trial({axis.key: value}, (tmp_path,)), (0.5,)) for value in axis.values]
    figure = draw([axis], results)
    figure.canvas.draw()  # Matplotlib reads what is between dollar signs as a formula
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == [r"a\$b_{\$", "c|d"]
    assert r"| c\|d | 0.5000 |" in results_module._table(results, [axis], [0])
