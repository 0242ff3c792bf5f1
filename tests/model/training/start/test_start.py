"""``train.start`` through the real commands: what is copied and recorded, and which clips count as seen."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from deiii.__main__ import main
from tests.helpers.shared_worker import preprocess
from tests.helpers.tables import tone_rows, words_for, write_rows

STILL = ["train.lr=1e-9", "train.weight_decay=0"]  # weights stay what they were at first


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    """A run on one corpus of tones, and a second corpus of other people and other tones."""
    folder = tmp_path_factory.mktemp("voices")
    write_rows(folder / "first", tone_rows(folder / "first"))
    rows = tone_rows(folder / "second", hertz=233.0)
    write_rows(folder / "second", [[path, speaker, label.upper()] for path, speaker, label in rows])
    for name in ("first", "second"):
        assert preprocess(*words_for(folder / name, folder / "cache")) == 0
    assert main(["train", *words_for(folder / "first", folder / "cache", folder / "before")]) == 0
    return folder


def test_a_training_starts_from_the_weights_of_another_run(voices, capsys):
    words = words_for(voices / "second", voices / "cache", voices / "after")
    assert main(["train", *words, *STILL, f"train.start={voices / 'before'}"]) == 0
    assert "weights are copied from" in capsys.readouterr().err
    before, after = (load_file(voices / run / "best.safetensors") for run in ("before", "after"))
    assert before.keys() == after.keys()
    for name, tensor in after.items():
        assert torch.allclose(tensor, before[name], atol=1e-5), name
    info = json.loads((voices / "after/run.json").read_text())
    assert info["start"]["run"] == str(voices / "before") and len(info["start"]["sha256"]) == 64
    assert main(["evaluate", str(voices / "after")]) == 0
    assert "started from" in (voices / "after/report.html").read_text(encoding="utf-8")
    assert main(["export", str(voices / "after"), str(voices / "exported")]) == 0
    card = (voices / "exported/README.md").read_text(encoding="utf-8")
    assert "started from the weights of another run" in " ".join(card.split())
    # A third run that starts from the second has seen the people of the first one, too.
    again = words_for(voices / "first", voices / "cache", voices / "third")
    capsys.readouterr()
    assert main(["train", *again, "split.fold=1", f"train.start={voices / 'after'}"]) == 1
    assert "was trained or validated on speakers of this test part" in capsys.readouterr().err
    assert not (voices / "third/best.safetensors").exists()


def test_resuming_keeps_the_record_and_needs_no_start(voices, tmp_path):
    start = tmp_path / "moved"
    shutil.copytree(voices / "before", start)
    words = words_for(voices / "second", voices / "cache", tmp_path / "run")
    assert main(["train", *words, f"train.start={start}"]) == 0
    shutil.rmtree(start)

    def kept():
        run = tmp_path / "run"
        return json.loads((run / "run.json").read_text())["start"], (run / "start.json").read_bytes()

    before = kept()
    assert main(["train", *words, f"train.start={start}", "--resume"]) == 0
    assert kept() == before


def test_a_run_on_the_same_speakers_is_refused(voices, tmp_path, capsys):
    words = words_for(voices / "first", voices / "cache", tmp_path / "run")
    assert main(["train", *words, "split.fold=1", f"train.start={voices / 'before'}"]) == 1
    assert "their scores would be too good" in capsys.readouterr().err
    assert not (tmp_path / "run/best.safetensors").exists()
    # With the same split nothing was trained on its validation speakers, and its test speakers are unseen.
    assert main(["train", *words, f"train.start={voices / 'before'}"]) == 0


def test_recordings_under_other_names_are_refused(voices, tmp_path, capsys):
    root = tmp_path / "copies"
    rows = []
    for path, speaker, label in tone_rows(tmp_path / "unused"):
        target = root / f"renamed/{path}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(voices / "first" / path, target)
        rows.append([f"renamed/{path}", f"other-{speaker}", label])
    write_rows(root, rows)
    words = words_for(root, voices / "cache", tmp_path / "run")
    assert preprocess(*words_for(root, voices / "cache")) == 0
    assert main(["train", *words, "split.fold=1", f"train.start={voices / 'before'}"]) == 1
    assert "recordings of this test part" in capsys.readouterr().err


def test_a_mixture_of_corpora_is_refused(voices, tmp_path, capsys):
    other = tmp_path / "other.yaml"
    other.write_text(f"corpus: {{name: table, root: '{voices / 'first'}'}}\n")
    words = words_for(voices / "second", voices / "cache", tmp_path / "run")
    assert main(["train", *words, f"mix=[{other}]", f"train.start={voices / 'before'}"]) == 1
    assert "train.start cannot be used with a mixture of corpora" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("start", ["nowhere", "own"])
def test_a_start_that_is_no_other_run_is_an_error_before_any_work(voices, tmp_path, capsys, start):
    words = words_for(voices / "second", voices / "cache", tmp_path / "own")
    assert main(["train", *words, f"train.start={tmp_path / start}"]) == 1
    expected = {"nowhere": "there is no run folder", "own": "name the same folder"}
    assert expected[start] in capsys.readouterr().err
    assert not (tmp_path / "own/run.json").exists()


def test_a_damaged_history_is_an_error(voices, tmp_path, capsys):
    start = tmp_path / "before"
    shutil.copytree(voices / "before", start)
    (start / "start.json").write_text('{"runs": [{"run": 1}]}')
    words = words_for(voices / "second", voices / "cache", tmp_path / "run")
    assert main(["train", *words, f"train.start={start}"]) == 1
    assert "start.json is damaged" in capsys.readouterr().err
