"""6. Bad media, continued: real files with reproducible random damage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.faults.badmedia import ANY, USABLE, media
from tests.faults.checks import check_done, check_identical
from tests.faults.fuzz_decoder import mutate
from tests.faults.processes import ROOT, TIMEOUT_S
from tests.faults.workspace import Workspace

KINDS = ("bits", "bytes", "holes", "cuts", "swaps", "sizes", "splices")
SHARE = 72  # files of each kind: 504 in all
LIMITS = {"seconds": 20.0, "gigabytes": 1.0}


def _sources(work: Workspace) -> list[str]:
    shared = os.environ.get("DEIII_TEST_DATA")
    synthetic = [str(p) for p in sorted(work.synthetic.rglob("*.mp4"))[:3]]
    if not shared:
        return synthetic
    folder = Path(shared) / "media"
    real = [*sorted((folder / "grid").glob("*.mpg"))[:3], folder / "edge/several_faces_5_frames.mp4"]
    real += [folder / "edge/no_face.mp4", *sorted((folder / "ravdess_speech_16k").glob("*.flac"))[:2]]
    return [*map(str, real), *synthetic]


def _fuzz(work: Workspace, kind: str, count: int) -> str:
    """Decode mutated files in processes that are started again after a crash."""
    answers = work.folder() / "answers.jsonl"
    found: list[dict] = []
    crashed: list[int] = []
    first = 0
    while first < count:
        command = [
            sys.executable,
            "-m",
            "tests.faults.fuzz_decoder",
            str(answers),
            kind,
            str(first),
            str(count),
        ]
        command += [str(LIMITS["seconds"]), str(LIMITS["gigabytes"]), *_sources(work)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S * 4)
        found = [json.loads(line) for line in answers.read_text().splitlines()] if answers.exists() else []
        if done.returncode == 0:
            break
        number = found[-1]["number"] + 1 if found else 0
        assert number >= first, done.stderr[-500:]
        crashed.append(done.returncode)
        first = number + 1
        with open(answers, "a") as file:
            file.write(json.dumps({"number": number, "crash": done.returncode}) + "\n")
    ended = [f for f in found if "faces" in f]
    assert len(ended) + len(crashed) == count, f"{len(ended)} of {count} ended: {done.stderr[-300:]}"
    strange = [f for f in ended for s in ("faces", "logmel") if f[s] not in ANY | {"out_of_memory"}]
    assert not strange, f"unexpected outcomes: {strange[:2]}"
    zero = [f for f in ended if f["zero"]]
    assert not zero, f"zeros without an outcome that says so: {zero[:2]}"
    defects = [f["defect"] for f in ended if f["defect"]]
    assert not defects, f"unexpected exceptions: {defects[:2]}"
    assert not crashed, f"{len(crashed)} decoder crashes or hangs: {crashed}"
    slow, large = max(f["seconds"] for f in ended), max(f["megabytes"] for f in ended)
    kept = sum(f["faces"] in USABLE or f["logmel"] in USABLE for f in ended)
    return f"{count} files, {kept} usable, slowest {slow:.1f} s, peak {large:.0f} MB"


@media(f"{SHARE} real files with mutated {{case}}", f"one outcome each within {LIMITS['seconds']:g} s and "
       f"{LIMITS['gigabytes']:g} GiB more memory", cases=KINDS)  # fmt: skip
def fuzzed(work: Workspace, case: str) -> str:
    return _fuzz(work, case, SHARE)


@media(
    "10 real files with mutated {case}",
    "one outcome each, in limited time and memory",
    cases=("bytes",),
    short=True,
)
def fuzzed_a_little(work: Workspace, case: str) -> str:
    return _fuzz(work, case, 10)


@media("30 damaged files, with one worker and with two", "the same bytes")
def by_other_workers(work: Workspace) -> str:
    folder, sources = work.folder(), [p for p in map(Path, _sources(work)) if p.suffix != ".flac"]
    rows = []
    for number in range(30):
        rng, source = np.random.default_rng([number, 30]), sources[number % len(sources)]
        name = f"{number:02d}{source.suffix}"
        (folder / name).write_bytes(mutate(source.read_bytes(), ("bits", "bytes", "holes")[number % 3], rng))
        rows.append(f"{name},s{number % 4},a\n")
    (folder / "clips.csv").write_text("path,speaker,label\n" + "".join(rows))
    words = [
        "corpus.name=table",
        f"corpus.root={folder}",
        "faces.size=32",
        "stages=[faces,logmel]",
        "max_failed=1",
    ]
    for workers in (1, 2):
        check_done(work.run("preprocess", *words, f"cache={folder / str(workers)}", f"workers={workers}"))
        with open(sorted((folder / str(workers)).rglob("failures.csv"))[0]) as file:
            message = len(file.readlines()) - 1
    check_identical(folder / "1", folder / "2")
    return f"{message} outcomes with a reason"
