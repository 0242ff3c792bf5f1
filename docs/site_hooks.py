"""What mkdocs does beside its own work: pages that nobody listed, and links to files outside ``docs/``."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((\.\./[^)#\s]*)(?:#[^)\s]*)?\)")
DOCS = Path(__file__).parent


def on_config(config: Any) -> Any:
    """Add pages that the navigation does not list, so that a new page is on the site."""
    listed = {page for section in config["nav"] for pages in section.values() for page in pages}
    others = sorted(
        path.relative_to(DOCS).as_posix()
        for path in DOCS.rglob("*.md")
        if path.relative_to(DOCS).as_posix() not in listed
    )
    if others:
        config["nav"].append({"More": others})
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Name files of the repository that are not part of the site, in place of a link to them."""
    return without_links_out(markdown, page.file.src_uri)


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
