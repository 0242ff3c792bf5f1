"""2. Poison clips: a decoder that crashes, hangs or eats memory costs the clip that did it, and no other.

No file can be relied on to do so with every FFmpeg, so the decoder's behaviour is injected into the
real worker processes.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from pathlib import Path

from deiii.data.cache.index import read_index
from deiii.data.cache.shards import open_shard
from tests.faults.checks import check_done, check_told
from tests.faults.harness import faults
from tests.faults.laboratory import Lab

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
    "recurses without end": ("(lambda f: f(f))(lambda f: f(f))", "unreadable"),
    "hangs": ("__import__('time').sleep(3600)", "timed_out"),
    "hangs with signals blocked": (
        "import signal, time; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); time.sleep(3600)",
        "timed_out",
    ),
    "asks for memory without end": (
        "x = []\n        while True: x.append(bytearray(1 << 24))",
        "out_of_memory",
    ),
    "asks for 200 GiB at once": ("bytearray(200 << 30)", "out_of_memory"),
    "is killed for memory": ("__import__('os').kill(__import__('os').getpid(), 9)", "out_of_memory"),
    "raises what nobody expects": ("raise KeyError('\\\\ud800')", "unreadable"),
}


def _undisturbed(lab: Lab, folder: Path, stage: str) -> tuple[list[str], Path]:
    """Settings for a corpus of four clips in one shard, and the cache that an undisturbed run made of it."""
    for n in range(4):
        shutil.copyfile(sorted(lab.drawn.rglob("*.mp4"))[n], folder / f"{n}.mp4")
    (folder / "clips.csv").write_text("path,speaker,label\n" + "".join(f"{n}.mp4,s,a\n" for n in range(4)))
    words = ["corpus.name=table", f"corpus.root={folder}", f"stages=[{stage}]", "workers=1", "faces.size=32"]
    words += ["clip_timeout=10", "clip_memory_gb=1", "max_failed=1"]
    check_done(lab.run("preprocess", *words, f"cache={folder / 'clean'}"))
    return words, folder / "clean"


def _poison(name: str, stage: str, short: bool) -> None:
    act, status = ACTS[name]

    @poison(
        f"a clip on which the {stage} decoder {name}",
        f"recorded as {status}; its neighbours are whole",
        short=short,
    )
    def inject(lab: Lab) -> str:
        module, function = MODULES[stage]
        words, clean = lab.once(f"four-{stage}", lambda folder: _undisturbed(lab, folder, stage))
        cache = lab.folder()
        code = CODE.format(module=module, function=function, victim="2.mp4", act=act)
        done = check_done(lab.run("preprocess", *words, f"cache={cache}", env=lab.injected(code)))
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
for _name in ("aborts", "asks for memory without end"):
    _poison(_name, "faces", False)


@poison("a clip that timed out, then retry=true with the decoder mended", "the clip comes out whole")
def retried(lab: Lab) -> str:
    root = lab.folder()
    for n in range(2):
        shutil.copyfile(lab.tones / f"s0/c{n}.flac", root / f"{n}.flac")
    (root / "clips.csv").write_text("path,speaker,label\n0.flac,s,a\n1.flac,s,a\n")
    words = ["corpus.name=table", f"corpus.root={root}", f"cache={root / 'cache'}", "stages=[logmel]"]
    words += ["workers=1", "clip_timeout=10", "max_failed=1"]
    act = ACTS["hangs"][0]
    code = CODE.format(module="logmel", function="extract_logmel", victim="1.flac", act=act)
    assert lab.run("preprocess", *words, env=lab.injected(code)).code == 0
    folder = next((root / "cache").glob("*/logmel-*"))
    assert (
        read_index(folder).clips["1"].status == "timed_out"
        and "retry=true" in read_index(folder).clips["1"].reason
    )
    assert lab.run("preprocess", *words).code == 0
    assert read_index(folder).clips["1"].status == "timed_out", "retried without being asked"
    assert lab.run("preprocess", *words, "retry=true").code == 0
    assert read_index(folder).clips["1"].status == "ok"


@poison("every clip is poison", "the run ends, says so and exits with 1")
def all_poison(lab: Lab) -> str:
    words = lab.tone_words(lab.folder(), "clip_timeout=60")
    code = CODE.format(module="logmel", function="extract_logmel", victim="c0.flac", act=ACTS["aborts"][0])
    begun = time.monotonic()
    told = check_told(lab.run("preprocess", *words, env=lab.injected(code)), "max_failed")
    return f"{told[-60:]}, {time.monotonic() - begun:.0f} s"
