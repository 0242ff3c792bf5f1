"""`deiii audit` with its words in the wrong places prints the command to type."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import deiii
from deiii.__main__ import main
from deiii.data.config.schema import CorpusConfig, SplitConfig
from deiii.data.corpora.protocol import SplitError
from deiii.data.corpora.scan import scan
from deiii.data.corpora.splits import make_split

CONFIGS = Path(deiii.__file__).parent / "configs"


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["ravdess"], "deiii audit ravdess-6fold --corpus ravdess"),
        (["crema_d", "corpus.root=/x"], "deiii audit crema_d-5fold --corpus crema_d corpus.root=/x"),
        (["table"], "deiii audit speakers --corpus table"),
        (["mine.yaml"], "deiii audit ravdess-opendr --corpus mine.yaml"),
        (["my own.yaml"], "deiii audit ravdess-6fold --corpus 'my own.yaml'"),
        (["msp_improv", "msp_improv-loso"], "deiii audit msp_improv-loso --corpus msp_improv"),
        (["crema_d", "--corpus", "crema_d-vavl"], "deiii audit crema_d-vavl --corpus crema_d"),
        (["base"], "deiii audit SPLIT --corpus CONFIG base"),
        (["crema_d-vavl", "--corpus", "crema_d-vavl"], "deiii audit crema_d-vavl --corpus CONFIG"),
        (["corpus.root=/x", "ravdess"], "deiii audit SPLIT --corpus ravdess corpus.root=/x"),
        (["run", "--corpus", "table"], "deiii audit run/split.json --corpus table"),
    ],
)
def test_the_command_to_type_is_named(words, command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("corpus: {name: ravdess}\nsplit: {protocol: ravdess-opendr}\n")
    shutil.copy(CONFIGS / "ravdess.yaml", tmp_path / "my own.yaml")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/split.json").write_text("{}")
    assert main(["audit", *words]) == 1
    assert f"`{command}`" in capsys.readouterr().err


def test_the_synthetic_corpus_is_not_audited_without_a_note(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["audit", "crema_d-5fold"]) == 1
    assert (
        "note: no configuration was given, so the synthetic demonstration corpus" in capsys.readouterr().err
    )


def test_lists_of_all_clips_for_both_parts_train_on_every_speaker(tmp_path, monkeypatch):
    """The recipe for a final network (docs/howto-own-corpus.md); files of several people share names."""
    monkeypatch.chdir(tmp_path)
    rows = [f"{person}/{n}.mp4,{person},{('happy', 'sad')[n]}" for person in "abcdef" for n in (0, 1)]
    for row in rows:
        path = tmp_path / "clips" / row.partition(",")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "clips/clips.csv").write_text("\n".join(["path,speaker,label", *rows]))
    (tmp_path / "everyone").mkdir()
    for part in ("train", "test"):
        shutil.copy("clips/clips.csv", f"everyone/{part}.csv")
    assert main(["splits", "import", "everyone"]) == 0
    corpus = scan(CorpusConfig(name="table", root="clips"))
    split = make_split(corpus, SplitConfig(protocol="everyone.yaml", leaks="allow", val_share=0))
    assert split.speakers("train") == tuple("abcdef") and len(split.train) == 12 and not split.val
    with pytest.raises(SplitError, match="clips are in two parts"):
        make_split(corpus, SplitConfig(protocol="everyone.yaml", val_share=0))
