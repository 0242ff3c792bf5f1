"""The figures of evaluation and the report, from predictions with known figures."""

import csv
import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from deiii.data.cache.outcomes import Outcome, Status
from deiii.data.config.schema import Config
from deiii.data.corpora.clips import Clip, Corpus
from deiii.model.evaluation.figures import figure_curves, loss_curves
from deiii.model.evaluation.predictions import write_predictions
from deiii.model.evaluation.report import _ablation, _per_speaker, _preprocessing, write_report
from deiii.model.evaluation.results import brief_figures, full_figures, prediction_table, summary
from deiii.model.evaluation.sections.calibration import calibration_of
from deiii.model.network.task import Task
from deiii.model.provenance import provenance
from deiii.model.training.run_folder import RunFolder
from deiii.model.training.scoring import Predictions
from tests.helpers.intervals import recall_interval

CLASSES = ("calm", "<b>angry</b>")
TASK = Task(CLASSES, ("arousal",), ((-1.0, 1.0),))
CLIPS = [Clip(f"s{i // 4}/{i}", f"{i}.mp4", f"s{i // 4}", CLASSES[i % 2]) for i in range(12)]
SPEAKERS = np.array([c.speaker for c in CLIPS])


def predictions() -> Predictions:
    """Return predictions: classes are wrong for all clips of speaker s0 alone, arousal is right."""
    label = np.arange(12) % 2
    guess = np.where(np.arange(12) < 4, 1 - label, label)
    p = np.eye(2, dtype=np.float32)[guess] * 0.8 + 0.1
    target = np.linspace(-1, 1, 12, dtype=np.float32)[:, None]
    target[3] = np.nan
    attributes = np.nan_to_num(target, nan=0.7)
    has_audio = np.arange(12) != 5
    present = {"fused": np.ones(12, bool), "audio": has_audio}

    def by_head(x):
        return {"fused": x, "audio": x}

    return Predictions(np.arange(12), label, target, by_head(p), by_head(attributes), present, 0.5)


def labels():
    """True and predicted class numbers."""
    found = predictions()
    return found.label, found.probabilities["fused"].argmax(axis=1)


def features():
    outcome = {c.id: Outcome(Status.OK) for c in CLIPS}
    outcome["s0/0"] = Outcome(Status.NO_FACE, "no face in <75> frames")
    corpus = Corpus("toy", ".", CLASSES, tuple(CLIPS))
    return SimpleNamespace(corpus=corpus, clips=CLIPS, keys={"faces": "abc123"}, outcomes={"faces": outcome})


@pytest.mark.parametrize(("interval", "columns"), [(None, 2), ((0.2, 0.6), 3)])
def test_the_table_of_heads_has_no_column_of_intervals_that_do_not_exist(interval, columns):
    figures = {"uar": 0.4, "uar_ci": interval, "war": 0.4, "macro_f1": 0.4}
    table = _ablation({"test": figures, "heads": {"audio": figures}, "without": {}})
    assert [len(table["header"]), *(len(row) for row in table["rows"])] == [columns] * 3


def test_figures_of_all_clips_and_of_each_speaker():
    found = full_figures(predictions(), SPEAKERS, TASK)
    assert found["uar"] == found["war"] == pytest.approx(8 / 12)
    assert found["confusion"] == [[4, 2], [2, 4]]
    assert found["ccc_arousal"] == pytest.approx(1)
    assert [s["uar"] for s in found["per_speaker"].values()] == [0, 1, 1]
    unread = predictions()
    unread.present["fused"][:] = False  # nothing was left for the head to read
    assert full_figures(unread, SPEAKERS, TASK)["per_speaker"] == found["per_speaker"]
    rows = [(s, CLASSES[t], CLASSES[g]) for s, t, g in zip(SPEAKERS, *labels(), strict=True)]
    assert found["uar_ci"] == pytest.approx(recall_interval(rows))  # three speakers, one of them always wrong


def test_without_intervals_the_page_does_not_name_their_kind(tmp_path):
    run, metrics, path = write(tmp_path)
    assert "Below each figure: 95 % " in path.read_text(encoding="utf-8")
    test = {name: None if name.endswith("_ci") else value for name, value in metrics["test"].items()}
    text = write_report(run, {**metrics, "test": test}, run.read_info(), features()).read_text(
        encoding="utf-8"
    )
    assert "Below each figure" not in text and "no intervals: they need 3 speakers" in text


def test_the_page_names_the_form_of_its_intervals(tmp_path):
    run, metrics, _ = write(tmp_path)
    for more, words in (
        ({}, "speakers."),
        ({"interval_form": "in Wilson's form"}, "speakers, in Wilson's form."),
    ):
        found = (
            metrics | {"interval": "t interval over speakers"} | more
        )  # older files do not record the form
        page = write_report(run, found, run.read_info(), features()).read_text(encoding="utf-8")
        assert f"Below each figure: 95 % t interval over {words}" in html.unescape(page)


def test_a_modality_head_is_scored_on_clips_that_have_the_modality():
    found = brief_figures(predictions(), SPEAKERS, TASK, "audio")
    assert found["clips"] == 11 and found["war"] == pytest.approx(7 / 11)


def test_predictions_file(tmp_path):
    write_predictions(tmp_path / "p.csv", prediction_table(predictions(), features(), TASK))
    with open(tmp_path / "p.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 and rows[0]["clip"] == "s0/0" and rows[0]["speaker"] == "s0"
    assert (rows[0]["truth"], rows[0]["predicted"], rows[0]["p_calm"]) == ("calm", CLASSES[1], "0.1000")
    assert rows[3]["arousal_truth"] == "" and rows[3]["arousal_predicted"] == "0.7000"


class Page(HTMLParser):
    """Collects the tags of a page and what it would load."""

    def __init__(self):
        super().__init__()
        self.tags, self.outside = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.outside += [v for k, v in attrs if k in ("src", "href", "xlink:href") and not v.startswith("#")]


def write(tmp_path):
    run = RunFolder(tmp_path)
    counts = {"test": 12}
    info = {
        "keys": {"faces": "abc123"},
        "split": "d1",
        "classes": list(CLASSES),
        "corpus": "toy",
        "clips": counts,
    }
    run.create(Config(), {**info, **provenance()}, resume=False)
    run.write_history(
        [{"epoch": e, "train_loss": 2 - e, "val_loss": 2 - e / 2, "val_uar": e / 3} for e in range(3)]
    )
    full = full_figures(predictions(), SPEAKERS, TASK)
    brief = brief_figures(predictions(), SPEAKERS, TASK)
    metrics = {
        "test": full, "val": full, "heads": {"audio": brief}, "without": {"frames+flow": brief}, "epoch": 2,
        "clips": {"test": {"in_split": 14, "scored": 12}},
    }  # fmt: skip
    json.dumps(metrics, allow_nan=False)
    return run, metrics, write_report(run, metrics, run.read_info(), features())


def test_the_page_loads_nothing_and_escapes_its_values(tmp_path):
    run, _, path = write(tmp_path)
    text = path.read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.outside == [] and "script" not in page.tags and "b" in page.tags
    assert "<b>angry" not in text and "&lt;b&gt;angry" in text and "&lt;75&gt;" in text
    assert page.tags.count("svg") == 2 and "prefers-color-scheme: dark" in text
    assert not re.search(r"url\((?!#)", text) and "@import" not in text
    assert {p.name for p in run.figures.iterdir()} == {"loss.png", "validation.png", "confusion.png"}


def test_a_run_whose_history_was_not_copied_has_a_page_without_its_curves(tmp_path):
    """After the test speakers were scored, a missing file of the training must not lose their figures."""
    run, metrics, path = write(tmp_path)
    run.metrics_csv.unlink()
    write_report(run, metrics, run.read_info(), features())
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    assert page.tags.count("svg") == 0 and page.tags.count("table") > 2


def test_the_page_shows_the_numbers(tmp_path):
    _, metrics, path = write(tmp_path)
    text = path.read_text(encoding="utf-8")
    for shown in (
        "0.667",
        "no_face",
        "abc123",
        "fused head without frames and flow",
        "2 more could not be used",
    ):
        assert shown in text
    assert "12 of 14 test clips" in summary(metrics) and "CCC arousal" in summary(metrics)
    classes = len(metrics["test"]["per_class"])
    assert summary(metrics).splitlines()[0].endswith(f"(guessing: {1 / classes:.3f})")
    assert f"guessing gives {1 / classes:.3f}" in text and "WAR is the share" in text


def test_the_page_explains_its_figures(tmp_path):
    run, metrics, _ = write(tmp_path)
    metrics["calibration"] = calibration_of(predictions(), predictions())
    text = write_report(run, metrics, run.read_info(), features()).read_text(encoding="utf-8")
    for words in (
        "ECE is the expected calibration error, with 15 bins",
        '<td class="text">negative log-likelihood</td>',
        "the other heads read video or audio alone",
    ):
        assert words in text
    # The name of the figure that the bars of classes, of speakers and of heads show.
    assert re.findall(r'<th class="bar text">(.*?)</th>', text) == ["recall", "UAR", "UAR"]


def test_the_curve_of_a_single_epoch_is_a_dot_on_an_axis_of_whole_epochs():
    figure = loss_curves([{"epoch": 3, "train_loss": 2.0, "val_loss": 1.5}], best=3)
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    shown = [line for line in axes.lines if line.get_label() in ("training", "validation")]
    assert [line.get_marker() for line in shown] == ["o", "o"]
    low, high = axes.get_xlim()
    assert all(tick == round(tick) for tick in axes.get_xticks() if low <= tick <= high)


def test_a_first_speaker_without_labels_hides_no_column_of_the_others():
    found = predictions()
    label = np.where(np.arange(12) < 4, -1, found.label)
    test = full_figures(replace(found, label=label), SPEAKERS, TASK)
    shown = _per_speaker(test, {})
    assert shown["header"] == ("speaker", "clips", "UAR", "WAR", "CCC arousal")
    assert [row[2] for row in shown["rows"]] == ["–", "1.000", "1.000"]
    assert shown["bars"] == [None, 1.0, 1.0]


def test_curves_without_any_value_say_so():
    """Where no validation clip has a rating; a legend without entries would be a warning."""
    figure = figure_curves([{"epoch": 0.0, "train_loss": 1.0, "val_ccc_valence": None}], 0)
    assert [text.get_text() for text in figure.axes[0].texts] == ["no values"]
    assert figure.axes[0].get_legend() is None
    assert figure_curves([{"epoch": 0.0, "val_ccc_valence": 0.5}], 0).axes[0].get_legend() is not None


def test_the_summary_names_what_clips_lack():
    test = {"per_speaker": {}, "ccc_valence": 0.5, "loss": 0.1}
    counts = {"test": {"in_split": 3, "scored": 2, "unlabelled": 1}}
    assert "(1 has no rating and is not scored)" in summary({"test": test, "clips": counts})
    test["uar"] = 0.5
    assert "(1 has no label, such as a tie or a dropped class, and is not scored)" in summary(
        {"test": test, "clips": counts}
    )


def test_a_clip_that_no_stage_can_use_is_one_clip_without_features():
    fine, lost, part = Outcome(Status.OK), Outcome(Status.NOT_MEDIA, "a page"), Outcome(Status.OK_PARTIAL)
    outcomes = {"faces": {"a": lost, "b": part, "c": fine}, "logmel": {"a": lost, "b": fine, "c": lost}}
    corpus = Corpus("table", "raw", (), ())
    features = SimpleNamespace(outcomes=outcomes, keys={"faces": "k", "logmel": "l"}, corpus=corpus)
    found = _preprocessing(features, Config())
    assert found["failed_clips"] == "2 clips" and len(found["failures"]) == 3
    assert found["outcomes"]["header"] == ("stage", "ok", "ok_partial", "not_media", "cache key")
    assert found["outcomes"]["rows"] == [("faces", 1, 1, 1, "k"), ("logmel", 1, 0, 2, "l")]
    features.outcomes = {stage: {"a": by_id["a"]} for stage, by_id in outcomes.items()}
    assert _preprocessing(features, Config())["failed_clips"] == "1 clip"
