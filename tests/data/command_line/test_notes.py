"""Notes on configurations: which of two of one name is read, and that the synthetic corpus is used."""

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


def test_without_a_word_the_note_names_the_demonstration_corpus_and_the_command_for_own_clips(capsys):
    note_configs(read_settings([]), [])
    assert capsys.readouterr().err == (
        "note: no configuration was given, so the synthetic demonstration corpus is used, which "
        "`deiii preprocess` generates in raw/synthetic; for clips of your own, type `deiii init FOLDER`, "
        "which writes a configuration\n"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("corpus: {name: synthetic}", False),
        ("corpus: {synthetic: {speakers: 3}}", False),
        ("corpus: {root: x}", True),
    ],
)
def test_the_synthetic_corpus_of_a_file_of_ones_own_needs_no_note(text, said, tmp_path, capsys):
    words = [str(tmp_path / "own.yaml")]
    Path(words[0]).write_text(text)
    note_configs(read_settings(words), words)
    assert ("no corpus is named" in capsys.readouterr().err) is said
