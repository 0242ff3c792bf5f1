"""A size is never shown as 0.0 of a unit that is too large for it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from deiii.data.tools.text.sizes import disk_size, memory_size

ROOT = Path(__file__).parents[4]
FACTORS = {"bytes": 1, "byte": 1}
FACTORS |= {unit: 1000 ** (i + 1) for i, unit in enumerate(("kB", "MB", "GB", "TB"))}
FACTORS |= {unit: 1024 ** (i + 1) for i, unit in enumerate(("KiB", "MiB", "GiB", "TiB"))}
FIXED = re.compile(r"\.[0-9]f\} ?(?:GB|MB|kB|GiB|MiB|KiB)\b")


@pytest.mark.parametrize("show", [disk_size, memory_size])
@pytest.mark.parametrize("step", [1000, 1024])
def test_the_text_states_the_size_to_a_tenth(show, step):
    for power in range(4):
        for factor in (1.0, 1.04, 1.5, 9.96, 99.94, 999.94, 999.96):
            count = int(factor * step**power)
            number, unit = show(count).split(" ")
            assert float(number) * FACTORS[unit] == pytest.approx(count, abs=0.0501 * FACTORS[unit] + 0.5)
            assert 1 <= float(number) < 1024


def test_none_and_one():
    assert (disk_size(0), disk_size(1), memory_size(0), memory_size(1023)) == (
        "0 bytes", "1 byte", "0 bytes", "1023 bytes",
    )  # fmt: skip
    assert memory_size(2**30 * 3 // 2, decimals=2) == "1.50 GiB"


def test_no_message_has_a_fixed_unit():
    """``f"{free / 1e9:.1f} GB"`` is "0.0 GB" on a disk that is nearly full."""
    found = []
    for folder in ("data", "model", "pipeline"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr) and FIXED.search(ast.unparse(node)):
                    found.append(str(path.relative_to(ROOT)))
    assert found == ["pipeline/doctor.py"]  # the whole memory of a GPU
