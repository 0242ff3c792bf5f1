"""`deiii sweep` beside another sweep in its folder, and with a combination that needs too much memory."""

from __future__ import annotations

import json
import shlex

import pytest

from deiii.__main__ import main
from deiii.data.config.words import read_settings
from deiii.data.tools.writer_lock import writer_lock
from deiii.model.evaluation import many_runs


@pytest.mark.parametrize("varied", ["model.width=[16,32]", "train.lr=log(1e-4,1e-2)"])
def test_a_second_sweep_in_one_folder_is_refused(words, tmp_path, capsys, varied):
    """Both would train the same runs and write to the same journal."""
    if "log" in varied:
        pytest.importorskip("optuna")
    base = tmp_path / "s"
    with writer_lock(base):
        assert main(["sweep", *words, f"train.run={base}", varied, "--trials", "1", "--quiet"]) == 1
    assert f"another run is writing to {base} (process" in capsys.readouterr().err
    assert not list(base.glob("*-seed*"))


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")],
    ids=["cpu", "gpu"],
)
def test_too_little_memory_for_one_combination_is_recorded_and_tried_again(
    words, tmp_path, monkeypatch, error
):
    train, widths = many_runs.train, []

    def limited(config, **options):
        widths.append(config.model.width)
        if config.model.width == 32:
            raise error
        return train(config, **options)

    base = tmp_path / "s"
    own = [*words, f"train.run={base}", "model.width=[32,16]", "--quiet"]
    monkeypatch.setattr(many_runs, "train", limited)
    assert main(["sweep", *own]) == 0
    good, failed = json.loads((base / "sweep.json").read_text())["results"]
    assert good["settings"] == {"model.width": 16} and good["scores"]
    assert failed["settings"] == {"model.width": 32} and "there is not enough memory" in failed["problem"]
    assert widths == [32, 16]
    monkeypatch.setattr(many_runs, "train", train)
    assert main(["sweep", *own]) == 0
    assert all(r["scores"] for r in json.loads((base / "sweep.json").read_text())["results"])


def test_an_error_that_is_no_lack_of_memory_ends_the_sweep(words, tmp_path, monkeypatch):
    def broken(config, **options):
        raise RuntimeError("a defect")

    monkeypatch.setattr(many_runs, "train", broken)
    with pytest.raises(RuntimeError, match="a defect"):
        main(["sweep", *words, f"train.run={tmp_path / 's'}", "model.width=[32,16]", "--quiet"])


def test_the_command_at_the_end_trains_with_the_best_settings(words, tmp_path, capsys):
    """A setting that is given besides its values would win over best.yaml, as settings win over configs."""
    own = ["train.lr=0.5", "train.lr=[0.25]", f"train.run={tmp_path / 'a sweep'}"]
    assert main(["sweep", *words, *own]) == 0
    told = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert told[:3] == ["next:", "deiii", "train"]
    config = read_settings(told[3:])
    assert (config.train.lr, config.train.run) == (0.25, "runs/best")
    assert config.corpus == read_settings(words).corpus
