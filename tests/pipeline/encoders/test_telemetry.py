"""onnxruntime is imported in one place, which switches its reports to Microsoft off."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDERS = ("data", "model", "pipeline", "benchmarks")
SESSION = """
import os, sys
from deiii.data.encoders.onnx_session import open_session
open_session(sys.argv[1], 1)
print(os.environ["ORT_DISABLE_TELEMETRY"])
"""


@pytest.mark.parametrize("own", [None, "0"])
def test_nothing_is_reported_unless_the_user_allows_it(test_data, tmp_path, own):
    """onnxruntime 1.32 writes a session file into TMPDIR if it reports."""
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    environment |= {"TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    environment |= {} if own is None else {"ORT_DISABLE_TELEMETRY": own}
    command = [sys.executable, "-c", SESSION, str(test_data / "weights/silero_vad_16k_op15.onnx")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [own or "1"]
    if own is None:
        assert not (tmp_path / ".ses").exists()


def test_it_is_imported_in_one_place():
    files = [*(ROOT / "deiii").glob("*.py"), *(f for name in FOLDERS for f in (ROOT / name).rglob("*.py"))]
    found = {path.relative_to(ROOT).as_posix() for path in files if imports_onnxruntime(path)}
    assert found == {"data/encoders/onnx_session.py"}


def imports_onnxruntime(path: Path) -> bool:
    """Return whether a module imports onnxruntime when it runs, and not for the type checker alone."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    for_types = {
        id(inner)
        for node in nodes
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    names = [
        name
        for node in nodes
        if id(node) not in for_types
        for name in (
            [alias.name for alias in node.names] if isinstance(node, ast.Import)
            else [node.module or ""] if isinstance(node, ast.ImportFrom)
            else []
        )
    ]  # fmt: skip
    return any(name.partition(".")[0] == "onnxruntime" for name in names)
