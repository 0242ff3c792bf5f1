"""The pages of docs/ that report results, as one text.

>>> "Known pitfalls" in science_text()
True
"""

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("science.md", "science-tasks.md", "science-ravdess.md", "science-emotional-clips.md")


def science_text() -> str:
    """Return the text of the pages, one after the other."""
    return "\n".join((DOCS / name).read_text(encoding="utf-8") for name in PAGES)


def section(title: str) -> str:
    """Return the text below a heading of these pages, up to the next one."""
    return re.split(r"^#+ ", science_text().split(f"# {title}\n", 1)[1], flags=re.MULTILINE)[0]
