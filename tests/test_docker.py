"""The Dockerfiles are well formed, copy what exists, and install what the package needs."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from deiii.__main__ import build_parser
from deiii.data.config.words import _commands

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "docker").glob("Dockerfile.*"))
INSTRUCTIONS = {"FROM", "RUN", "COPY", "ARG", "USER", "WORKDIR", "ENV", "ENTRYPOINT", "CMD"}


def instructions(path: Path) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile with their arguments, continued lines joined."""
    text = re.sub(r"(?m)^#.*\n", "", path.read_text(encoding="utf-8")).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_instructions(path):
    found = instructions(path)
    assert found[0][0] == "FROM" and {name for name, _ in found} <= INSTRUCTIONS
    image = found[0][1]
    assert ":" in image and not image.endswith(":latest")
    assert image.split(":")[1].startswith(("3.11", "3.12", "3.13"))
    names = [name for name, _ in found]
    installs = [n for n, (name, words) in enumerate(found) if name == "RUN" and "load_parts" not in words]
    assert names.index("USER") > max(installs) and names.count("USER") == 1  # nothing else runs as root
    assert dict(found)["USER"] == "1000" and dict(found)["ENTRYPOINT"] == '["deiii"]'


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_versions_are_those_of_the_package(path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {d for d in project["dependencies"] if d.startswith("torch")}
    assert set(re.findall(r'"(torch[^"]*)"', path.read_text())) == wanted


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_the_user_of_the_image_finds_compiled_functions(path):
    """The first prediction in a container compiled them for half a minute, as often as one was started."""
    names = [(name, words) for name, words in instructions(path) if name == "USER" or "load_parts" in words]
    assert [name for name, _ in names] == ["USER", "RUN"]  # as the user who predicts
    # Numba needs a cache that it can write, also for the users of `docker run --user`.
    (code,) = re.findall(r"""^umask 000 && python -c "([^"]+)"$""", names[1][1])
    exec(code, {})  # the names exist


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_every_user_has_a_home_and_weights_are_stored_where_they_are_looked_for(path):
    """With --user, downloads failed; without it, they were not in the folder that a volume keeps."""
    words = [text for name, text in instructions(path) if name == "ENV"]
    env = dict(word.split("=", 1) for text in words for word in text.split())
    assert env["HOME"] == "/home/deiii"
    assert env["DEIII_CACHE_DIR"] == env["DEIII_WEIGHTS_DIR"] == "/home/deiii/weights"
    assert env["HF_HOME"].startswith(f"{env['DEIII_WEIGHTS_DIR']}/")
    (made,) = (text for name, text in instructions(path) if name == "RUN" and "useradd" in text)
    assert "chmod 777 /home/deiii /home/deiii/weights" in made


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_commands_in_the_comments_exist(path):
    used = re.findall(r"^#\s+docker run .* deiii:\w+ (\S+)", path.read_text(), re.M)
    assert used and set(used) <= set(_commands(build_parser()))


def test_the_build_sees_what_the_package_is_made_of_and_nothing_else():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines and all((ROOT / name).exists() for name in kept)
    links = {path.name for path in (ROOT / "deiii").iterdir() if path.is_symlink()}
    assert {"deiii", "pyproject.toml", "README.md", *links} <= kept


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_hadolint(path):
    if shutil.which("hadolint") is None:
        pytest.skip("needs hadolint")
    done = subprocess.run(["hadolint", str(path)], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stdout, done.stdout
