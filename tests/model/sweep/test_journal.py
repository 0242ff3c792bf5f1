"""The journal of a sweep whose process was killed while Optuna wrote it."""

from __future__ import annotations

import pytest

from deiii.model.sweep.proposals import JOURNAL, Proposals
from deiii.model.sweep.space import split_space
from deiii.model.training.run_folder import RunError

pytest.importorskip("optuna")

AXES, _ = split_space(["train.lr=log(1e-4,1e-2)", "model.conformer=[true,false]"])
SETTINGS = {"train.lr", "model.conformer"}


@pytest.mark.parametrize("written", [0, 1])
def test_a_trial_that_lacks_settings_is_no_combination(tmp_path, written):
    """Optuna writes the beginning of a trial, then each of its settings, as one line each."""
    before = Proposals(tmp_path, AXES, most=2)
    (first,) = before.next(1)
    before.tell(first, 0.5)
    killed = before.study.ask()
    if written:
        killed.suggest_float("train.lr", 1e-4, 1e-2, log=True)
    again = Proposals(tmp_path, AXES, most=2)
    assert list(again.all()) == [first]
    found = again.next(5)  # the one that is missing of two, with a number of its own
    assert list(found) == [killed.number + 1] and set(found[killed.number + 1]) == SETTINGS
    assert list(Proposals(tmp_path, AXES, most=2).next(5)) == [killed.number + 1]  # stopped once more


@pytest.mark.parametrize("left", [1, 20])
def test_a_line_that_was_not_written_to_its_end_is_dropped(tmp_path, left):
    before = Proposals(tmp_path, AXES, most=2)
    (first,) = before.next(1)
    wanted = before.all()
    before.tell(first, 0.5)
    lines = (tmp_path / JOURNAL).read_bytes().splitlines(keepends=True)
    (tmp_path / JOURNAL).write_bytes(b"".join(lines[:-1]) + lines[-1][:left])
    again = Proposals(tmp_path, AXES, most=2)
    assert again.all() == wanted and again.next(1) == wanted  # its score is to be told again
    again.tell(first, 0.5)
    assert Proposals(tmp_path, AXES, most=2).all() == wanted


@pytest.mark.parametrize("line", [b"\0\0\0\0", b"[]", b"{}", b'{"op_code": 5, "trial_id": 9}'])
def test_a_damaged_journal_is_named(tmp_path, line):
    Proposals(tmp_path, AXES, most=2).next(1)
    lines = (tmp_path / JOURNAL).read_bytes().splitlines(keepends=True)
    (tmp_path / JOURNAL).write_bytes(b"".join([lines[0], line + b"\n", *lines[1:]]))
    with pytest.raises(RunError, match=rf"{JOURNAL} is damaged .*; put back a copy of it, or remove it"):
        Proposals(tmp_path, AXES, most=2)
