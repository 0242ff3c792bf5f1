"""The documentation is right: its commands run, its Python runs, its links have targets.

Commands are the lines of the ``sh`` blocks. The fast tests parse each with make and with the parser of the
command. The slow tests run each page line by line in a sandbox, with the real make and the real commands; a
replacement for ``.venv/bin/python`` adds settings that make training take seconds.
"""

from __future__ import annotations

import contextlib
import csv
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from deiii.__main__ import build_parser
from deiii.data.config.load import load_config
from deiii.data.config.words import is_override, parse_arguments, read_settings, split_words
from deiii.model.sweep.space import split_space
from tests.helpers.layouts import place

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(p.relative_to(ROOT)) for p in PAGES]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
WHOLE_TABLE = re.compile(r"^\| [^|]+ \| `(make [^`]+)` \|", re.M)  # commands in README's table of corpora
BACKGROUND = ("dask scheduler", "dask worker")  # run until they are stopped
NOT_NESTED = ("make test", "make setup")  # would run these tests again
# Downloads are tested with local servers, MSP-IMPROV's layout in tests/data/corpora, encoders with small
# weights in tests/pipeline/encoders; conda needs the network.
NOT_RUN_HERE = re.compile(
    r"make download|conda env|MSP-IMPROV|runs/msp|ravdess[_-]speech|emotional[_-]av|runs/voices|/models/"
    r"|--device cuda"
)


def blocks(page: Path, kind: str) -> list[str]:
    matches = re.findall(rf"^([ ]*)```{kind}\n(.*?)^\1```", page.read_text(encoding="utf-8"), re.M | re.S)
    return [textwrap.dedent(body) for _, body in matches]


def commands(page: Path) -> list[str]:
    text = "\n".join(blocks(page, "sh")).replace("\\\n", " ")
    lines = [re.sub(r"\s+# .*", "", line).strip() for line in text.splitlines()]
    return [line for line in lines if line] + WHOLE_TABLE.findall(page.read_text(encoding="utf-8"))


ALL_COMMANDS = [(name, c) for name, page in zip(NAMES, PAGES, strict=True) for c in commands(page)]


@pytest.mark.parametrize(("page", "command"), ALL_COMMANDS, ids=[f"{p}: {c[:50]}" for p, c in ALL_COMMANDS])
def test_command_can_be_parsed(page, command):
    """The make target exists, the parser accepts the words, and every setting and config file exists."""
    for words in expand(command):
        if (
            words[0] in ("cp", "mkdir", "rm", "touch")
            or words[0].endswith("dask")
            or words[:2] == ["conda", "env"]
        ):
            continue
        if words[0].endswith("deiii"):
            check_command(words[1:])
            continue
        assert words[0] == ".venv/bin/python", words
        if words[1:3] == ["-m", "torch.distributed.run"]:  # as torchrun
            del words[1 : words.index("-m", 3)]
        if words[1] != "-m":
            assert (ROOT / words[1]).is_file()
        elif words[2] == "deiii":
            check_command(words[3:])
        else:
            assert (
                words[2] in ("ruff", "mypy", "pytest", "pip")
                or (ROOT / f"{words[2].replace('.', '/')}.py").is_file()
            )


def expand(command: str) -> list[list[str]]:
    """The commands that a make command runs."""
    words = shlex.split(command)
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    if words[0] != "make":
        return [words]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    output = subprocess.run(
        [*words, "-n", "-o", ".venv/.installed"], cwd=ROOT, capture_output=True, text=True, check=True,
        env=environment,  # under `make test`, make would print the folders that it enters
    )  # fmt: skip
    lines = [shlex.split(line) for line in output.stdout.replace("\\\n", " ").splitlines()]
    return [w for w in lines if w and w[0] not in ("make:", "awk", "echo", "python3", "{")]


def check_command(words: list[str]) -> None:
    """The parser accepts the words, and the settings among them exist."""
    with contextlib.suppress(SystemExit) if "--help" in words else contextlib.nullcontext():
        args = parse_arguments(build_parser(), words)
        if args.command in ("evaluate", "download"):
            return
        settings = split_words(args.words)[1] if hasattr(args, "words") else getattr(args, "settings", [])
        settings = split_space(settings)[1] if args.command == "sweep" else settings
        read_settings([str(ROOT / w) if w.endswith(".yaml") and not is_override(w) else w for w in settings])


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_within_sentences_exist(page):
    """Commands, benchmarks and their options in inline code; they may be incomplete, so none is parsed."""
    (parsers,) = [a for a in build_parser()._actions if hasattr(a, "_choices_actions")]
    text = re.sub(r"^([ ]*)```.*?^\1```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", text):
        if found := re.match(r"(?:\.venv/bin/)?deiii (?!help\b)([a-z][\w-]*)(.*)", code, re.S):
            assert found[1] in parsers.choices, code
            known = parsers.choices[found[1]]._option_string_actions
            assert set(re.findall(r"(?<!\S)--[a-z][\w-]*", found[2])) <= set(known), code
        elif found := re.match(r"(?:\.venv/bin/)?python -m (benchmarks\.\w+)(.*)", code, re.S):
            source = (ROOT / f"{found[1].replace('.', '/')}.py").read_text(encoding="utf-8")
            for name in re.findall(r"^from benchmarks\.(\w+) import", source, re.M):  # they may add options
                source += (ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")
            assert all(f'"{name}"' in source for name in re.findall(r"(?<!\S)--[a-z][\w-]*", found[2])), code


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_have_targets(page):
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if not target.startswith(("http", "#", "mailto:")):
            path, _, anchor = target.partition("#")
            assert (page.parent / path).exists(), target
            if anchor:
                headings = re.findall(r"^#+ (.*)", (page.parent / path).read_text("utf-8"), re.M)
                assert anchor in [re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings], (
                    target
                )


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_code_blocks_name_a_language_and_nothing_else(page):
    """The site shows a block with a second word after the language as running text."""
    fences = re.findall(r"^ *```(.*)$", page.read_text(encoding="utf-8"), re.M)
    assert len(fences) % 2 == 0 and all(re.fullmatch(r"[a-z]*", words) for words in fences), fences


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_page_names_no_removed_command(page):
    removed = re.findall(r"python -m (?:pipeline|model|data)\b|make draw\b|--set\b", page.read_text("utf-8"))
    assert not removed


def test_reference_of_settings_is_current():
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import make_reference
    finally:
        sys.path.pop(0)
    assert make_reference.TARGET.read_text(encoding="utf-8") == make_reference.render(), "run `make docs`"


def test_settings_named_in_the_docs_exist():
    setting = r"`((?:corpus|faces|flow|logmel|split|loader|model|train)\.[a-z_.]+)=([^`\s]*)`"
    for page in PAGES:
        for key, value in re.findall(setting, page.read_text("utf-8")):
            for one in re.findall(r"\[[^\[\]]+\]", value) or value.split("|"):  # lists of a sweep
                config = ["emotional_av"] if one == "discriminant" else []
                load_config(config, ["train.epochs=1", f"{key}={one}"])


def test_picture_of_the_architecture_names_modules_that_exist():
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import make_architecture
    finally:
        sys.path.pop(0)
    assert make_architecture.TARGET.is_file() and make_architecture.draw().axes
    for *_, package, module in make_architecture.BOXES.values():
        assert not module or (ROOT / module).is_file() and package in (module.split("/")[0], "file")


def test_make_help_lists_every_target_and_the_pages_name_existing_ones():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    assert targets == set(re.findall(r"^([a-z-]+):.*## \S", makefile, re.M))
    used = {m for page in PAGES for m in re.findall(r"`make ([a-z-]+)", page.read_text("utf-8"))}
    assert used <= targets, used - targets


STAND_IN = """#!{python}
import os, sys
sys.path.insert(0, {tests!r})
from tests.helpers.tiny_settings import tiny
words = sys.argv[1:]
if words[:1] == ["-m"] and words[1] in ("ruff", "mypy", "pytest", "pip"):
    sys.exit(0)
if words[:1] == ["-m"] and words[1].startswith("benchmarks."):
    words.append("--help")
os.execv({python!r}, [{python!r}, *words, *tiny(words)])
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A checkout with media in clips/ and data/, an evaluated run, and a replacement for its python."""
    folder = tmp_path_factory.mktemp("docs") / "checkout"
    folder.mkdir()
    for name in ("configs", "data", "pipeline", "model", "benchmarks", "docs", "deiii"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored, symlinks=True)
    for name in ("Makefile", "README.md", "pyproject.toml", "requirements.lock", "environment.yml"):
        shutil.copy(ROOT / name, folder / name)
    (folder / ".venv/bin").mkdir(parents=True)
    stand_in = folder / ".venv/bin/python"
    paths = {"python": sys.executable, "tests": str(ROOT)}
    stand_in.write_text(STAND_IN.format(**paths))
    stand_in.chmod(0o755)
    command = folder / ".venv/bin/deiii"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(str(stand_in))} -m deiii "$@"\n')
    command.chmod(0o755)
    (folder / ".venv/bin/dask").symlink_to(Path(sys.executable).parent / "dask")
    (folder / ".venv/.installed").touch()

    def run(*words):
        return run_command(shlex.join(words), folder)

    run("make", "demo")
    # Another seed: copies of one network are refused as an ensemble.
    run(str(command), "train", "runs/demo/config.yaml", "train.seed=1", "train.run=runs/other")
    run(str(command), "evaluate", "runs/other")
    videos = sorted((folder / "raw/synthetic").rglob("*.mp4"))
    media(folder, videos)
    return folder


def media(folder: Path, videos: list[Path]) -> None:
    """Clips of six speakers, and miniature corpora in the layouts that the pages assume."""
    rows = [["path", "speaker", "label", "valence", "arousal"]]
    people = ("anna", "ben", "cleo", "dan", "eva", "finn")
    for i, (who, video) in enumerate(zip(people, videos[::8], strict=True)):
        for n, name in enumerate(("001.mp4", "take2.mov")):
            path = folder / f"clips/{who}/{name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(video, path)
            rows.append([f"{who}/{name}", who, ("happy", "sad")[n], 0.1 * i, -0.1 * i])
    with open(folder / "clips/clips.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    shutil.copy(videos[0], folder / "clip.mp4")
    (folder / "interviews").mkdir()
    shutil.copy(videos[0], folder / "interviews/interview.mp4")
    segments = "path,start,end,speaker,label\ninterview.mp4,0.1,0.5,anna,happy\n"
    (folder / "interviews/segments.csv").write_text(segments)
    for actor in range(1, 25):
        ravdess = folder / f"data/RAVDESS/Actor_{actor:02d}"
        ravdess.mkdir(parents=True)
        for emotion in ("03", "04"):
            shutil.copy(videos[0], ravdess / f"01-01-{emotion}-01-01-01-{actor:02d}.mp4")
            shutil.copy(videos[0], ravdess / f"02-01-{emotion}-01-01-01-{actor:02d}.mp4")
            place(ravdess, f"03-01-{emotion}-01-01-01-{actor:02d}.wav")
    (folder / "raw/ravdess").symlink_to("../data/RAVDESS")
    for actor in range(1001, 1092, 4):
        (folder / "data/CREMA-D/VideoFlash").mkdir(parents=True, exist_ok=True)
        for emotion in ("ANG", "SAD"):
            shutil.copy(videos[0], folder / f"data/CREMA-D/VideoFlash/{actor}_DFA_{emotion}_XX.flv")
    for session in range(1, 6):
        own, dialogue = folder / f"data/IEMOCAP_full_release/Session{session}", f"Ses0{session}F_impro01"
        turns = {f"{dialogue}_{who}00{n}": code for who in "FM" for n, code in enumerate(("ang", "sad"))}
        for turn in turns:
            place(own, f"sentences/wav/{dialogue}/{turn}.wav")
        (own / "dialog/EmoEvaluation").mkdir(parents=True)
        (own / f"dialog/EmoEvaluation/{dialogue}.txt").write_text(
            "".join(f"[0.0 - 1.0]\t{turn}\t{code}\t[{n}.5, 2.5, 3.5]\n"
                    for n, (turn, code) in enumerate(turns.items(), 1))
        )  # fmt: skip


def run_command(command: str, folder: Path, background: list | None = None) -> str:
    """Run a command in the sandbox; returns its output."""
    path = os.pathsep.join([str(folder / ".venv/bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    env |= {"PYTHONWARNINGS": "ignore", "MPLBACKEND": "agg"}
    if background is not None and any(r in command for r in BACKGROUND):
        with open(folder / "background.log", "a") as log:  # the process has its own descriptor
            background.append(
                subprocess.Popen(shlex.split(command), cwd=folder, env=env, stdout=log, stderr=log)
            )
        return ""
    done = subprocess.run(
        command, shell=True, cwd=folder, env=env, capture_output=True, text=True, timeout=900,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def localised(command: str, folder: Path, port: int) -> str:
    """The command with the pages' paths moved into the sandbox, and with a free port."""
    command = re.sub(r"(?<![\w/.])/(clips|data)\b", rf"{folder}/\1", command)
    command = re.sub(r"\bevaluate RUN\b(?!=)", "evaluate runs/demo", command)
    return command.replace("8786", str(port))


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=str)
def test_commands_of_the_page_run(page, template, tmp_path):
    folder = tmp_path / "checkout"
    shutil.copytree(template, folder, symlinks=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    background: list[subprocess.Popen] = []
    try:
        for command in commands(page):
            if command in NOT_NESTED or NOT_RUN_HERE.search(command):
                continue  # tested elsewhere
            run_command(localised(command, folder, port), folder, background)
    finally:
        for process in background:
            process.terminate()
        for process in background:
            process.wait(30)


PYTHON = [
    (name, n) for name, page in zip(NAMES, PAGES, strict=True) for n in range(len(blocks(page, "python")))
]


@pytest.mark.slow
@pytest.mark.parametrize(("page", "number"), PYTHON, ids=[f"{p}-{n}" for p, n in PYTHON])
def test_python_runs(page, number, template, tmp_path):
    code = blocks(ROOT / page, "python")[number].replace("a.mp4", "clip.mp4")
    if '"exported"' in code and not (template / "exported/model.onnx").exists():
        run_command("make export RUN=runs/demo OUT=exported ARGS=--onnx", template)
    script = tmp_path / "example.py"
    script.write_text(code)
    run_command(f"{shlex.quote(sys.executable)} {shlex.quote(str(script))}", template)


def test_the_variables_of_make_are_written_as_words_of_the_command():
    """Every variable that the guides give to make has a row in the table for the installed package."""
    rows = re.findall(r"^\| `([A-Z]+)=", (ROOT / "docs/README.md").read_text("utf-8"), re.M)
    guides = [page for page in PAGES if page.name != "CHANGELOG.md"]
    shown = {name for page in guides for call in re.findall(r"(?:^|`)make .*$", page.read_text("utf-8"), re.M)
             for name in re.findall(r"\b([A-Z]+)=", call.replace("SEEDS=", ""))}  # fmt: skip
    assert shown == set(rows), shown ^ set(rows)
