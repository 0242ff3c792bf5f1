"""The pages of docs/ that report results, as one text.

>>> "Known pitfalls" in science_text()
True
"""

from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("science.md", "science-tasks.md", "science-ravdess.md", "science-emotional-clips.md")


def science_text() -> str:
    """Return the text of the pages, one after the other."""
    return "\n".join((DOCS / name).read_text(encoding="utf-8") for name in PAGES)
