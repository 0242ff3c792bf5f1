"""A name that stands for one network is that network in every command; differences of members are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from deiii.__main__ import main
from deiii.data.config.schema import Config
from deiii.model.members import EnsembleError, check_members, find_members, names_network


@pytest.fixture
def only_seed(tmp_path):
    """The one run of a fold, which ``fold0`` names, too."""
    run = tmp_path / "fold0-seed0"
    run.mkdir()
    (run / "run.json").write_text('{"keys": {}, "classes": [], "attributes": [], "ranges": []}')
    return run


def test_a_fold_of_one_seed_is_exported(only_seed, monkeypatch, tmp_path):
    exported = []

    def export(run, folder, *_):
        exported.append(str(run))
        return Path(folder)

    monkeypatch.setattr("deiii.model.prediction.export.export", export)
    assert main(["export", str(tmp_path / "fold0"), str(tmp_path / "out")]) == 0
    assert exported == [str(only_seed)]


def test_a_fold_of_one_seed_is_evaluated(only_seed, monkeypatch, tmp_path):
    evaluated = []

    def evaluate(run, *_, **__):
        evaluated.append(str(run))
        return {"test": {"per_speaker": dict.fromkeys("abc")}}, "report.html"

    monkeypatch.setattr("deiii.model.evaluation.results.summary", lambda metrics: "")
    monkeypatch.setattr("deiii.model.evaluation.evaluate.evaluate", evaluate)
    assert main(["evaluate", str(tmp_path / "fold0")]) == 0
    assert evaluated == [str(only_seed)]


def test_each_input_of_members_that_differ_is_named_once():
    one, other = Config(), Config()
    other.model.extra = ["speech"]
    info = {"classes": [], "attributes": [], "ranges": []}
    wanted = r"their inputs differ \(frames, flow, audio, speech and frames, flow, audio\)"
    with pytest.raises(EnsembleError, match=wanted):
        check_members(["a", "b"], [one, other], [info, info])


def test_a_folder_inside_that_may_not_be_read_is_no_network(only_seed, monkeypatch):
    """As lost+found, in a folder of media files or of runs; one that the command names is an error."""
    locked = only_seed.parent / "lost+found"
    locked.mkdir()

    def is_file(path):
        if locked in Path(path).parents:
            raise PermissionError(13, "Permission denied", str(path))
        return Path(path).is_file()

    monkeypatch.setattr("deiii.model.members.is_file", is_file)
    assert find_members([str(only_seed.parent)]) == [only_seed]
    with pytest.raises(PermissionError):
        names_network(locked)
