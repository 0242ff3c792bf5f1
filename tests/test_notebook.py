"""The notebook is made of its script, has its pictures, and its cells run."""

from __future__ import annotations

import base64
import json
import re
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
TREE = json.loads((DOCS / "notebooks/quickstart.ipynb").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def make():
    sys.path.insert(0, str(DOCS))
    try:
        import make_notebook
    finally:
        sys.path.pop(0)
    return make_notebook


def test_its_cells_are_those_of_the_script(make):
    stored = [(cell["cell_type"], "".join(cell["source"])) for cell in TREE["cells"]]
    assert stored == make.read_cells(make.SOURCE.read_text(encoding="utf-8")), "run docs/make_notebook.py"


def test_every_cell_that_draws_has_its_picture():
    drawn = 0
    for cell in TREE["cells"]:
        if cell["cell_type"] == "code":
            pictures = [o["data"]["image/png"] for o in cell["outputs"] if o["output_type"] == "display_data"]
            assert len(pictures) == "".join(cell["source"]).count("plt.show()")
            drawn += len(pictures)
            assert all(base64.b64decode(p).startswith(b"\x89PNG") for p in pictures)
    assert drawn >= 6


def test_no_output_holds_a_time_or_a_path_of_a_machine(make):
    for cell in TREE["cells"]:
        for output in cell.get("outputs", ()):
            text = output.get("text", "")
            assert "/tmp" not in text and not any(make.TIMES.search(line) for line in text.splitlines())


def test_links_have_targets():

    for cell in TREE["cells"]:
        for target in re.findall(r"\]\(([^)]+)\)", "".join(cell["source"])) * (
            cell["cell_type"] == "markdown"
        ):
            assert (DOCS / "notebooks" / target).is_file(), target


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_its_cells_run_and_draw(make, tmp_path):
    small = 'SETTINGS += ["train.epochs=1", "corpus.synthetic.seconds=0.8", "corpus.synthetic.size=128"]\n'
    small += 'SETTINGS += ["faces.size=64", "loader.crop=56", "model.width=16", "loader.steps=4"]\n'
    outputs = make.run(tmp_path, small)
    pictures = [o for cell in outputs for o in cell if o["output_type"] == "display_data"]
    assert len(pictures) >= 6
    assert (tmp_path / "runs/quickstart/report.html").is_file()
