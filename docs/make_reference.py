"""Write docs/reference.md from the settings' dataclasses: python docs/make_reference.py"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from deiii.data.config.schema import Config
from deiii.data.config.schema_fields import describe_range

TARGET = Path(__file__).parent / "reference.md"
HEAD = """# Every setting

<!-- written by docs/make_reference.py from data/config/schema*.py; edit there, then run `make docs` -->

Settings are read from YAML files in the order given, then from `key=value` words. If a key is set
several times, the last value is used. An unknown key or a wrong type is an error; the message names a
similar key or lists the keys of the section. Settings marked ° change where or how fast a result is computed,
but not the result, so caches stay valid when they change. In a YAML file, `faces.size` is written as
`size` below `faces`.
`.venv/bin/deiii settings ravdess` lists all settings with the values of the config `ravdess`.
"""


def render() -> str:
    """The page."""
    parts = [HEAD, "## General\n", _table(Config(), "")]
    for f in fields(Config):
        value = getattr(Config(), f.name)
        if is_dataclass(value):
            parts += _section(value, f.name)
    return "\n".join(parts)


def _section(section: Any, name: str) -> list[str]:
    said = (type(section).__doc__ or "").strip().replace("``", "`")
    parts = [f"## {name}\n", said + "\n", _table(section, f"{name}.")]
    for f in fields(section):
        value = getattr(section, f.name)
        if is_dataclass(value):
            parts += _section(value, f"{name}.{f.name}")
    return parts


def _table(section: Any, prefix: str) -> str:
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for f in fields(section):
        value = getattr(section, f.name)
        if is_dataclass(value):
            continue
        mark = " °" if f.metadata["operational"] else ""
        meaning = f.metadata["help"]
        if f.metadata["choices"]:
            meaning += " Choices: " + ", ".join(f"`{c}`" for c in f.metadata["choices"]) + "."
        if limits := describe_range(f.metadata):
            meaning += f" Limits: {limits}."
        rows.append(f"| `{prefix}{f.name}`{mark} | {_show(value)} | {meaning} |")
    return "\n".join(rows) + "\n"


def _show(value: Any) -> str:
    if value is None or value == "":
        return "empty"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    if isinstance(value, dict) and not value:
        return "`{}`"
    return f"`{value}`"


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
    print(TARGET)
