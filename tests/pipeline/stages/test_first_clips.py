"""A fault of the machine is not kept as the clips' own: it ends the run, and clips it hit are tried again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deiii.data.cache.outcomes import Outcome, Status
from deiii.data.config.load import load_config
from deiii.pipeline.preprocess.graph import preprocess
from deiii.pipeline.stages.first_clips import FIRST, FirstClips, MachineFault
from tests.helpers.clips import audio_corpus

ALIKE = Outcome(Status.FAILED, "cannot cache x", 0.0, "RuntimeError at a.py:3")


def test_one_error_at_all_first_clips_ends_the_run():
    first = FirstClips("logmel")
    for n in range(FIRST - 1):
        first.add(Outcome(Status.FAILED, f"clip {n}: text with: colons", 0.0, ALIKE.error))
    with pytest.raises(MachineFault, match=r"first 5 clips of stage logmel.*cannot cache x.*deiii doctor"):
        first.add(ALIKE)


@pytest.mark.parametrize(
    "other",
    [
        Outcome(Status.OK),
        Outcome(Status.UNREADABLE, "damaged", 0.0),
        Outcome(Status.FAILED, ALIKE.reason, 0.0, "KeyError at b.py:9"),
        Outcome(Status.FAILED, ALIKE.reason, 0.0),  # a stage's own failure, without an exception
    ],
)
def test_clips_that_end_otherwise_end_the_watch(other):
    first = FirstClips("logmel")
    for outcome in [ALIKE, other, *[ALIKE] * (2 * FIRST)]:
        first.add(outcome)


def failing(tmp_path, code: str) -> dict[str, str]:
    """An environment in which every Python process first runs this code."""
    (tmp_path / "sitecustomize.py").write_text(code)
    root = Path(__file__).parents[3]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(root)])}


BREAK = """
import os
if os.path.exists({flag!r}):
    import deiii.pipeline.logmel.stage as m
    real = m.extract_logmel
    def broken(path, *more):
        if str(path).endswith({ending!r}):
            raise RuntimeError("no such device")
        return real(path, *more)
    m.extract_logmel = broken
"""


def run(tmp_path, env, *words):
    command = [
        sys.executable,
        "-m",
        "deiii",
        "preprocess",
        "corpus.name=table",
        "stages=[logmel]",
        "workers=1",
    ]
    command += [f"corpus.root={tmp_path / 'corpus'}", f"cache={tmp_path / 'cache'}", *words]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)


def table(tmp_path):
    corpus = audio_corpus(tmp_path / "corpus", speakers=2, clips=6)
    rows = [f"{c.path},{c.speaker},{c.label}" for c in corpus.clips]
    (tmp_path / "corpus/clips.csv").write_text("path,speaker,label\n" + "\n".join(rows) + "\n")
    return corpus


def test_an_unexpected_error_is_tried_again_by_the_next_run(tmp_path):
    corpus = table(tmp_path)
    flag = tmp_path / "broken"
    flag.touch()
    ending = Path(corpus.clips[0].path).name
    env = failing(tmp_path, BREAK.format(flag=str(flag), ending=ending))
    first = run(tmp_path, env, "max_failed=0.5")
    assert first.returncode == 0 and "failed" in first.stdout, first.stderr
    flag.unlink()
    second = run(tmp_path, env)
    assert second.returncode == 0 and "failed" not in second.stdout, second.stdout
    assert "nothing to do" in run(tmp_path, env).stdout


def test_an_error_at_every_clip_ends_the_run_and_is_recorded_for_none(tmp_path):
    table(tmp_path)
    flag = tmp_path / "broken"
    flag.touch()
    env = failing(tmp_path, BREAK.format(flag=str(flag), ending=""))
    done = run(tmp_path, env)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "no such device" in done.stderr and "deiii doctor" in done.stderr
    assert not list((tmp_path / "cache").rglob("*.h5"))
    insisted = run(tmp_path, env, "max_failed=1")
    assert insisted.returncode == 0 and "no such device" in (
        next((tmp_path / "cache").rglob("failures.csv")).read_text()
    )


READ_ONLY = """
set -e
mount --bind {package} {package}
mount -o remount,ro,bind {package}
exec "$@"
"""


@pytest.mark.slow  # librosa's functions are compiled anew, for half a minute
def test_a_read_only_installation_without_a_home_computes_log_mel(tmp_path):
    import librosa

    package = Path(librosa.__file__).parent
    free = subprocess.run(["unshare", "-m", "true"], capture_output=True) if shutil.which("unshare") else None
    if free is None or free.returncode:
        pytest.skip("needs root and unshare")
    corpus = audio_corpus(tmp_path / "corpus", speakers=1, clips=1)
    code = (
        "import sys; from deiii.pipeline.logmel.stage import extract_logmel as e; "
        "from deiii.data.config.schema import LogMelConfig as C; print(e(sys.argv[1], C()).outcome.status)"
    )
    script = READ_ONLY.format(package=package)
    path = str(tmp_path / "corpus" / corpus.clips[0].path)
    env = {**os.environ, "HOME": "/proc/none", "TMPDIR": str(tmp_path), "NUMBA_DISABLE_JIT": "0"}
    for name in ("XDG_CACHE_HOME", "NUMBA_CACHE_DIR"):
        env.pop(name, None)
    env["PYTHONPATH"] = str(Path(__file__).parents[3])
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, "-c", code, path],
        capture_output=True, text=True, env=env, timeout=200,
    )  # fmt: skip
    assert done.stdout.strip() == "ok", done.stderr
    assert (tmp_path / f"deiii-numba-{os.getuid()}").is_dir()


def test_first_clips_watch_does_not_stop_a_corpus_of_strange_files(tmp_path):
    """Files that are no media end as their own outcome, however many come first."""
    root = tmp_path / "corpus"
    corpus = audio_corpus(root, speakers=1, clips=8)
    for clip in corpus.clips[:6]:
        (root / clip.path).write_bytes(b"nothing that plays")
    words = ["stages=[logmel]", "workers=1", f"cache={tmp_path / 'cache'}", "max_failed=0.9"]
    summary = preprocess(load_config(overrides=words), corpus, lambda line: None)
    assert summary.counts["logmel"]["ok"] == 2
