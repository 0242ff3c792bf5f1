"""The caches of the benchmarks."""

from __future__ import annotations

import pytest

from benchmarks.feature_cache import open_cache


@pytest.mark.slow
def test_a_cache_is_found_beside_a_corpus_of_the_same_name(tmp_path, monkeypatch):
    """After the demo, ``raw/synthetic`` is in the current folder; its cache is another one."""
    (tmp_path / "raw" / "synthetic").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    features = open_cache(tmp_path / "cache", clips=4, frames=8, size=16, speakers=2)
    assert len(features) == 4
    assert len(open_cache(tmp_path / "cache", clips=4, frames=8, size=16, speakers=2)) == 4
