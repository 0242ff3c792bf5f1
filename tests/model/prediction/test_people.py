"""``predict --people all``: a prediction for each person, with a stable number, in every kind of output."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import ImageDraw

from deiii import load
from deiii.__main__ import main
from deiii.data.config.strict_yaml import ConfigError
from deiii.model.prediction.files import predict_loaded
from deiii.model.prediction.overlay.panel import COLOURS, EDGE, font
from deiii.model.prediction.overlay.people import PeoplePanel, legend_places
from deiii.model.prediction.result import Person, Prediction, Timeline
from deiii.model.prediction.windows import media
from deiii.model.prediction.windows.timelines import elan_table, spans, webvtt
from deiii.pipeline.media.video import read_video
from tests.helpers.clipmaker import numbered, tone, write

NUMBER_COLOUR = (120, 220, 140)  # of the boxes


@pytest.fixture(scope="module")
def network(seen_run):
    return load(seen_run / "run", device="cpu")


def frames_of(seen_run, name):
    return [rgb for rgb, _ in read_video(seen_run / f"raw/{name}.mp4")]


@pytest.fixture(scope="module")
def both(seen_run, tmp_path_factory):
    """Two people for 0.8 s."""
    left, right = frames_of(seen_run, "c0"), frames_of(seen_run, "c3")
    frames = [np.concatenate(pair, axis=1) for pair in zip(left, right, strict=True)]
    return write(tmp_path_factory.mktemp("both") / "both.mp4", frames, audio=tone(0.8, 200))


@pytest.fixture(scope="module")
def late(seen_run, tmp_path_factory):
    """One person for 2.4 s; another one beside from 1.6 s on."""
    left, right = frames_of(seen_run, "c0"), frames_of(seen_run, "c3")
    left = [*left, *left[::-1], *left]
    wall = [np.full_like(left[0], 90)] * 40
    frames = [np.concatenate(pair, axis=1) for pair in zip(left, [*wall, *right], strict=True)]
    return write(tmp_path_factory.mktemp("late") / "late.mp4", frames, audio=tone(2.4, 200))


def test_who_is_visible_all_the_time_gets_the_prediction_of_predict(network, both):
    people = network.predict_people(both)
    usual = network.predict(both)
    assert [p.person.number for p in people] == [1, 2]
    (chosen,) = [p for p in people if p.person.chosen]
    assert chosen.probabilities == usual.probabilities
    (note,) = set(usual.notes) - set(chosen.notes)
    assert "another face is visible for 0.8 s" in note and "--people all predicts for each" in note
    np.testing.assert_array_equal(chosen.timeline.probabilities, usual.timeline.probabilities)
    (other,) = [p for p in people if not p.person.chosen]
    assert other.probabilities != usual.probabilities
    assert usual.person is None and "person" not in usual.tree()
    for p in people:
        assert p.person.thumbnail.shape == (64, 64, 3) and p.person.thumbnail.std() > 10
        assert p.person.seconds == pytest.approx(0.8, abs=0.05)


def test_a_single_person_gets_the_prediction_of_predict(network, seen_run):
    (only,) = network.predict_people(seen_run / "raw/c1.mp4")
    usual = network.predict(seen_run / "raw/c1.mp4")
    assert only.person.number == 1 and only.probabilities == usual.probabilities
    assert only.contributions == usual.contributions


def test_a_late_person_is_judged_by_the_time_of_their_own(network, late):
    first, second = network.predict_people(late, window_s=0.4, hop_s=0.2)
    assert [first.person.number, second.person.number] == [1, 2]
    assert first.timeline.present.all()
    inside = second.timeline.time > 1.6
    np.testing.assert_array_equal(second.timeline.present, inside)
    assert any("0.8 s for which this person is visible" in note for note in second.notes)
    ((begin, end),) = second.person.stretches
    (part,) = second.segments
    assert (part.begin_s, part.end_s) == pytest.approx((begin, end), abs=0.1)
    assert part.probabilities == second.probabilities
    # The same network on the same features, scored for this time alone.
    alone = network.scorer(second.arrays, [(begin, min(end, second.seconds))], [], None)
    assert list(second.probabilities.values()) == pytest.approx(alone.probabilities["fused"][0].tolist())


def test_speech_and_time_on_screen_count_together(network, late):
    people = network.predict_people(late, speech=[(0.2, 1.0), (1.4, 2.0)])
    assert [(s.begin_s, s.end_s) for s in people[0].segments] == [(0.2, 1.0), (1.4, 2.0)]
    ((begin, end),) = [(s.begin_s, s.end_s) for s in people[1].segments]
    assert begin == pytest.approx(1.6, abs=0.05) and end == 2.0


def test_a_file_that_is_read_in_order_has_the_same_people(network, late, monkeypatch):
    whole = network.predict_people(late, window_s=0.4, hop_s=0.2)
    monkeypatch.setattr(media, "LONG_S", 1.5)
    done: list[float] = []
    persons: list[tuple[int, int]] = []
    found = network.predict_people(
        late, window_s=0.4, hop_s=0.2, progress=done.append,
        person_progress=lambda number, count: persons.append((number, count)),
    )  # fmt: skip
    assert persons == [(1, 2), (2, 2)]
    # Progress is that of three readings: for the tracks, then for each person.
    assert done[0] == 0.0 and sum(b < a / 2 for a, b in zip(done, done[1:], strict=False)) == 2
    assert "frames" not in found[0].arrays["faces"]
    for one, other in zip(found, whole, strict=True):
        assert one.person.number == other.person.number and one.person.stretches == other.person.stretches
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)
        assert one.notes == other.notes and one.outcomes == other.outcomes
        np.testing.assert_array_equal(one.timeline.present, other.timeline.present)
        assert one.person.thumbnail.shape == other.person.thumbnail.shape


def test_nobody_on_screen_is_one_prediction_from_audio(network, tmp_path):
    path = write(tmp_path / "wall.mp4", numbered(20, 96, 96), audio=tone(0.8))
    (found,) = network.predict_people(path)
    assert found.person is None and "predicted from audio alone" in found.notes
    assert found.probabilities == network.predict(path).probabilities
    audio_only = type(network)(network.scorer, network.config, network.task, (1, 1))
    audio_only.stages = ["logmel"]
    with pytest.raises(ConfigError, match="audio alone"):
        audio_only.predict_people(path)


def test_every_output_knows_the_number(tmp_path, seen_run, late, both, capsys):
    out = tmp_path / "out"
    words = ["predict", str(seen_run / "run"), late, both, "--people", "all", "--out", str(out)]
    words += ["--vtt", "--timeline", "--window", "0.4", "--overlay", str(tmp_path / "over")]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "late.mp4  person 2  (0.8 of 2.4 s)" in told and "mouth and audio: correlation" in told
    written = "<name>.json, <name>.vtt, <name>-person<number>.vtt, <name>.tsv and <name>-timeline.csv"
    assert told.endswith(f"predictions.csv, and {written} for each file\n")
    with open(out / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["file"], r["person"]) for r in rows] == [(late, "1"), (late, "2"), (both, "1"), (both, "2")]
    assert float(rows[1]["first_s"]) == pytest.approx(1.6, abs=0.05)
    assert float(rows[1]["visible_s"]) == pytest.approx(0.8, abs=0.05) and rows[0]["follows_sound"]
    tree = json.loads((out / "late.json").read_text())
    assert tree["file"] == late
    for row, one in zip(rows[:2], tree["people"], strict=True):
        assert one["person"]["number"] == int(row["person"]) and one["label"] == row["label"]
        image = cv2.imread(str(out / one["person"]["thumbnail"]))
        assert image.shape == (64, 64, 3)
    assert [one["person"]["stretches"][0][0] for one in tree["people"]] == pytest.approx([0, 1.6], abs=0.05)
    cues = (out / "late.vtt").read_text().split("\n\n")[1:]
    second = [c for c in cues if "\n2: " in c]
    assert second and all(c.startswith("00:00:01.6") or c > "00:00:01.6" for c in second)
    assert {c.split("\n")[1][:2] for c in cues} == {"1:", "2:"} and cues == sorted(cues)
    alone = (out / "late-person2.vtt").read_text().split("\n\n")[1:]
    assert [c.replace("\n2: ", "\n").strip() for c in second] == [c.strip() for c in alone]
    table = (out / "late.tsv").read_text()
    assert "person 1 emotion\t0.000" in table and "person 2 valence" in table and "\nemotion" not in table
    drawn = [rgb for rgb, _ in read_video(tmp_path / "over/late.mp4")]
    assert drawn[0].shape == (160 + 164, 640, 3) and len(drawn) == 60  # two rows of 60 px, and the legend

    def box_px(frame, left):
        part = frame[:160, left : left + 160].astype(int)
        return int((np.abs(part - NUMBER_COLOUR).max(axis=-1) < 30).sum())

    assert box_px(drawn[30], 160) > 150 and box_px(drawn[30], 320) < 20
    assert box_px(drawn[55], 160) > 150 and box_px(drawn[55], 320) > 150


def test_live_is_for_one_person(seen_run, capsys):
    assert main(["predict", str(seen_run / "run"), "--live", "0", "--people", "all"]) == 1
    assert "leave --people out" in capsys.readouterr().err


def test_without_people_the_outputs_are_as_before(tmp_path, network, both):
    predict_loaded(network, [both], tmp_path, progress=False, report=lambda text: None)
    header = (tmp_path / "predictions.csv").read_text().splitlines()[0].split(",")
    assert header[-6] == "notes" and "person" not in header  # five figures of the face follow
    assert "person" not in json.loads((tmp_path / "both.json").read_text())
    assert not list(tmp_path.glob("*.png"))


def test_subtitles_of_several_people_are_in_order_of_time():
    def course(number, present):
        p = np.full((4, 2), 0.4, np.float32)
        p[:, number - 1] = 0.6
        timeline = Timeline(0.25 + 0.5 * np.arange(4), p, np.zeros((4, 0)), np.array(present), 1.0)
        found = Prediction("a.mp4", 2.0, {}, {"sad": 0.5, "happy": 0.5}, timeline=timeline)
        return spans(replace(found, person=Person(number, ((0.0, 2.0),))))

    both = course(1, [1, 0, 0, 1]) + course(2, [0, 1, 1, 1])
    text = webvtt(both)
    said = [line for line in text.splitlines() if ":" in line and "-->" not in line]
    assert said == ["1: sad 0.60", "2: happy 0.60", "1: sad 0.60"]
    assert elan_table(both).splitlines()[1].startswith("person 1 emotion\t0.000\t0.500\tsad")


def test_the_legend_shows_the_colour_of_each_class():
    """The colours of the courses had no names."""
    names = ["angry", "calm", "disgust", "fearful", "happy", "neutral", "sad", "surprised"]
    p = np.full((4, 8), 0.125, np.float32)
    timeline = Timeline(0.25 + 0.5 * np.arange(4), p, np.zeros((4, 0)), np.ones(4, bool), 1.0)
    found = Prediction("a.mp4", 2.0, {}, dict.fromkeys(names, 0.125), timeline=timeline)
    people = [replace(found, person=Person(number, ((0.0, 2.0),))) for number in (1, 2)]
    panel = PeoplePanel(people, [], 640)
    canvas = panel.draw(0.5)
    assert canvas.shape == (panel.height, 640, 3) and panel.height % 2 == 0
    assert [name for name, _, _ in panel.legend] == names
    for (_, x, line), colour in zip(panel.legend, COLOURS, strict=False):
        top = EDGE + 2 * 60 - 4 + 16 * (line + 1) + 2
        np.testing.assert_array_equal(canvas[top : top + 10, EDGE + x : EDGE + x + 10], [[colour] * 10] * 10)
    narrow = legend_places(names, 200)
    assert [line for _, _, line in narrow] == sorted(line for _, _, line in narrow) and narrow[-1][2] > 1
    assert all(x + 14 + font(12).getlength(name) <= 200 for name, x, _ in narrow)
    values = replace(timeline, attributes=np.zeros((4, 1)))
    flat = replace(people[0], probabilities={}, attributes={"valence": 0.1}, timeline=values)
    assert [name for name, _, _ in PeoplePanel([flat], [(-1, 1)], 640).legend] == ["valence"]


@pytest.mark.parametrize(
    ("number", "words"),
    [(6, ""), (7, "; 1 more person is not shown here"), (8, "; 2 more people are not shown here")],
)
def test_the_panel_counts_the_people_who_do_not_fit(monkeypatch, number, words):
    drawn: list[str] = []
    write_text = ImageDraw.ImageDraw.text

    def text(draw, place, line, *args, **more):
        drawn.append(line)
        return write_text(draw, place, line, *args, **more)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    one = Prediction("a.mp4", 2.0, {}, {"happy": 0.4, "sad": 0.6})
    PeoplePanel([replace(one, person=Person(n + 1, ((0.0, 2.0),))) for n in range(number)], [], 640)
    assert [line for line in drawn if "shown here" in line] == ([words] if words else [])
