"""The structure of the code: who may import whom, and how large files and folders may become.

Imports are read from the source with ``ast``; nothing is imported. `tests.helpers.module_order` is the plan.
"""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.module_order import ORDER, PACKAGE_IMPORTS

ROOT = Path(__file__).parents[1]
PACKAGES = ("data", "pipeline", "model")
ALL = (*PACKAGES, "deiii", "tests", "benchmarks", "docs")
MAX_LINES = 350
MAX_FILES = 14


def modules(*folders: str) -> list[Path]:
    """The Python files below the folders, relative to the checkout."""
    return sorted(path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*.py"))


def parsed(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def imported_names(path: Path) -> Iterator[str]:
    """Every module or name that a file imports, in functions and under TYPE_CHECKING too."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def as_path(name: str) -> str | None:
    """``deiii.data.cache.shards.open_shard`` as ``data/cache/shards``; None if it is in no package."""
    parts = name.split(".")
    if parts[0] != "deiii" or len(parts) < 2 or parts[1] not in PACKAGES:
        return None
    while parts:
        path = ROOT.joinpath(*parts[1:])
        if path.with_suffix(".py").is_file() or path.is_dir():
            return "/".join(parts[1:])
        parts.pop()
    raise AssertionError(name)


def imports() -> list[tuple[str, str]]:
    """Pairs (importer, imported) of paths without suffix, for all files of the three packages."""
    pairs = []
    for path in modules(*PACKAGES):
        importer = "/".join(path.with_suffix("").parts)
        targets = {as_path(name) for name in imported_names(path)} - {None, importer}
        pairs += [(importer, target) for target in sorted(targets)]
    return pairs


IMPORTS = imports()


def test_packages_import_one_way():
    for importer, target in IMPORTS:
        package = max((r for r in PACKAGE_IMPORTS if f"{importer}/".startswith(f"{r}/")), key=len)
        other = target.split("/")[0]
        own = importer.split("/")[0]
        assert other == own or other in PACKAGE_IMPORTS[package], f"{importer} imports {target}"


def member(path: str, folder: str) -> str | None:
    """The name of a module within the folder, or of the folder within it that holds it."""
    if path == folder:
        return "__init__"
    return path[len(folder) + 1 :].split("/")[0] if path.startswith(f"{folder}/") else None


def inside(folder: str) -> Iterator[tuple[str, str, str]]:
    """Imports between members of a folder: the two members, and the import in words."""
    for importer, target in IMPORTS:
        a, b = member(importer, folder), member(target, folder)
        if a and b and a != b:
            yield a, b, f"{importer} imports {target}"


@pytest.mark.parametrize("folder", sorted(ORDER))
def test_modules_import_only_lower_levels(folder):
    level = {name: n for n, names in enumerate(ORDER[folder]) for name in names.split()}
    level.setdefault("__init__", len(level))
    for a, b, words in inside(folder):
        if a in level and b in level:
            assert level[b] < level[a] or b == "__init__", words


@pytest.mark.parametrize("folder", sorted(ORDER))
def test_no_circle(folder):
    graph: dict[str, set[str]] = {}
    for a, b, _ in inside(folder):
        graph.setdefault(a, set()).add(b)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        raise AssertionError(f"{folder}: {' -> '.join(error.args[1])}") from None


def test_no_bare_import_of_a_package():
    for path in modules(*ALL):
        for name in imported_names(path):
            assert name.split(".")[0] not in PACKAGES, f"{path} imports {name} instead of deiii.{name}"


@pytest.mark.parametrize("path", modules(*ALL), ids=str)
def test_file_is_short(path):
    lines = (ROOT / path).read_text(encoding="utf-8").count("\n")
    assert lines <= MAX_LINES, f"{lines} lines, at most {MAX_LINES}: split it"


@pytest.mark.parametrize("path", modules(*PACKAGES, "deiii", "tests", "benchmarks"), ids=str)
def test_file_says_what_it_is(path):
    tree = parsed(path)
    # Empty files make packages of the folders of tests.
    assert ast.get_docstring(tree) or not tree.body and path.parts[0] not in PACKAGES, "needs a docstring"


def test_folders_are_small():
    for folder in {path.parent for path in modules(*PACKAGES)}:
        names = [p.name for p in (ROOT / folder).iterdir() if p.is_file() and p.suffix != ".pyc"]
        assert len(names) <= MAX_FILES, f"{folder} has {len(names)} files, at most {MAX_FILES}"


FOLDERS = sorted({path.parent.as_posix() for path in modules(*PACKAGES)})


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_module_has_a_place_in_the_order(folder):
    here = {p.stem for p in (ROOT / folder).glob("*.py")}
    here |= {p.name for p in (ROOT / folder).iterdir() if p.is_dir() and any(p.glob("*.py"))}
    named = [name for names in ORDER[folder] for name in names.split()]
    assert here - {"__init__"} == set(named) - {"__init__"}, "add new modules to ORDER, remove old ones"
    assert len(named) == len(set(named)), "a module has one place in ORDER"


def test_the_order_names_no_folder_that_is_gone():
    """The checks of such a folder would pass, because nothing is imported in it."""
    assert set(ORDER) == set(FOLDERS)
    assert set(PACKAGE_IMPORTS) <= {*FOLDERS, *PACKAGES}
