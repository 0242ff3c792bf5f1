"""The corpus that sweeps are tried on."""

import pytest

from tests.helpers.shared_worker import preprocess
from tests.helpers.tables import tone_rows, words_for, write_rows


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """Settings of a preprocessed corpus of tones."""
    folder = tmp_path_factory.mktemp("sweep")
    write_rows(folder / "raw", tone_rows(folder / "raw", speakers=4))
    found = words_for(folder / "raw", folder / "cache")
    assert preprocess(*found) == 0
    return found
