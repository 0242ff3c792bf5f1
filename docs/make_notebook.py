"""Write docs/notebooks/quickstart.ipynb from quickstart.py beside it: python docs/make_notebook.py

The cells are run in a new folder, and what they draw and print is stored. Lines with times are left out: they
say nothing about the reader's machine.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parent / "notebooks/quickstart.py"
TARGET = SOURCE.with_suffix(".ipynb")
TIMES = re.compile(r"\d s\b|a second|dashboard|^\s*$|INFO|WARNING")


def read_cells(text: str) -> list[tuple[str, str]]:
    """The cells of a script in the percent format: kind (``code`` or ``markdown``) and source.

    >>> read_cells("# %% [markdown]\\n# Title\\n# %%\\nx = 1\\n")
    [('markdown', 'Title'), ('code', 'x = 1')]
    """
    cells = []
    for part in re.split(r"^# %%", text, flags=re.M)[1:]:
        head, _, body = part.partition("\n")
        if "[markdown]" in head:
            body = re.sub(r"^# ?", "", body, flags=re.M)
        cells.append(("markdown" if "[markdown]" in head else "code", body.strip("\n")))
    return cells


def run(folder: Path, more: str = "") -> list[list[dict[str, Any]]]:
    """Run the cells in a folder; returns the outputs of each code cell, as a notebook stores them.

    Args:
        folder: the working folder of the cells.
        more: Python to run after the first code cell, such as smaller settings.
    """
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    cells = read_cells(SOURCE.read_text(encoding="utf-8"))
    space: dict[str, Any] = {"__name__": "__main__"}
    found: list[list[dict[str, Any]]] = []
    with contextlib.chdir(folder):
        for kind, cell in cells:
            if kind != "code":
                continue
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
                code = compile(cell.replace("plt.show()", ""), "quickstart.ipynb", "exec")
                exec(code, space)
                if not found:
                    exec(more, space)
            outputs: list[dict[str, Any]] = []
            lines = [line for line in printed.getvalue().splitlines() if not TIMES.search(line)]
            if lines:
                outputs.append({"output_type": "stream", "name": "stdout", "text": "\n".join(lines) + "\n"})
            for number in plt.get_fignums():
                data = io.BytesIO()
                plt.figure(number).savefig(data, format="png", dpi=72)
                png = base64.b64encode(data.getvalue()).decode()
                outputs.append({"output_type": "display_data", "data": {"image/png": png}, "metadata": {}})
            plt.close("all")
            found.append(outputs)
    return found


def notebook(outputs: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """The notebook with these outputs of its code cells."""
    left = iter(outputs)
    cells: list[dict[str, Any]] = []
    for number, (kind, source) in enumerate(read_cells(SOURCE.read_text(encoding="utf-8"))):
        cell: dict[str, Any] = {"cell_type": kind, "id": f"c{number:02d}", "metadata": {}}
        if kind == "code":
            cell |= {"execution_count": None, "outputs": next(left)}
        cells.append(cell | {"source": source.splitlines(keepends=True)})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": cells, "nbformat": 4, "nbformat_minor": 5,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
    }  # fmt: skip


def main() -> None:
    """Run the cells and write the notebook."""
    os.environ.setdefault("MPLBACKEND", "agg")
    with tempfile.TemporaryDirectory() as folder:
        outputs = run(Path(folder))
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps(notebook(outputs), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(TARGET)


if __name__ == "__main__":
    main()
