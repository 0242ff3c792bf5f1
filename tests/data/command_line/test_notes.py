"""Notes on configurations: which of two of one name is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from deiii.data.command_line.notes import note_configs
from deiii.data.config.words import read_settings


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["ravdess"],
            "note: ravdess is the configuration that comes with deiii; to read yours, type ravdess.yaml\n",
        ),
        (["ravdess.yaml"], ""),
        (
            ["crema_d", "tiny"],
            "note: tiny is the configuration that comes with deiii; to read yours, type tiny.yml\n",
        ),
        (["crema_d", "cache=tiny"], ""),
    ],
)
def test_the_shipped_one_of_two_configurations_is_named(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("ravdess.yaml").write_text("corpus: {name: ravdess}\n")
    Path("tiny.yml").write_text("workers: 2\n")
    config = read_settings(words)
    note_configs(config, words)
    assert capsys.readouterr().err == said
