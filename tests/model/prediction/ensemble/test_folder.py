"""An export into a folder never removes the network that is exported."""

from __future__ import annotations

from pathlib import Path

import pytest

from deiii.__main__ import main
from deiii.model.prediction.ensemble.folder import export_ensemble
from deiii.model.prediction.manifest import ExportError
from tests.helpers.clips import tree_bytes
from tests.helpers.sibling_runs import sibling_run


@pytest.fixture
def exported(seen_run, tmp_path) -> Path:
    """A folder with an exported ensemble of two members."""
    runs = [sibling_run(seen_run / "run", tmp_path / f"cv/fold0-seed{s}", s) for s in (0, 1)]
    return export_ensemble(runs, tmp_path / "exported", program=False)


def test_a_member_is_not_exported_into_the_folder_of_its_ensemble(exported, capsys):
    before = tree_bytes(exported)
    assert main(["export", str(exported / "member0"), str(exported)]) == 1
    assert "member0 would be replaced" in capsys.readouterr().err
    assert tree_bytes(exported) == before


@pytest.mark.parametrize("target", ["member0", "member1"])
def test_an_ensemble_is_not_exported_into_one_of_its_members(exported, target):
    before = tree_bytes(exported)
    with pytest.raises(ExportError, match=f"{target} would be replaced"):
        export_ensemble([exported], exported / target)
    with pytest.raises(ExportError, match=f"{target} would be replaced"):
        export_ensemble([exported / "member0", exported / "member1"], exported / target)
    assert tree_bytes(exported) == before


def test_a_folder_inside_an_export_may_be_copied_over_it(exported, tmp_path):
    """Only members of an earlier ensemble are removed, and other folders stay."""
    inside = exported / "chosen"
    assert main(["export", str(exported / "member1"), str(inside)]) == 0
    assert main(["export", str(inside), str(exported)]) == 0
    copied = {name: bytes for name, bytes in tree_bytes(exported).items() if "/" not in name}
    assert copied == tree_bytes(inside) and "deiii.json" in copied
    assert not (exported / "member0").exists()
