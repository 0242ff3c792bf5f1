"""Whose a cache folder is: runs that ended before their first shard keep no folder from another corpus."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deiii.__main__ import main
from deiii.data.cache.identity import IDENTITY, Identity, write_identity
from deiii.data.cache.index import TABLE
from deiii.data.config.load import load_config
from deiii.data.corpora.scan import scan_corpus
from deiii.pipeline.preprocess import claim
from tests.helpers.tables import tone_rows, words_for, write_rows

TAKEN = "another corpus has this one's name"


@pytest.fixture
def corpora(tmp_path):
    """Two corpora whose tables have one name, and a cache for both: roots of both, and the cache."""
    for name, hertz in (("a", 200.0), ("b", 900.0)):
        write_rows(tmp_path / name, tone_rows(tmp_path / name, speakers=1, hertz=hertz))
    return tmp_path / "a", tmp_path / "b", tmp_path / "cache"


def recorded(cache: Path) -> dict[str, str]:
    """The root that each folder of a cache is recorded for, by the folder's name."""
    return {p.parent.name: json.loads(p.read_text())["root"] for p in cache.glob(f"*/{IDENTITY}")}


def test_a_run_that_its_weights_end_keeps_no_folder(corpora, tmp_path, capsys):
    first, second, cache = corpora
    bad = tmp_path / "yunet.onnx"
    bad.write_bytes(b"no network")
    for weights in (tmp_path / "missing.onnx", bad):
        faces = ["stages=[faces,logmel]", "faces.detector=yunet", f"faces.weights={weights}"]
        assert main(["preprocess", *words_for(first, cache), *faces, "workers=1"]) == 1
        assert str(weights) in capsys.readouterr().err
        assert not recorded(cache)
    assert main(["preprocess", *words_for(second, cache), "workers=1"]) == 0
    assert TAKEN not in capsys.readouterr().out
    assert recorded(cache) == {"table-clips": str(second)}
    # the first one comes later and gets a folder of its own
    told: list[str] = []
    with claim.claimed_folder(*settings(first, cache), told.append) as mine:
        assert TAKEN in told[0] and str(second) in told[0]
        assert recorded(cache) == {"table-clips": str(second), mine.name: str(first)}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("lost"), OSError(28, "disk full")])
def test_only_a_folder_without_results_is_released(corpora, error):
    config, corpus = settings(corpora[0], corpora[2])
    for results in (False, True):
        with pytest.raises(type(error)), claim.claimed_folder(config, corpus) as mine:
            folder = corpora[2] / mine.name
            assert recorded(corpora[2]) == {"table-clips": str(corpora[0])}
            if results:
                (folder / "logmel-0123").mkdir()
                (folder / "logmel-0123/s0.h5").touch()
            raise error
        assert (folder / IDENTITY).exists() is results


@pytest.mark.parametrize("begun", ["", "logmel-0123/.s0.h5.77.tmp"])
def test_a_run_that_was_killed_before_its_first_shard_keeps_no_folder(corpora, begun):
    first, second, cache = corpora
    write_identity(cache, "table-clips", Identity(str(first), str(first / "clips.csv"), "0" * 64))
    if begun:
        (cache / "table-clips" / begun).parent.mkdir()
        (cache / "table-clips" / begun).touch()
    told: list[str] = []
    with claim.claimed_folder(*settings(second, cache), told.append) as mine:
        assert mine.name == "table-clips" and not told
        assert recorded(cache) == {"table-clips": str(second)}


@pytest.mark.parametrize(
    "held", [TABLE, "logmel-0123/s0.h5", "logmel-0123/index.json", "logmel-0123/s0.h5.damaged"]
)
def test_a_folder_with_results_stays_its_corpus_s(corpora, held):
    first, second, cache = corpora
    write_identity(cache, "table-clips", Identity(str(first), str(first / "clips.csv"), "0" * 64))
    (cache / "table-clips" / held).parent.mkdir(exist_ok=True)
    (cache / "table-clips" / held).touch()
    told: list[str] = []
    with claim.claimed_folder(*settings(second, cache), told.append) as mine:
        assert TAKEN in told[0]
        assert recorded(cache) == {"table-clips": str(first), mine.name: str(second)}


def test_a_run_that_has_not_written_a_shard_yet_keeps_its_folder(corpora):
    """Another process holds the folder's lock, as between a run's start and its first shard."""
    first, second, cache = corpora
    with claim.claimed_folder(*settings(first, cache)):
        told: list[str] = []
        with claim.claimed_folder(*settings(second, cache), told.append) as mine:
            assert TAKEN in told[0]
            assert recorded(cache) == {"table-clips": str(first), mine.name: str(second)}


def test_a_folder_that_was_taken_before_it_was_held_is_left_to_its_owner(corpora, monkeypatch):
    """Another run takes the folder, and finishes, between the record and the lock of this run."""
    first, second, cache = corpora
    config, corpus = settings(second, cache)
    found = claim._claim

    def claim_and_lose(*arguments):
        monkeypatch.setattr(claim, "_claim", found)
        mine = found(*arguments)
        write_identity(cache, mine.name, Identity(str(first), str(first / "clips.csv"), "0" * 64))
        (cache / mine.name / TABLE).write_text("{}")
        return mine

    monkeypatch.setattr(claim, "_claim", claim_and_lose)
    with claim.claimed_folder(config, corpus) as mine:
        assert mine.name != "table-clips" and mine.base == "table-clips"
        assert recorded(cache) == {"table-clips": str(first), mine.name: str(second)}


def settings(root: Path, cache: Path):
    config = load_config("table", [f"corpus.root={root}", f"cache={cache}"])
    return config, scan_corpus(config)
