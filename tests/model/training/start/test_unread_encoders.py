"""`deiii train` names an encoder that was computed and that the network does not read."""

from __future__ import annotations

import numpy as np
import pytest

from deiii.__main__ import main
from tests.helpers.onnx_maker import speech_file
from tests.helpers.shared_worker import preprocess
from tests.helpers.tables import tone_rows, words_for, write_rows

NOTE = (
    "note: the stage speech is computed, but the network does not read it; add 'model.audio=[logmel,speech]'"
)


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """Words for a corpus of tones with the features of an encoder, which are computed."""
    base = tmp_path_factory.mktemp("unread")
    write_rows(base / "raw", tone_rows(base / "raw", speakers=3))
    filters = np.random.default_rng(0).normal(size=(6, 1, 320)).astype(np.float32)
    path = speech_file(base / "encoder.onnx", filters)
    words = [word for word in words_for(base / "raw", base / "cache") if not word.startswith("stages=")]
    words += ["stages=[logmel,speech]", f"speech.encoder={path}", "speech.outputs=[rows]"]
    assert preprocess(*words) == 0
    return words


def test_the_note_names_the_setting_and_the_setting_ends_it(words, tmp_path, capsys):
    run = f"train.run={tmp_path / 'run'}"
    assert main(["train", *words, run, "--quiet"]) == 0
    assert NOTE in capsys.readouterr().err.splitlines()
    run = f"train.run={tmp_path / 'both'}"
    assert main(["train", *words, "model.audio=[logmel,speech]", run, "--quiet"]) == 0
    assert "does not read" not in capsys.readouterr().err
