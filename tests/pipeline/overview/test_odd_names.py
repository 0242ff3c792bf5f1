"""Names with characters that reverse text are shown with escapes; tables for programs keep the names."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace

import numpy as np
from markupsafe import Markup

from deiii.data.pages.rendering import _environment
from deiii.data.tools.pictures import figure_text
from deiii.model.prediction.overlay.panel import Panel, headline
from deiii.model.prediction.result import Prediction, Timeline
from deiii.model.prediction.windows.timelines import Span, elan_table, webvtt
from deiii.pipeline.overview.page import write_overview
from tests.pipeline.overview.test_overview import preprocessed

REVERSED, SHOWN = "gpj.\u202e4pm\u2066\x1b", r"gpj.\u202e4pm\u2066\x1b"
ARABIC = "\u0633\u0639\u064a\u062f\u200f 1"  # with a right-to-left mark, which reverses nothing


def test_the_overview_shows_escapes_and_keeps_right_to_left_names(tmp_path):
    """The caption of such a clip ended with the letters of its label, reversed."""
    config, corpus = preprocessed(tmp_path, 12)
    clips = tuple(
        replace(c, speaker=REVERSED, label=(ARABIC, REVERSED)[n % 2]) for n, c in enumerate(corpus.clips)
    )
    page = write_overview(config, replace(corpus, classes=(ARABIC, REVERSED), clips=clips))
    text = page.read_text(encoding="utf-8")
    assert not set(text) & set("\u202e\u2066\x1b") and ARABIC in text
    assert f"speaker <bdi>{SHOWN}</bdi>" in text and f"<td><bdi>{SHOWN}</bdi></td>" in text
    data = re.search(r'<script type="application/json" id="clips">(.*?)</script>', text)
    rows = json.loads(data[1])
    # The filters of the page compare these names with those of the pictures.
    assert {row[1] for row in rows} == {SHOWN} == set(re.findall(r'data-speaker="([^"]*)"', text))
    assert {row[2] for row in rows} == {ARABIC, SHOWN}


def test_markdown_and_figures_show_escapes():
    assert figure_text(f"{REVERSED} $1\n") == rf"{SHOWN} \$1" + "\n" and figure_text(ARABIC) == ARABIC
    markdown = _environment().from_string("# {{ name | plain }}\n")
    assert markdown.render(name=f"{REVERSED} {ARABIC}") == f"# {SHOWN} {ARABIC}\n"
    assert _environment().from_string("{{ html }}").render(html=Markup("<b>\n</b>")) == "<b>\n</b>"


def test_subtitles_show_escapes_and_tables_keep_the_name():
    found = [Span("emotion", 0.0, 1.0, REVERSED, 0.5), Span("emotion", 1.0, 2.0, ARABIC, 0.5)]
    text = webvtt(found)
    assert f"\n{SHOWN} 0.50\n" in text and f"\n{ARABIC} 0.50\n" in text
    rows = list(csv.DictReader(io.StringIO(elan_table(found)), delimiter="\t"))
    assert rows[0]["annotation"] == REVERSED


def test_overlays_show_escapes():
    timeline = Timeline(np.array([0.5]), np.array([[0.9, 0.1]]), np.zeros((1, 0)), np.ones(1, bool), 1.0)
    prediction = Prediction("a.mp4", 1.0, {}, {REVERSED: 0.9, ARABIC: 0.1}, timeline=timeline)
    assert headline(prediction, 0.5) == f"{SHOWN} 0.90"
    panel = Panel(prediction, [], 640)
    assert panel.names == [SHOWN, ARABIC] and panel.draw(0.5, None).shape[1] == 640
    assert list(prediction.tree()["probabilities"]) == [REVERSED, ARABIC]
