"""The picture of a prediction's course shows at each time what the timeline holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg

from deiii.__main__ import main
from deiii.model.prediction.overlay import picture
from deiii.model.prediction.overlay.panel import COLOURS
from deiii.model.prediction.overlay.picture import course_figure, write_picture
from deiii.model.prediction.result import Person, Prediction, Segment, Timeline
from deiii.model.prediction.windows.timelines import rows_of

EMPTY = (230, 233, 239)
NAMES = ("sad", "happy", "calm")


def prediction(p, present=None, hop=0.5, attributes=None, **more) -> Prediction:
    """A prediction whose windows have these probabilities, float [W,3]."""
    count = len(p)
    present = np.ones(count, bool) if present is None else np.asarray(present)
    values = np.zeros((count, 0)) if attributes is None else np.asarray(attributes, np.float32)[:, None]
    timeline = Timeline(hop / 2 + hop * np.arange(count), np.asarray(p, np.float32), values, present, 1.0)
    names = dict.fromkeys(NAMES, 1 / 3)
    of_attributes = {} if attributes is None else {"valence": 0.0}
    return Prediction("a/talk $1.mp4", count * hop, {}, names, of_attributes, timeline=timeline, **more)


def colour_at(figure, axes, seconds, level):
    """The colour at a place of a panel, (R,G,B)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = np.asarray(canvas.buffer_rgba())
    x, y = axes.transData.transform((seconds, level))
    return tuple(int(v) for v in image[image.shape[0] - 1 - int(y), int(x), :3])


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=12))
@settings(max_examples=15, deadline=None)
def test_at_each_time_the_most_probable_class_has_its_part_and_gaps_are_empty(rows):
    p = np.full((len(rows), 3), 0.1)
    top, present = (np.array(values) for values in zip(*rows, strict=True))
    p[np.arange(len(rows)), top] = 0.8
    figure = course_figure([prediction(p, present)], [])
    (axes,) = figure.axes
    for number, (best, there) in enumerate(rows):
        found = colour_at(figure, axes, 0.5 * number + 0.25, 0.1 * best + 0.4)
        assert found == (COLOURS[best] if there else EMPTY)


def test_silence_between_segments_is_empty():
    outputs = dict(zip(NAMES, (0.1, 0.8, 0.1), strict=True))
    spoken = (Segment(0.2, 1.1, outputs, {}), Segment(3.0, 3.8, outputs, {}))
    p = prediction(np.tile([0.1, 0.8, 0.1], (8, 1)), segments=spoken)
    figure = course_figure([p], [])
    for seconds, there in ((0.1, False), (0.3, True), (1.0, True), (1.3, False), (2.9, False), (3.5, True)):
        assert (colour_at(figure, figure.axes[0], seconds, 0.5) == COLOURS[1]) is there, seconds


@given(st.sampled_from([701, 1201, 2003]), st.integers(0, 100))
@settings(max_examples=10, deadline=None)
def test_steps_of_a_long_recording_are_means_weighted_by_length(count, seed):
    """With a prime number of rows, no row has its middle at the edge of a step."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(3), count)
    found = prediction(p, rng.random(count) < 0.99, hop=0.5)
    times, values = picture._steps(rows_of(found), 3, found.seconds)
    middle = 0.5 * (np.arange(count) + 0.5)
    covered = 0
    for (begin_s, end_s), value in zip(times, values, strict=True):
        own = found.timeline.present & (middle >= begin_s) & (middle < end_s)
        np.testing.assert_allclose(value, found.timeline.probabilities[own].mean(axis=0), atol=2e-3)
        covered += own.sum()
    assert len(times) <= 600 < found.timeline.present.sum() == covered


def test_each_person_has_a_thumbnail_and_panels_for_classes_and_attributes(tmp_path):
    people = [Person(n, ((0.0, 2.0),), thumbnail=np.full((8, 8, 3), 60 * n, np.uint8)) for n in (1, 2)]
    own = [
        prediction(np.full((4, 3), 1 / 3), attributes=[-0.5, 0.0, 0.5, 1.0], person=person)
        for person in people
    ]
    figure = course_figure(own, [(-1.0, 1.0)])
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["person 1", "person 2"]
    assert [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()] == ["probability", "valence"] * 2
    shown = [axes.images[0].get_array()[0, 0, 0] for axes in figure.axes if axes.images]
    assert shown == [60, 120]
    line = next(axes for axes in figure.axes if axes.get_ylabel() == "valence").lines[0]
    assert line.get_ydata()[::2].tolist() == [-0.5, 0.0, 0.5, 1.0]
    words = [text.get_text() for text in figure.texts]
    assert words == ["talk \\$1.mp4 (0:02)"]
    write_picture(own, [(-1.0, 1.0)], tmp_path / "talk.png")
    assert (tmp_path / "talk.png").read_bytes()[:4] == b"\x89PNG"


def test_a_file_without_a_prediction_gets_an_empty_picture(tmp_path):
    write_picture([Prediction("名前.mp4", 0.0, {})], [], tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_the_command_writes_the_picture_and_names_it(seen_run, tmp_path, capsys):
    media = next((seen_run / "raw").rglob("*.mp4"))
    out = tmp_path / "out"
    assert main(["predict", str(seen_run / "run"), str(media), "--out", str(out), "--picture"]) == 0
    assert "and <name>.json and <name>-timeline.png for each file" in capsys.readouterr().out
    assert (out / f"{media.stem}-timeline.png").read_bytes()[:4] == b"\x89PNG"
    assert main(["predict", str(seen_run / "run"), "--live", str(media), "--picture"]) == 1
    assert "leave --picture out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (7.5, "0:07.5"), (59.96, "1:00"), (3599.99, "1:00:00"), (7265, "2:01:05")],
)
def test_times_are_text(seconds, text):
    assert picture._clock(seconds) == text
