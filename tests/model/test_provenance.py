"""The command that a run records, and the GPU."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deiii.model.provenance import command_line, provenance


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["/usr/bin/deiii", "train", "a b"], "deiii train 'a b'"),
        (["/lib/python3/deiii/__main__.py", "train", "copies=[]"], "deiii train 'copies=[]'"),
        (["/x/benchmarks/peers.py", "--seeds", "0"], "python /x/benchmarks/peers.py --seeds 0"),
        (["/x/other/__main__.py"], "python /x/other/__main__.py"),
        ([""], "python"),  # interactive
        ([], "python"),
    ],
)
def test_the_command_is_what_a_shell_would_need(words, expected):
    assert command_line(words) == expected


def test_a_program_in_the_current_folder_has_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command_line([str(Path.cwd() / "own.py"), "x"]) == "python own.py x"


def test_the_recorded_words_come_from_the_real_command_line(tmp_path):
    code = "import sys\nfrom deiii.model.provenance import command_line\nprint(command_line(sys.argv))\n"
    (tmp_path / "own.py").write_text(code)
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "own.py", "corpus.root=/my clips"],
        cwd=tmp_path, env={**os.environ, **paths}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shlex.split(done.stdout) == ["python", "own.py", "corpus.root=/my clips"]


def test_the_gpu_is_the_one_that_computes(monkeypatch):
    """A training on the CPU of a machine with GPUs names none of them."""
    names = ["T4", "L4"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "get_device_name", lambda device=None: names[device.index if device else 0]
    )
    assert provenance(torch.device("cpu"))["gpu"] is None
    assert provenance(torch.device("cuda", 1))["gpu"] == "L4"
    assert provenance()["gpu"] == "T4"
