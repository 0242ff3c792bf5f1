"""19. Paths, suffixes, archives and links: read as they are written, or passed over with a word."""

from __future__ import annotations

import shutil
from contextlib import chdir
from pathlib import Path

from deiii.data.config.load import load_config
from deiii.data.config.schema import CorpusConfig
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.config.words import read_settings
from deiii.data.corpora.files import AUDIO, VIDEO, media_files
from deiii.data.corpora.scan import scan
from tests.faults.checks import check_error
from tests.faults.harness import faults
from tests.faults.processes import main_in
from tests.faults.workspace import Workspace

places = faults("19 paths")
SAME = "the path is what was written, on the command line and in a quoted YAML value"
PATHS = (
    "/data/Set #1", "no", "yes", "on", "off", "1.10", "010", "0x1F", "1e3", "2024-01-01", "1:30", "True",
    "a: b", "a, b", "[a]", "{a}", "- a", "*a", "&a", "!a", "%a", "@a", "a'b", 'a"b', "a\\b", "a=b", "=",
    "lr=0.1/x", "a b/c d", " a", "a ", "\u00fc\u00f1\u6f22", "a|b", "a;b", "a?b",
    ".", "..", "-a", "a//b",
)  # fmt: skip


@places("a path {case!a}", SAME, cases=PATHS, short={"/data/Set #1", "no", "a: b"})
def paths(work: Workspace, case: str) -> str:
    config = read_settings([f"corpus.root={case}", f"cache={case}", f"train.run={case}"])
    assert (config.corpus.root, config.cache, config.train.run) == (case, case, case), config.corpus.root
    file = work.folder() / "a.yaml"
    quoted = case.replace("'", "''")
    file.write_text(f"cache: '{quoted}'\ncorpus:\n  root: '{quoted}'\n", encoding="utf-8")
    stored = load_config(file)
    assert (stored.cache, stored.corpus.root) == (case, case), stored.cache
    return ascii(case)


EXPANDED_BY_SHELLS = ("~anna/x", "$HOME/x", "$(pwd)/x")
REFUSED = "refused, and nothing is made; used as it is written where such a folder exists"


@places("a path {case!a}", REFUSED, cases=EXPANDED_BY_SHELLS, short=set(EXPANDED_BY_SHELLS))
def expanded_by_shells(work: Workspace, case: str) -> str:
    for key in ("corpus.root", "cache", "train.run"):
        try:
            read_settings([f"{key}={case}"])
        except ConfigError as error:
            said = str(error)
            assert said.startswith(f"{key}: {case} is not expanded here"), said
        else:
            raise AssertionError(f"{key}={case} was accepted")
    folder = work.folder()
    (folder / case).mkdir(parents=True)
    with chdir(folder):
        assert read_settings([f"cache={case}"]).cache == case
    return said


COMMANDS = (
    "Set #1",
    "no",
    "1.10",
    "a: b",
    "[a]",
    "lr=0.1",
    "-a",
    "\u00fc \u6f22",
    "a'b",
    "*a",
    "$HOME",
    "%s",
)


@places("preprocess with a corpus and a cache below a folder {case!a}", "they are there and nowhere else",
        cases=COMMANDS, short={"Set #1"})  # fmt: skip
def commands(work: Workspace, case: str) -> str:
    """The real command in this process; it ends before any work, for the table is empty."""
    root = work.folder() / case
    root.mkdir(parents=True)
    shutil.copyfile(work.tones / "s0/c0.flac", root / "a.flac")
    (root / "clips.csv").write_text("path,speaker,label\nb.flac,anna,happy\n")
    done = main_in("preprocess", "corpus.name=table", f"corpus.root={root}", f"cache={root / 'cache'}")
    said = check_error(done, f"{root / 'b.flac'}")
    assert sorted(p.name for p in root.iterdir()) == ["a.flac", "clips.csv"], list(root.iterdir())
    return said[-60:]


HOME = {"~": "", "~/x": "/x", "~/a b #1": "/a b #1"}


@places("a path {case}", "the home folder, no folder of that name", cases=HOME)
def home(work: Workspace, case: str) -> str:
    config = read_settings([f"cache={case}"])
    assert config.cache == str(Path.home()) + HOME[case], config.cache
    return "expanded"


@places("an unquoted path with ' #' in a YAML file", "refused; the message names line and remedy")
def comment(work: Workspace) -> str:
    file = work.folder() / "a.yaml"
    file.write_text("corpus:\n  root: /data/Set #1\n")
    return check_error(main_in("settings", str(file)), "line 2", "corpus.root", "quotes")


@places(
    "a config below a folder {case}",
    "it is read as a config",
    cases=("lr=0.1", "train.lr=0.1", "a: b", "x y"),
)
def config_path(work: Workspace, case: str) -> str:
    file = work.folder() / case / "a.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("workers: 3\n")
    assert read_settings([str(file)]).workers == 3
    return "workers=3"


@places(
    "a clip named x{case}", "found, in any case of letters", cases=(*VIDEO, *AUDIO), short={".mts", ".mp3"}
)
def suffixes(work: Workspace, case: str) -> str:
    root = work.folder()
    for name in (f"a/x{case}", f"b/y{case.upper()}", f"._z{case}", f".hidden/w{case}"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    found = media_files(root, VIDEO + AUDIO)
    assert found == [f"a/x{case}", f"b/y{case.upper()}"], found
    return ", ".join(found)


ARCHIVES = (".zip", ".ZIP", ".tar", ".tar.gz", ".tgz", ".7z", ".rar", ".tar.bz2", ".tar.xz")


@places("only archives {case} where a corpus should be", "refused; the message says to unpack them",
        cases=ARCHIVES, short={".zip"})  # fmt: skip
def archives(work: Workspace, case: str) -> str:
    root = work.folder()
    (root / f"Video_Speech_Actor_01{case}").write_bytes(b"PK\x03\x04")
    done = main_in("preprocess", "corpus.name=ravdess", f"corpus.root={root}", f"cache={root / 'cache'}")
    return check_error(done, "unpack")


def _ravdess(folder: Path, actor: int) -> None:
    folder.mkdir(parents=True)
    (folder / f"01-01-03-01-01-01-{actor:02d}.mp4").write_bytes(b"x")


LINKS = {
    "a linked folder of an actor": lambda root, disk: (root / "Actor_07").symlink_to(disk / "a"),
    "a relative link": lambda root, disk: (root / "Actor_07").symlink_to("../disk/a"),
    "two links to one folder": lambda root, disk: [
        (root / name).symlink_to(disk / "a") for name in ("Actor_07", "again")
    ],
    "a link back to the root": lambda root, disk: [
        (root / "Actor_07").symlink_to(disk / "a"), (root / "up").symlink_to(root),
    ],
    "a link to nothing beside it": lambda root, disk: [
        (root / "Actor_07").symlink_to(disk / "a"), (root / "gone").symlink_to(disk / "nowhere"),
    ],
    "a link to itself beside it": lambda root, disk: [
        (root / "Actor_07").symlink_to(disk / "a"), (root / "loop").symlink_to(root / "loop"),
    ],
    "a linked file": lambda root, disk: [
        (root / "Actor_07").mkdir(),
        (root / "Actor_07/01-01-03-01-01-01-07.mp4").symlink_to(disk / "a/01-01-03-01-01-01-07.mp4"),
    ],
}  # fmt: skip


@places("RAVDESS with {case}", "its clip is found once", cases=LINKS)
def links(work: Workspace, case: str) -> str:
    base = work.folder()
    _ravdess(base / "disk/a", 7)
    (base / "root").mkdir()
    LINKS[case](base / "root", base / "disk")
    corpus = scan(CorpusConfig(name="ravdess", root=str(base / "root")))
    assert [clip.path for clip in corpus.clips] == ["Actor_07/01-01-03-01-01-01-07.mp4"], corpus.clips
    return corpus.clips[0].path
