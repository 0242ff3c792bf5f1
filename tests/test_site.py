"""The documentation site: its pages exist, no link leaves it, and mkdocs builds it without a warning."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SETTINGS = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


@pytest.fixture
def hooks():
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import site_hooks
    finally:
        sys.path.pop(0)
    return site_hooks


def pages(nav) -> list[str]:
    """The pages of all sections; an entry is a page, or a title with one."""
    entries = [entry for section in nav for listed in section.values() for entry in listed]
    return [next(iter(entry.values())) if isinstance(entry, dict) else entry for entry in entries]


def test_the_navigation_names_pages_that_exist_once():
    listed = pages(SETTINGS["nav"])
    assert len(set(listed)) == len(listed)
    assert all((ROOT / "docs" / page).is_file() for page in listed)


def test_pages_that_nobody_listed_are_on_the_site(hooks):
    config = hooks.on_config({"nav": [{"Start": ["README.md"]}]})
    listed = set(pages(config["nav"]))
    assert listed == {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")}


def test_results_have_different_names_in_the_navigation(hooks):
    config = hooks.on_config({"nav": []})
    titles = [
        title
        for section in config["nav"]
        for entry in section["Results" if "Results" in section else "More"]
        if isinstance(entry, dict)
        for title in entry
    ]
    assert titles and len(set(titles)) == len(titles)


@pytest.mark.parametrize(
    ("link", "source", "expected"),
    [
        ("[it](../configs/a.yaml)", "faq.md", "it (`configs/a.yaml` in the repository)"),
        ("[`data/x.py`](../data/x.py#part)", "faq.md", "`data/x.py` in the repository"),
        ("[science](../science.md)", "results/README.md", "[science](../science.md)"),
        ("[out](../../model/a.py)", "results/README.md", "out (`model/a.py` in the repository)"),
        ("[page](science.md#x)", "faq.md", "[page](science.md#x)"),
        ("![picture](../outside.png)", "faq.md", "![picture](../outside.png)"),
    ],
)
def test_links_out_of_the_documentation(link, source, expected, hooks):
    assert hooks.without_links_out(link, source) == expected


def test_no_compiled_code_is_published():
    """Python compiles the hooks into ``docs/__pycache__`` when mkdocs imports them."""
    assert Path(SETTINGS["hooks"][0]).parent == Path(SETTINGS["docs_dir"])
    assert "__pycache__/" in SETTINGS["exclude_docs"].split()


def test_no_link_leads_to_a_file_that_the_site_leaves_out():
    """mkdocs reports such a link in its log only, and the reader gets an error."""
    docs = ROOT / "docs"
    left_out = SETTINGS["exclude_docs"].split()
    seen = 0
    for page in docs.rglob("*.md"):
        for target in re.findall(r"\]\(([^)#:\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            path = Path(os.path.normpath(page.parent / target))
            if path.is_relative_to(docs):
                seen += 1
                assert not any(path.match(pattern) for pattern in left_out), (page, target)
    assert seen > 100


def test_intervals_in_tables_stay_in_one_line(hooks):
    page = "from 0.2 to 0.4\n\n| a | 0.2 to 0.4 | -0.1 to +0.3 | 1 to many |\n"
    found = hooks.with_whole_intervals(page)
    assert found.replace("\N{NO-BREAK SPACE}", " ") == page
    assert found.count("\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}") == 2 and found.startswith(
        "from 0.2 to 0.4\n"
    )


PAGES = sorted((ROOT / "docs").rglob("*.md"))
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def without_blocks(text: str) -> str:
    """The page without its code blocks, whose lines can begin like list items."""
    return re.sub(r"^([ ]*)```.*?^\1```", "", text, flags=re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_blocks_in_lists_are_indented_by_four_spaces(page):
    """With three spaces, mkdocs ended the list and showed the block as running text; GitHub did not."""
    fences = re.findall(r"^( +)```", page.read_text(encoding="utf-8"), re.M)
    assert all(len(spaces) % 4 == 0 for spaces in fences)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_the_site_shows_every_heading_and_list_item(page):
    """An item directly below an indented paragraph was a part of it; GitHub showed it as an item."""
    markdown = pytest.importorskip("markdown")
    text = without_blocks(page.read_text(encoding="utf-8"))
    shown = markdown.markdown(text, extensions=["tables"])
    assert shown.count("<li>") == len(re.findall(r"^ *(?:-|\d+\.) ", text, re.M))
    assert len(re.findall(r"<h\d", shown)) == len(re.findall(r"^#+ ", text, re.M))


def test_nothing_is_loaded_from_elsewhere():
    assert SETTINGS["theme"]["font"] is False and "extra_javascript" not in SETTINGS


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("material")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", f"{tmp_path}/site"],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0 and not done.stderr.strip(), done.stderr
    assert (tmp_path / "site/howto-own-corpus/index.html").is_file()
