"""People read the name of a table corpus's folder; ``table-clips`` is the name of its folder in a cache."""

from __future__ import annotations

import pytest

from deiii.data.config.load import load_config
from deiii.data.corpora.clips import Corpus, readable_name
from deiii.data.corpora.scan import title_of
from deiii.model.corpus_title import corpus_title


@pytest.mark.parametrize(
    ("name", "base", "expected"),
    [
        ("table-clips", "", "theatre"),
        ("table-clips-1a2b3c4d", "table-clips", "theatre"),
        ("table-evening", "", "evening in theatre"),
        ("table-clips-20240101", "", "clips-20240101 in theatre"),
        ("table-clips-20240101-1a2b3c4d", "table-clips-20240101", "clips-20240101 in theatre"),
        ("ravdess-audio-only-speech", "", "ravdess-audio-only-speech"),
        ("table-a+table-b", "", "table-a+table-b"),
    ],
)
def test_a_corpus_has_the_name_that_people_gave(name, base, expected):
    assert Corpus(name, "/data/theatre", ("happy",), (), base=base).title == expected


def test_the_table_names_its_file_as_it_is_written():
    words = ["corpus.name=table", "corpus.root=/data/theatre", "corpus.table=lists/first evening.csv"]
    config = load_config(overrides=words)
    assert title_of(config.corpus) == "first evening in theatre"
    assert readable_name("table-first_evening", "/data/theatre") == "first_evening in theatre"
    assert corpus_title(config, {"corpus": "table-first_evening"}) == "first evening in theatre"


def test_a_mixture_names_each_corpus():
    parts = [{"corpus": "table-clips", "name": "table", "root": "/data/theatre"},
             {"corpus": "crema_d", "name": "crema_d", "root": "/data/CREMA-D"}]  # fmt: skip
    info = {"corpus": "table-clips+crema_d", "mixed": parts}
    config = load_config(overrides=["mix=[configs/crema_d.yaml]"])
    assert corpus_title(config, info) == "theatre+crema_d"


def test_corrupted_copies_are_counted():
    parts = [{"corpus": f"table-clips{end}", "name": "table", "root": "/data/theatre"}
             for end in ("", "-noise-10-v2", "-speed-0_9")]  # fmt: skip
    info = {"corpus": "table-clips+table-clips-noise-10-v2+table-clips-speed-0_9", "mixed": parts}
    config = load_config(overrides=["copies=[noise=10,speed=0.9]"])
    assert corpus_title(config, info) == "theatre and 2 corrupted copies"
