"""12. Identity: corpora of one name, edited and moved ones; nobody's shards or results become another's."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

from deiii.data.cache.identity import IDENTITY
from deiii.data.cache.index import TABLE
from tests.faults.checks import check_done, check_error
from tests.faults.harness import Lost, faults
from tests.faults.processes import main_in, wait_until
from tests.faults.training import words as training_words
from tests.faults.workspace import Workspace, shards
from tests.helpers.clips import write_audio

identity = faults("12 identity")
KEPT = "the first corpus's shards stay, byte for byte; each corpus has its own folder"


def _bytes(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.rglob("*.h5")}


def _other(work: Workspace) -> Path:
    """A corpus with the names, speakers and labels of the tones, and other tones."""
    root = work.folder() / "other"
    for path in sorted(work.tones.rglob("*.flac")):
        write_audio(root / path.relative_to(work.tones), 0.5, 1000.0)
    shutil.copy(work.tones / "clips.csv", root)
    return root


def _tones(work: Workspace) -> tuple[Path, Path]:
    """A copy of the tones and their cache, at home in each other."""
    base = work.folder()
    shutil.copytree(work.tones, base / "raw")
    shutil.copytree(work.tone_cache, base / "cache")
    check_done(_preprocess(work, base / "raw", base / "cache"), "nothing to do")
    return base / "raw", base / "cache"


def _words(work: Workspace, root: Path, cache: Path) -> list[str]:
    return [w for w in work.tone_words(cache) if not w.startswith("corpus.root")] + [f"corpus.root={root}"]


def _preprocess(work: Workspace, root: Path, cache: Path):
    return work.run("preprocess", *_words(work, root, cache))


def _check_apart(cache: Path, before: dict[str, bytes]) -> str:
    other = [p.name for p in cache.glob("table-clips-*")]
    if not before.items() <= _bytes(cache / "table-clips").items():
        raise Lost("shards of the first corpus were overwritten")
    assert len(other) == 1, other
    assert not _bytes(cache / other[0]).items() & before.items()
    return other[0]


@identity("another corpus of the same name, files and speakers in one cache", KEPT, short=True)
def same_name(work: Workspace) -> str:
    root, cache = _tones(work)
    before = _bytes(cache)
    check_done(_preprocess(work, _other(work), cache), "another corpus has this one's name")
    name = _check_apart(cache, before)
    check_done(_preprocess(work, root, cache), "nothing to do")
    return name


@identity("another corpus of the same name after SIGKILL with {case} shards made", KEPT, cases=(1, 5))
def same_name_after_kill(work: Workspace, case: int) -> str:
    cache = work.folder() / "cache"
    first = work.start("preprocess", *work.tone_words(cache))
    wait_until(lambda: len(shards(cache)) >= case, first)
    first.kill_and_wait()
    before = _bytes(cache)
    check_done(_preprocess(work, _other(work), cache))
    _check_apart(cache, before)
    check_done(_preprocess(work, work.tones, cache))
    if _bytes(cache / "table-clips") != _bytes(work.tone_cache / "table-clips"):
        raise Lost("other bytes than an undisturbed run's")
    return f"{len(before)} shards kept"


@identity("two corpora of the same name at the same time", "each has its own folder, both are whole")
def same_time(work: Workspace) -> str:
    cache, other = work.folder() / "cache", _other(work)
    both = [work.start("preprocess", *_words(work, root, cache)) for root in (work.tones, other)]
    for running in both:
        check_done(running.wait())
    folders = sorted(p.parent for p in cache.glob(f"*/{TABLE}"))
    assert len(folders) == 2
    roots = {json.loads((f / IDENTITY).read_text())["root"]: f for f in folders}
    if _bytes(roots[str(work.tones)]) != _bytes(work.tone_cache / "table-clips"):
        raise Lost("shards of one corpus became the other's")
    return f"{len(folders)} folders"


@identity("the record of a folder's corpus is {case}", "no shard is made anew; it is written again",
          cases=("cut off", "gone", "of other text", "a link to nothing"))  # fmt: skip
def record(work: Workspace, case: str) -> str:
    root, cache = _tones(work)
    path, before = cache / "table-clips" / IDENTITY, _bytes(cache)
    text = path.read_text()
    path.unlink()
    if case == "cut off":
        path.write_text(text[:50])
    elif case == "of other text":
        path.write_text(text.replace(str(root), "/somewhere/else"))
    elif case == "a link to nothing":
        path.symlink_to("nowhere")
    check_done(_preprocess(work, root, cache), "nothing to do")
    assert json.loads(path.read_text())["root"] == str(root) and _bytes(cache) == before
    return "written again"


@identity("a corpus is moved", "its features are kept", short=True)
def moved(work: Workspace) -> str:
    root, cache = _tones(work)
    before = _bytes(cache)
    root.rename(root.with_name("moved"))
    done = check_done(_preprocess(work, root.with_name("moved"), cache), "nothing to do")
    if _bytes(cache) != before:
        raise Lost("other shards")
    return next(line for line in done.text.splitlines() if "has the clips of" in line)[-60:]


def _edit(root: Path, column: str) -> None:
    with open(root / "clips.csv", newline="") as file:
        table = list(csv.DictReader(file))
    if column == "row":
        table = table[:-1]
    elif column == "speaker":
        table[-1]["speaker"] = "somebody"
    else:
        table[0]["label"], table[1]["label"] = table[1]["label"], table[0]["label"]
    with open(root / "clips.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)


@identity("a {case} of the table is edited between commands",
          "train, evaluate and --resume name what changed, before and after preprocessing",
          cases=("label", "speaker", "row"), short={"label"})  # fmt: skip
def edited(work: Workspace, case: str) -> str:
    root, cache = _tones(work)
    run = root.with_name("run")
    words = [w for w in training_words(work, run, cache) if not w.startswith("corpus.root")]
    words += [f"corpus.root={root}", "train.epochs=1"]
    check_done(work.run("train", *words))
    _edit(root, case)
    says = {"label": "the label of 2 clips", "speaker": "the speaker of 1 clip", "row": "1 clip gone"}[case]
    fresh = [*words, f"train.run={root.with_name('fresh')}"]
    told = check_error(main_in("train", *fresh), says, "deiii preprocess")
    check_error(main_in("evaluate", str(run)), says)
    check_done(_preprocess(work, root, cache))
    check_error(main_in("evaluate", str(run)), says)
    check_error(main_in("train", *words, "--resume"), says)
    check_done(main_in("train", *fresh))
    return told[-80:]


@identity("evaluate is killed while it writes", "it is scored by the next one, once", short=True)
def killed_evaluation(work: Workspace) -> str:
    root, cache = _tones(work)
    run = root.with_name("run")
    words = [w for w in training_words(work, run, cache) if not w.startswith("corpus.root")]
    check_done(work.run("train", *words, f"corpus.root={root}", "train.epochs=1"))
    first = work.start("evaluate", str(run))
    wait_until(lambda: (run / "predictions.csv").exists(), first)
    first.kill_and_wait()
    scored = (run / "metrics.json").exists()
    done = work.run("evaluate", str(run), "--keep")
    check_done(done, "test UAR")
    check_error(main_in("evaluate", str(run)), "scored before", "--again")
    return "had been scored" if scored else "was scored again"
