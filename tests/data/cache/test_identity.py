"""Which folder of a cache belongs to a corpus, where names look alike."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from deiii.data.cache.identity import find_corpus, identity_of, owners, write_identity
from deiii.data.cache.index import CacheError, write_table
from deiii.data.config.load import load_config
from deiii.data.corpora.scan import cache_name, scan
from tests.helpers.tables import tone_rows, write_rows


@pytest.fixture
def dated(tmp_path):
    """A cache of the table clips-20240101.csv, and a table clips.csv of the same clips with other labels."""
    rows = tone_rows(tmp_path / "raw", speakers=2, clips=1)
    write_rows(tmp_path / "raw", rows).rename(tmp_path / "raw/clips-20240101.csv")
    write_rows(tmp_path / "raw", [[path, speaker, label.upper()] for path, speaker, label in rows])
    add(config(tmp_path, "clips-20240101.csv"))
    return tmp_path


def config(folder, table):
    words = [f"corpus.root={folder / 'raw'}", f"corpus.table={table}", f"cache={folder / 'cache'}"]
    return load_config("table", words)


def add(config, name=""):
    """Write what preprocessing writes on the corpus of a folder."""
    corpus = scan(config.corpus)
    corpus = replace(corpus, name=name, base=corpus.name) if name else corpus
    write_identity(config.cache, corpus.name, identity_of(config.corpus, corpus))
    write_table(config.cache, corpus)


@pytest.mark.parametrize("there", [True, False])  # whether the corpus is on this machine
def test_a_date_in_a_tables_name_is_no_digest(dated, there):
    if not there:
        shutil.rmtree(dated / "raw")
    assert find_corpus(config(dated, "clips-20240101.csv")).name == "table-clips-20240101"
    with pytest.raises(CacheError, match="preprocess"):
        find_corpus(config(dated, "clips.csv"))


def test_a_second_corpus_of_the_name_is_still_found(dated):
    plain = config(dated, "clips.csv")
    add(plain, "table-clips-1a2b3c4d")
    assert cache_name(plain.corpus) == "table-clips"
    assert list(owners(plain.cache, "table-clips")) == ["table-clips-1a2b3c4d"]
    assert find_corpus(plain).name == "table-clips-1a2b3c4d"


def test_a_date_in_the_title_of_a_pattern_is_no_digest(dated):
    words = [f"corpus.root={dated / 'raw'}", f"cache={dated / 'cache'}", "corpus.name=pattern"]
    words += [r"corpus.pattern=(?P<speaker>s\d)/c(?P<label>\d)", "corpus.title=mine-20240101"]
    add(load_config([], words))
    words[-1] = "corpus.title=mine"
    assert owners(dated / "cache", "pattern-mine") == {}
    assert list(owners(dated / "cache", "pattern-mine-20240101")) == ["pattern-mine-20240101"]


def test_long_names_are_cut_to_what_a_file_system_allows(dated):
    """A table's name of 250 characters is allowed; with what is added, the folder's would not be."""
    long = "x" * 250
    table = config(dated, f"{long}.csv").corpus
    pattern = replace(table, name="pattern", title=long)
    for corpus in (table, pattern, replace(table, corrupt="speed=0.9")):
        assert len(f"{cache_name(corpus)}-1a2b3c4d") <= 255
    assert cache_name(config(dated, "clips.csv").corpus) == "table-clips"
