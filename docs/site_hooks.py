"""What mkdocs does beside its own work: pages that nobody listed, and links to files outside ``docs/``."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((\.\./[^)#\s]*)(?:#[^)\s]*)?\)")
INTERVAL = re.compile(r"(?<=\d) to (?=[+-]?\d)")
DOCS = Path(__file__).parent


def on_config(config: Any) -> Any:
    """Add pages that the navigation does not list, so that a new page is on the site."""
    listed = {page for section in config["nav"] for pages in section.values() for page in pages}
    others = sorted(
        path.relative_to(DOCS).as_posix()
        for path in DOCS.rglob("*.md")
        if path.relative_to(DOCS).as_posix() not in listed
    )
    results = [page for page in others if page.startswith("results/")]
    for section, pages in (
        ("More", [page for page in others if page not in results]),
        (
            "Results",
            [
                page if posixpath.dirname(page) == "results" else {result_title(page): page}
                for page in results
            ],
        ),
    ):
        if pages:
            config["nav"].append({section: pages})
    return config


def result_title(page: str) -> str:
    """The name of a page of results in the navigation: its folder, because their headings are alike.

    >>> result_title("results/ablation-2026-11-29/table.md"), result_title("results/a-2026-01-02/peers.md")
    ('ablation (2026-11-29)', 'a: peers (2026-01-02)')
    """
    folder, name = posixpath.split(page)
    what, day = posixpath.basename(folder), ""
    if found := re.search(r"-(\d{4}-\d\d-\d\d)$", what):
        what, day = what[: found.start()], found[1]
    stem = posixpath.splitext(name)[0]
    what = what.replace("-", " ") + ("" if stem in ("table", "crossval") else f": {stem.replace('_', ' ')}")
    return f"{what} ({day})" if day else what


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Name files of the repository that are not part of the site, in place of a link to them."""
    return with_whole_intervals(without_links_out(markdown, page.file.src_uri))


def with_whole_intervals(markdown: str) -> str:
    """The page with intervals in tables that a browser does not divide at their spaces.

    >>> with_whole_intervals("| 0.2 to 0.4 |") == "| 0.2\\N{NO-BREAK SPACE}to\\N{NO-BREAK SPACE}0.4 |"
    True
    """
    lines = markdown.split("\n")
    return "\n".join(
        INTERVAL.sub("\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}", line) if line.startswith("|") else line
        for line in lines
    )


def without_links_out(markdown: str, source: str) -> str:
    """The page with links that leave ``docs/`` replaced by their text and the file's path.

    >>> without_links_out("see [it](../configs/tiny.yaml)", "faq.md")
    'see it (`configs/tiny.yaml` in the repository)'
    """

    def replace(found: re.Match[str]) -> str:
        text, target = (
            found[1],
            posixpath.normpath(posixpath.join("docs", posixpath.dirname(source), found[2])),
        )
        if target.startswith("docs/"):
            return found[0]
        shown = f"`{target}`"
        return (
            f"{shown} in the repository"
            if text.strip("`") == target
            else f"{text} ({shown} in the repository)"
        )

    return LINK.sub(replace, markdown)
