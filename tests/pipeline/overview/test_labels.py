"""The table of speakers and labels, for corpora without labels, with odd ones and with thousands."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from deiii.data.corpora.clips import Clip, Corpus
from deiii.pipeline.overview.page import MOST_LABELS, _label_names, _labels, write_overview
from tests.pipeline.overview.test_overview import browse, needs_chromium, preprocessed


def corpus_of(*labels: str | None) -> Corpus:
    """A corpus with a clip of each label, by two speakers in turn."""
    clips = [Clip(f"c{i}", f"c{i}.mp4", f"s{i % 2}", label) for i, label in enumerate(labels)]
    return Corpus("table", "/corpus", tuple(sorted({x for x in labels if x})), tuple(clips))


def table_of(corpus: Corpus) -> dict:
    return _labels(corpus, _label_names(corpus))


def test_a_class_with_the_name_of_a_missing_label_is_counted_apart():
    """Both columns counted the clips of the class and those without a label."""
    table = table_of(corpus_of("no label", None, "no label", "x", None, None))
    assert dict(zip(table["names"], table["totals"], strict=True)) == {"no label": 2, "x": 1, "(no label)": 3}
    assert table["rows"] == [("s0", [2, 0, 1], 3), ("s1", [0, 1, 2], 3)]


def test_a_corpus_without_labels_has_no_column_of_labels():
    table = table_of(corpus_of(None, None, None))
    assert table["names"] == [] and [row[1:] for row in table["rows"]] == [([], 2), ([], 1)]


def test_the_columns_of_thousands_of_labels_are_the_most_frequent_ones():
    """A table of 300 speakers and 3,000 labels took 20 MB."""
    labels = [f"label {i:04d}" for i in range(3000)] + 2 * [f"label {i:04d}" for i in range(0, 3000, 100)]
    table = table_of(corpus_of(*labels))
    count = Counter(labels)
    assert len(table["names"]) == MOST_LABELS and table["more_names"] == 3000 - MOST_LABELS
    assert {f"label {i:04d}" for i in range(0, 3000, 100)} <= set(table["names"])
    assert table["totals"] == [count[name] for name in table["names"]]
    assert table["gaps"] == 2 and sum(total for *_, total in table["rows"]) == len(labels)


@pytest.mark.parametrize("classes", [(), ("happy", "sad")])
def test_the_page_says_that_a_corpus_has_no_labels(tmp_path, classes):
    """It said that every speaker has clips of every label."""
    config, corpus = preprocessed(tmp_path, 12)
    if not classes:
        corpus = replace(corpus, classes=(), clips=tuple(replace(c, label=None) for c in corpus.clips))
    text = write_overview(config, corpus).read_text(encoding="utf-8")
    assert ("The clips have no labels." in text) == (not classes)
    assert "Every speaker has clips of every label." not in text


@needs_chromium
def test_names_that_are_written_from_right_to_left_keep_their_order(tmp_path):
    """Speaker and label of a caption changed places, because their letters and the comma were one text."""
    config, corpus = preprocessed(tmp_path, 12)
    speaker, label = "\u0645\u0631\u062d\u0628\u0627", "\u063a\u0636\u0628"
    clips = tuple(replace(c, speaker=speaker, label=label) for c in corpus.clips)
    page = write_overview(config, replace(corpus, classes=(label,), clips=clips))
    drive = """<script>
      const wrong = [...document.querySelectorAll("figure[data-clip] figcaption, li")].filter((text) => {
        const names = [...text.querySelectorAll("bdi")].slice(1, 3).map((e) => e.getBoundingClientRect());
        return names.length < 2 || (names[0].top === names[1].top && names[0].right > names[1].left);
      });
      document.body.dataset.wrong = wrong.length;
    </script></body>"""
    assert 'data-wrong="0"' in browse(driven(page, drive), 1100, False)


def driven(page: Path, drive: str) -> Path:
    """A copy of a page that runs a script of the test."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"script-src [^;\"]*", "script-src 'unsafe-inline'", text).replace("</body>", drive)
    copy = page.with_name("driven.html")
    copy.write_text(text, encoding="utf-8")
    return copy


@needs_chromium
def test_rows_stay_in_view_below_long_labels(tmp_path):
    """The header stays in view while the table scrolls; a label of many words made it cover all rows."""
    config, corpus = preprocessed(tmp_path, 30)
    long = "a label of many words " * 12
    clips = tuple(replace(c, label=long if c.label == "sad" else c.label) for c in corpus.clips)
    page = write_overview(config, replace(corpus, classes=("happy", long), clips=clips))
    drive = """<script>
      const table = document.querySelector("table.counts");
      const share = table.tHead.clientHeight / table.parentElement.clientHeight;
      document.body.dataset.share = Math.round(100 * share);
    </script></body>"""
    found = re.search(r'data-share="(\d+)"', browse(driven(page, drive), 500, False))
    assert found and int(found[1]) < 40
