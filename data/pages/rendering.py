"""Render the templates in ``data/pages/templates/``: the report, the overview of a corpus, Markdown pages.

Values in HTML templates are escaped. Markdown templates take them as they are, and use the filter ``plain``
for names that people gave. Control characters in values, and characters that reverse the text after them, are
shown as escapes; letters that are written from right to left stay. A name that a template uses and that was
not given is an error.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from deiii.data.tools.text.figure_text import number, span
from deiii.data.tools.text.printable import printable

# Characters that begin a link, emphasis, code, HTML, an entity or a cell; "_" within a word does not.
SPECIAL = re.compile(r"[\\`*<\[\]|&~]|\b_|_\b")
FOLDER = Path(__file__).parent / "templates"


def render(template: str, **values: Any) -> str:
    """Return a template of ``data/pages/templates/`` filled with values.

    Raises:
        jinja2.UndefinedError: the template uses a value that is not given.

    >>> render("model_card.md.j2", manifest=manifest, test=None)   # doctest: +SKIP
    '# DE-III on ...'
    """
    return _environment().get_template(template).render(**values)


def plain(text: object) -> str:
    r"""Return a name as Markdown that shows it as it is, in one line; also in a cell of a table.

    >>> print(plain("very <b>sad</b> | *angry*"))
    very \<b>sad\</b> \| \*angry\*
    >>> plain("crema_d")
    'crema_d'
    """
    return SPECIAL.sub(r"\\\g<0>", " ".join(str(text).split()))


def _shown(value: object) -> object:
    """Return a value of a template with escapes in place of control characters; HTML stays as it is."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=select_autoescape(["html.j2"], default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_shown,
    )
    environment.filters |= {"number": number, "span": span, "plain": plain}
    return environment
