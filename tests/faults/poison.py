"""2. Poison clips: a decoder that crashes, hangs or exhausts memory affects its clip and no other.

No file does so with every version of FFmpeg, so the behaviour is injected into the decoder in the real worker
processes.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from pathlib import Path

from deiii.data.cache.index import read_index
from deiii.data.cache.shards import open_shard
from tests.faults.checks import check_done, check_error
from tests.faults.harness import faults
from tests.faults.workspace import Workspace

poison = faults("2 poison")

CODE = """
import deiii.pipeline.{module}.stage as m
real = m.{function}
def extract(path, *more):
    if str(path).endswith("{victim}"):
        {act}
    return real(path, *more)
m.{function} = extract
"""
MODULES = {"logmel": ("logmel", "extract_logmel"), "faces": ("faces", "extract_faces")}
ACTS = {
    "aborts": ("__import__('os').abort()", "crashed_decoder"),
    "reads address 0": ("__import__('ctypes').string_at(0)", "crashed_decoder"),
    "exits silently": ("__import__('os')._exit(0)", "crashed_decoder"),
    "recurses without end": ("(lambda f: f(f))(lambda f: f(f))", "failed"),
    "hangs": ("__import__('time').sleep(3600)", "timed_out"),
    "hangs with signals blocked": (
        "import signal, time; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); time.sleep(3600)",
        "timed_out",
    ),
    "allocates memory without end": (
        "x = []\n        while True: x.append(bytearray(1 << 24))",
        "out_of_memory",
    ),
    "allocates 200 GiB at once": ("bytearray(200 << 30)", "out_of_memory"),
    "is killed for using too much memory": (
        "__import__('os').kill(__import__('os').getpid(), 9)",
        "out_of_memory",
    ),
    "raises an unexpected exception": ("raise KeyError('\\\\ud800')", "failed"),
}


def _undisturbed(work: Workspace, folder: Path, stage: str) -> tuple[list[str], Path]:
    """Settings for a corpus of four clips in one shard, and its cache, made by an undisturbed run."""
    for n in range(4):
        shutil.copyfile(sorted(work.synthetic.rglob("*.mp4"))[n], folder / f"{n}.mp4")
    (folder / "clips.csv").write_text("path,speaker,label\n" + "".join(f"{n}.mp4,s,a\n" for n in range(4)))
    words = ["corpus.name=table", f"corpus.root={folder}", f"stages=[{stage}]", "workers=1", "faces.size=32"]
    words += ["clip_timeout=10", "clip_memory_gb=1", "max_failed=1"]
    check_done(work.run("preprocess", *words, f"cache={folder / 'clean'}"))
    return words, folder / "clean"


def _poison(name: str, stage: str, short: bool) -> None:
    act, status = ACTS[name]

    @poison(
        f"a clip on which the {stage} decoder {name}",
        f"recorded as {status}; the other clips are complete",
        short=short,
    )
    def inject(work: Workspace) -> str:
        module, function = MODULES[stage]
        words, clean = work.cached(f"four-{stage}", lambda folder: _undisturbed(work, folder, stage))
        cache = work.folder()
        code = CODE.format(module=module, function=function, victim="2.mp4", act=act)
        done = check_done(work.run("preprocess", *words, f"cache={cache}", env=work.environment_with(code)))
        here, there = (next(c.glob(f"*/{stage}-*")) for c in (cache, clean))
        index = read_index(here)
        found = Counter(row.status for row in index.clips.values())
        assert index.clips["2"].status == status, f"{dict(found)}: {index.clips['2'].reason}"
        assert index.clips["2"].reason, "no reason"
        one, two = (open_shard(next(f.glob("*.h5"))) for f in (here, there))
        for clip in ("0", "1", "3"):
            a, b = one.clip(clip), two.clip(clip)
            assert a.keys() == b.keys() and all((a[k] == b[k]).all() for k in a), f"clip {clip} differs"
            assert a, f"clip {clip} is lost: {one.outcome(clip)}"
        assert not list(cache.rglob("*.tmp"))
        return f"{index.clips['2'].reason[:80]}; {done.seconds:.0f} s"


for _name in ACTS:
    _poison(_name, "logmel", _name == "aborts")
for _name in ("aborts", "allocates memory without end"):
    _poison(_name, "faces", False)


@poison("a clip that timed out, then retry=true with a working decoder", "the clip is complete")
def retried(work: Workspace) -> str:
    root = work.folder()
    for n in range(2):
        shutil.copyfile(work.tones / f"s0/c{n}.flac", root / f"{n}.flac")
    (root / "clips.csv").write_text("path,speaker,label\n0.flac,s,a\n1.flac,s,a\n")
    words = ["corpus.name=table", f"corpus.root={root}", f"cache={root / 'cache'}", "stages=[logmel]"]
    words += ["workers=1", "clip_timeout=10", "max_failed=1"]
    act = ACTS["hangs"][0]
    code = CODE.format(module="logmel", function="extract_logmel", victim="1.flac", act=act)
    assert work.run("preprocess", *words, env=work.environment_with(code)).code == 0
    folder = next((root / "cache").glob("*/logmel-*"))
    assert (
        read_index(folder).clips["1"].status == "timed_out"
        and "retry=true" in read_index(folder).clips["1"].reason
    )
    assert work.run("preprocess", *words).code == 0
    assert read_index(folder).clips["1"].status == "timed_out", "computed again without retry=true"
    assert work.run("preprocess", *words, "retry=true").code == 0
    assert read_index(folder).clips["1"].status == "ok"


@poison("every clip is poison", "the run ends with an error line and exit status 1")
def all_poison(work: Workspace) -> str:
    words = work.tone_words(work.folder(), "clip_timeout=60")
    code = CODE.format(module="logmel", function="extract_logmel", victim="c0.flac", act=ACTS["aborts"][0])
    started = time.monotonic()
    message = check_error(work.run("preprocess", *words, env=work.environment_with(code)), "max_failed")
    return f"{message[-60:]}, {time.monotonic() - started:.0f} s"
