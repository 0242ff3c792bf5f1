"""7. Bad tables and configs: read as they are meant, or refused in a line that names row or setting."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
import time
from pathlib import Path

from deiii.data.config.schema import CorpusConfig
from deiii.data.corpora.scan import scan
from tests.faults.checks import check_done, check_error
from tests.faults.harness import faults
from tests.faults.processes import ROOT, Ended, main_in
from tests.faults.workspace import Workspace

tables = faults("7 tables")
REPORTED = "an error line that names the row; exit status 1, nothing written"
HEAD = "path,speaker,label\n"
GOOD = "a.flac,anna,happy\n"


def _preprocess(work: Workspace, table: bytes | str, prepare=None) -> tuple[Ended, Path]:
    """Run the real command in this process on a table beside three files; it must end before any work."""
    root = work.folder()
    for n, name in enumerate("abc"):
        shutil.copyfile(work.tones / f"s0/c{n}.flac", root / f"{name}.flac")
    if prepare:
        prepare(root)
    path = root / "clips.csv"
    path.write_bytes(table if isinstance(table, bytes) else table.encode())
    cache = root / "cache"
    words = ["corpus.name=table", f"corpus.root={root}", f"cache={cache}", "stages=[logmel]"]
    return main_in("preprocess", *words), cache


def _link_out(root: Path) -> None:
    (root / "link.flac").symlink_to("/etc/passwd")


def _folder_link_out(root: Path) -> None:
    (root / "sub").symlink_to("/etc")


def _loop(root: Path) -> None:
    (root / "loop").symlink_to(root / "loop")


# name: (table, words of the message, preparation of the folder)
REFUSED: dict[str, tuple] = {
    "a missing column": ("path,label\na.flac,happy\n", ("speaker",)),
    "a misspelt column": ("path,speaker,lable\na.flac,anna,happy\n", ("label",)),
    "a column twice": ("path,speaker,label,label\na.flac,anna,x,y\n", ("twice",)),
    "an empty table": ("", ("path,speaker,label",)),
    "only a header": (HEAD, ("no rows",)),
    "a clip twice": (HEAD + GOOD + GOOD, ("row 3", "a.flac")),
    "a clip twice with another spelling of its path": (
        HEAD + GOOD + "./x/../a.flac,ben,sad\n",
        ("row 3", "a.flac"),
    ),
    "a blank label": (HEAD + "a.flac,anna,\n", ("row 2", "label")),
    "a blank speaker": (HEAD + "a.flac,,happy\n", ("row 2", "speaker")),
    "NaN as a rating": ("path,speaker,label,valence\na.flac,anna,happy,NaN\n", ("row 2", "valence")),
    "infinity as a rating": ("path,speaker,label,valence\na.flac,anna,happy,1e999\n", ("row 2", "valence")),
    "a word as a rating": ("path,speaker,label,arousal\na.flac,anna,happy,high\n", ("row 2", "arousal")),
    "a rating outside every range": (
        "path,speaker,label,arousal\na.flac,anna,happy,1e6\n",
        ("attributes go from",),
    ),
    "an absolute path outside the root": (HEAD + "/etc/passwd,anna,happy\n", ("row 2", "outside")),
    ".. out of the root": (HEAD + "../../etc/passwd,anna,happy\n", ("row 2", "passwd")),
    ".. hidden inside a path": (HEAD + "x/../../b.flac,anna,happy\n", ("row 2",)),
    "a Windows path": (HEAD + "C:\\clips\\a.flac,anna,happy\n", ("row 2", "outside")),
    "a symlink out of the root": (HEAD + "link.flac,anna,happy\n", ("row 2", "link"), _link_out),
    "a folder that is a symlink out": (HEAD + "sub/passwd,anna,happy\n", ("row 2", "link"), _folder_link_out),
    "a symlink to itself": (HEAD + "loop,anna,happy\n", ("exists",), _loop),
    "a newline in a path": (HEAD + '"a\n.flac",anna,happy\n', ("control characters",)),
    "a NUL in a path": (HEAD + "a\0.flac,anna,happy\n", ("row 2",)),
    "Latin-1 instead of UTF-8": ((HEAD + "a.flac,Zoë,happy\n").encode("latin-1"), ("UTF-8",)),
    "UTF-16": ((HEAD + GOOD).encode("utf-16"), ("UTF-8",)),
    "semicolons": ("path;speaker;label\na.flac;anna;happy\n", ("semicolons",)),
    "a quote that is not closed": (HEAD + '"a.flac,anna,happy\n' + GOOD, ("row",)),
    "too few cells": (HEAD + "a.flac,anna\n", ("row 2", "cells")),
    "nan for labels": (HEAD + GOOD + "b.flac,anna,nan\nc.flac,anna,NaN\n", ("rows 3, 4", "missing value")),
    "nan for a speaker": (HEAD + GOOD + "b.flac,nan,sad\n", ("row 3", "missing value")),
    "a label of invisible characters": (HEAD + "a.flac,anna,\u200b\u2060\n", ("row 2", "blank")),
    "one label in two alphabets": (HEAD + GOOD + "b.flac,ben,h\u0430ppy\n", ("row 3", "look alike")),
    "one speaker as 1 and 1.0": (HEAD + "a.flac,1,x\nb.flac,1.0,y\n", ("row 3", "spelling")),
    "one fold in two spellings": (
        "path,speaker,label,fold\na.flac,anna,x,F1\nb.flac,ben,y,f1\n",
        ("row 3", "spelling"),
    ),
    "one speaker in two spellings": (HEAD + GOOD + "b.flac,Anna,sad\n", ("spelling",)),
    "an HTML page": ("<!DOCTYPE html><html>log in</html>", ("path,speaker,label",)),
    "a cell of 10 MB": (HEAD + "a.flac,anna," + "x" * 10_000_000 + "\n", ("row 2",)),
    "none of its files existing": (HEAD + "x.mp4,anna,happy\n", ("none of its files exists",)),
}


def _refused(name: str, table, words, prepare=None) -> None:
    @tables(f"a table with {name}", REPORTED, short=True)
    def inject(work: Workspace) -> str:
        done, cache = _preprocess(work, table, prepare)
        assert not cache.exists(), "a cache was started"
        return check_error(done, *words)


for _name, _case in REFUSED.items():
    _refused(_name, *_case)


@tables("a table with unicode, spaces, newlines, BOM, CRLF", "read as meant, every clip ok", short=True)
def odd_names(work: Workspace) -> str:
    root = work.folder()
    names = [
        "a b.flac",
        "ü ñ 漢字.flac",
        'quo"te.flac',
        "comma,x.flac",
        "-rf.flac",
        "%s {0}.flac",
        "'=1+1'.flac",
    ]
    for name in names:
        shutil.copyfile(work.tones / "s0/c0.flac", root / name)
    table = root / "tàble (1).csv"
    with open(table, "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow(["speaker", " Path ", "label"])
        writer.writerows([["Zoë\nSmith", name, "=HYPERLINK(1)"] for name in names])
        writer.writerow(["=cmd|' /C calc'!A0", "gone.mp4", "+1"])
    words = ["corpus.name=table", f"corpus.root={root}", f"corpus.table={table}", f"cache={root / 'cache'}"]
    check_done(work.run("preprocess", *words, "stages=[logmel]", "workers=1", "max_failed=0.5"))
    with open(next(root.glob("cache/*/failures.csv")), newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 2 and rows[1][1] == "gone.mp4"
    found = scan(CorpusConfig(name="table", root=str(root), table=str(table)))
    assert sorted(c.path for c in found.clips) == sorted([*names, "gone.mp4"])
    return f"{len(names)} clips"


@tables(
    "spreadsheet formulas in names of bad clips", "failures.csv contains none that a spreadsheet would run"
)
def formulas(work: Workspace) -> str:
    root = work.folder()
    shutil.copyfile(work.tones / "s0/c0.flac", root / "a.flac")
    names = ["=1+1.mp4", "+1.mp4", "-1.mp4", "@SUM(1).mp4"]
    rows = [f"{n},anna,happy" for n in [*names, "a.flac"]]
    (root / "clips.csv").write_text(HEAD + "\n".join(rows) + "\n")
    words = [
        "corpus.name=table",
        f"corpus.root={root}",
        f"cache={root / 'cache'}",
        "stages=[logmel]",
        "workers=1",
    ]
    check_done(work.run("preprocess", *words, "max_failed=1"))
    with open(next(root.glob("cache/*/failures.csv")), newline="") as file:
        cells = [c for row in list(csv.reader(file))[1:] for c in row]
    live = [c for c in cells if c[:1] in ("=", "+", "-", "@", "\t", "\r")]
    assert len(cells) == 6 * len(names) and not live, live
    return f"{len(names)} names"


MILLION = """
import sys, time
from pathlib import Path
from deiii.data.cache.index import read_table, write_table
from deiii.data.cache.shard_plan import plan_shards
from deiii.data.corpora.scan import scan
from deiii.data.config.schema import CorpusConfig
from tests.faults.peak import peak_mb
begun, cache = time.time(), Path(sys.argv[1]) / "cache"
corpus = scan(CorpusConfig(name="table", root=sys.argv[1]))
plans = plan_shards(corpus)
(cache / corpus.name).mkdir(parents=True)
write_table(cache, corpus)
assert read_table(cache, corpus.name) == corpus
print(len(corpus.clips), len(plans), round(time.time() - begun, 1), round(peak_mb()))
"""


@tables("a table of 1,000,000 rows", "scanned and planned in limited time and memory")
def million(work: Workspace) -> str:
    root = work.folder()
    shutil.copyfile(work.tones / "s0/c0.flac", root / "0.flac")
    with open(root / "clips.csv", "w") as file:
        file.write(HEAD)
        file.writelines(f"{n}.flac,s{n % 5000},{'ab'[n % 2]}\n" for n in range(1_000_000))
    command = [sys.executable, "-c", MILLION, str(root)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-400:]
    clips, shards, seconds, megabytes = done.stdout.split()
    assert clips == "1000000" and int(megabytes) < 6000, done.stdout
    return f"{shards} shards, {seconds} s with the table written and read back, {megabytes} MB"


# Configs

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
CONFIGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "an unknown key": ("faces:\n  sise: 3\n", ("faces.sise", "did you mean")),
    "an unknown section": ("face:\n  size: 3\n", ("face",)),
    "a wrong type": ("faces:\n  size: large\n", ("faces.size",)),
    "a list for a number": ("faces:\n  size: [1, 2]\n", ("size",)),
    "a value for a section": ("faces: 3\n", ("faces",)),
    "a value that is not among the choices": ("faces:\n  detector: magic\n", ("faces.detector", "haar")),
    "NaN": ("max_failed: .nan\n", ("max_failed",)),
    "a key twice": ("workers: 1\nworkers: 2\n", ("twice",)),
    "a Python tag": ("cache: !!python/object/apply:os.system ['touch pwned']\n", ("not valid YAML",)),
    "another Python tag": ("cache: !!python/name:os.system\n", ("not valid YAML",)),
    "an alias bomb": (BOMB, ("aliases",)),
    "10,000 nested lists": ("cache: " + "[" * 10_000 + "]" * 10_000 + "\n", ("not valid YAML",)),
    "an environment reference": ("cache: ${oc.env:HOME}\n", ("not supported",)),
    "a list at the top": ("- 1\n- 2\n", ("sections",)),
    "bytes that are not text": ("cache: \udcff\udcfe\n", ("UTF-8",)),
    "a NUL": ("cache: a\0b\n", ("not valid YAML",)),
    "2 MB of text": ("# " + "x" * 2_000_000, ("larger",)),
}


def _config(name: str, text: str, words: tuple[str, ...]) -> None:
    @tables(f"a config with {name}", "an error line that names the file and the setting", short=True)
    def inject(work: Workspace) -> str:
        path = work.folder() / "odd.yaml"
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        started = time.monotonic()
        message = check_error(main_in("preprocess", str(path)), *words)
        assert time.monotonic() - started < 20 and not Path("pwned").exists()
        return message[-100:]


for _name, _case in CONFIGS.items():
    _config(_name, *_case)


OVERRIDES = {
    "an unknown setting": (["train.epoch=3"], ("train.epochs",)),
    "a wrong type": (["workers=many"], ("workers",)),
    "no value": (["=3"], ("key=value",)),
    "a missing file": (["nowhere.yaml"], ("nowhere.yaml",)),
    "a negative number of workers": (["workers=-1"], ("workers",)),
    "no clips in a shard": (["corpus.clips_per_shard=0"], ("clips_per_shard",)),
    "a time limit of zero": (["clip_timeout=0"], ("clip_timeout",)),
    "a memory limit of zero": (["clip_memory_gb=0"], ("clip_memory_gb",)),
    "no stages": (["stages=[]"], ("stages",)),
    "an unknown stage": (["stages=[smell]"], ("stages",)),
}


def _override(name: str, settings: list[str], words: tuple[str, ...]) -> None:
    @tables(f"a setting with {name}", "an error line that names the setting", short=True)
    def inject(work: Workspace) -> str:
        base = ["corpus.name=table", f"corpus.root={work.tones}", f"cache={work.folder()}"]
        return check_error(main_in("preprocess", *base, *settings), *words)[-100:]


for _name, _case in OVERRIDES.items():
    _override(_name, *_case)
