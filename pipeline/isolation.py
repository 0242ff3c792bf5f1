"""One clip in a process of its own, for files on which a decoder crashes, hangs or eats memory.

Only used after a worker died on a shard: a fresh process a clip costs about a second.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from data.config import parse_config, to_yaml
from data.outcomes import Outcome, Status
from data.schema import Config
from pipeline.result import StageResult


def run_isolated(stage: str, path: str, config: Config) -> StageResult:
    """The result of `pipeline.stages.run_clip`, whatever the file does to the process.

    Outcomes: ``timed_out`` after ``clip_timeout`` seconds, ``out_of_memory`` past
    ``clip_memory_gb``, ``crashed_decoder`` where the process died otherwise.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "result.npz"
        settings = Path(folder) / "settings.yaml"
        settings.write_text(to_yaml(config), encoding="utf-8")
        command = [sys.executable, "-m", "pipeline.isolation", stage, path, str(settings), str(answer)]
        try:
            done = subprocess.run(command, timeout=config.clip_timeout, capture_output=True, text=True)
        except subprocess.TimeoutExpired:
            reason = f"decoding did not end within {config.clip_timeout:g} s (clip_timeout)"
            return StageResult(Outcome(Status.TIMED_OUT, reason, 0.0))
        if answer.exists():
            return _read(answer)
        if done.returncode == -signal.SIGKILL:
            reason = "its process was killed, most likely for memory; re-encode it at a smaller size"
            return StageResult(Outcome(Status.OUT_OF_MEMORY, reason, 0.0))
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        reason = f"decoding it ended the process ({last[:200]}); re-encode it, e.g. with ffmpeg"
        return StageResult(Outcome(Status.CRASHED_DECODER, reason, 0.0))


def _write(path: Path, result: StageResult) -> None:
    outcome = result.outcome
    head = np.array([str(outcome.status), outcome.reason], dtype=np.str_)
    temporary = path.with_suffix(".part.npz")
    np.savez(temporary, _head=head, _fraction=np.array(outcome.fraction), **result.arrays)
    temporary.rename(path)


def _read(path: Path) -> StageResult:
    with np.load(path, allow_pickle=False) as file:
        status, reason = (str(t) for t in file["_head"])
        outcome = Outcome(Status(status), reason, float(file["_fraction"]))
        return StageResult(outcome, {n: file[n] for n in file.files if not n.startswith("_")})


def _limit_memory(gigabytes: float) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    size = int(gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def main(argv: list[str]) -> None:
    from pipeline.stages import load_models, run_clip

    stage, path, settings, answer = argv
    config = parse_config(Path(settings).read_text(encoding="utf-8"))
    load_models(stage, config)
    _limit_memory(config.clip_memory_gb)
    _write(Path(answer), run_clip(stage, path, config))


if __name__ == "__main__":
    main(sys.argv[1:])
