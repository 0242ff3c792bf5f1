"""A script that starts workers at its top level is told how to guard them, instead of waiting for ever."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from deiii.data.tools.processes.main_guard import leave_out_current_folder
from tests.helpers.clips import audio_corpus

PREPROCESS = """
from deiii.data.config.load import load_config
from deiii.data.corpora.scan import scan_corpus
from deiii.pipeline.preprocess.graph import preprocess
words = ["corpus.name=table", "corpus.root={root}", "cache={folder}/cache", "stages=[logmel]", "workers=1"]
config = load_config(overrides=words)
{guard}preprocess(config, scan_corpus(config))
"""
SYNTHESIZE = """
from deiii.data.config.schema import SyntheticConfig
from deiii.data.corpora.synthetic.make import make
{guard}make("{folder}/raw", SyntheticConfig(speakers=2, clips_per_class=1, seconds=0.8, size=64), workers=2)
"""
POOL = """
from deiii.data.tools.processes.pool import start_tasks, worker_pool
def total():
    with worker_pool(2) as pool:
        return sum(task.result() for task in start_tasks(pool, abs, [-1, 2]))
{guard}print(total())
"""
GUARD = 'if __name__ == "__main__":\n    '


@pytest.mark.parametrize("script", [PREPROCESS, SYNTHESIZE, POOL], ids=["preprocess", "synthesize", "pool"])
@pytest.mark.parametrize("guard", ["", GUARD], ids=["without", "with"])
def test_script_with_and_without_a_main_guard(tmp_path, script, guard):
    root = tmp_path / "corpus"
    corpus = audio_corpus(root, speakers=2)
    rows = [f"{clip.path},{clip.speaker},{clip.label}" for clip in corpus.clips]
    (root / "clips.csv").write_text("path,speaker,label\n" + "\n".join(rows) + "\n")
    (tmp_path / "script.py").write_text(script.format(root=root, folder=tmp_path, guard=guard))
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py")], capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    if guard:
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 1
    call = script.format(root=root, folder=tmp_path, guard="").splitlines()[-1]
    number = len(script.splitlines())
    assert f"script.py, line {number}, starts worker processes at its top level" in done.stderr
    assert f'\n    if __name__ == "__main__":\n        {call}\n' in done.stderr
    assert "Each worker imports the script" in done.stderr
    assert done.stderr.count("Traceback") <= 3  # none of the workers


@pytest.mark.parametrize(
    ("script", "how"),
    [
        pytest.param(SYNTHESIZE, "stdin", id="synthesize-stdin"),
        pytest.param(SYNTHESIZE, "-c", id="synthesize--c"),
        pytest.param(PREPROCESS, "stdin", id="preprocess-stdin", marks=pytest.mark.slow),
        pytest.param(PREPROCESS, "-c", id="preprocess--c", marks=pytest.mark.slow),
    ],
)
def test_a_program_without_a_file_needs_no_guard(tmp_path, script, how):
    root = tmp_path / "corpus"
    corpus = audio_corpus(root, speakers=2)
    rows = [f"{clip.path},{clip.speaker},{clip.label}" for clip in corpus.clips]
    (root / "clips.csv").write_text("path,speaker,label\n" + "\n".join(rows) + "\n")
    text = script.format(root=root, folder=tmp_path, guard="")
    done = subprocess.run(
        [sys.executable, "-"] if how == "stdin" else [sys.executable, "-c", text],
        input=text, capture_output=True, text=True, timeout=120, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(PREPROCESS, id="preprocess"),
        pytest.param(SYNTHESIZE, id="synthesize", marks=pytest.mark.slow),
    ],
)
def test_modules_of_the_current_folder_replace_none_of_python(tmp_path, script):
    root, current = tmp_path / "corpus", tmp_path / "current"
    current.mkdir()
    for name in ("types", "random", "queue", "signal", "logging", "tokenize", "numpy", "yaml", "deiii"):
        (current / f"{name}.py").write_text("raise RuntimeError('a module of the user')\n")
    corpus = audio_corpus(root, speakers=2)
    rows = [f"{clip.path},{clip.speaker},{clip.label}" for clip in corpus.clips]
    (root / "clips.csv").write_text("path,speaker,label\n" + "\n".join(rows) + "\n")
    (tmp_path / "script.py").write_text(script.format(root=root, folder=tmp_path, guard=GUARD))
    path = os.pathsep.join(entry for entry in sys.path if entry)
    environment = {**os.environ, "PYTHONPATH": path}
    environment.pop("PYTHONSAFEPATH", None)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py")], capture_output=True, text=True, timeout=120,
        cwd=current, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_environment_is_as_before_after_the_block(monkeypatch):
    for before in (None, "", "1"):
        monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
        if before is not None:
            monkeypatch.setenv("PYTHONSAFEPATH", before)
        with pytest.raises(KeyError), leave_out_current_folder():
            with leave_out_current_folder():
                assert os.environ["PYTHONSAFEPATH"] == "1"
            assert os.environ["PYTHONSAFEPATH"] == "1"
            raise KeyError
        assert os.environ.get("PYTHONSAFEPATH") == before
