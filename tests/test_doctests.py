"""The examples in docstrings run and print what they say."""

from __future__ import annotations

import doctest
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    prefix + ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for prefix, folders in (("deiii.", ("data", "pipeline", "model")), ("", ("benchmarks", "tests")))
    for package in folders
    for path in (ROOT / package).rglob("*.py")
    if re.search(r"^ *>>> ", path.read_text(encoding="utf-8"), re.MULTILINE)
)
COMMON = {"np": np, "torch": torch}  # names that every example may use


@pytest.mark.usefixtures("own_signals")  # examples of commands change the reactions to signals
@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, tmp_path, monkeypatch):
    module = import_module(name)
    monkeypatch.chdir(tmp_path)  # an example that writes files must not write them into the checkout
    assert doctest.testmod(module, extraglobs=COMMON).failed == 0
