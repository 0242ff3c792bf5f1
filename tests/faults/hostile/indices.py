"""8. Hostile files, continued: forged indices and clip tables with matching digests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from deiii.data.cache.index import CacheError, read_index, read_table, write_sealed
from tests.faults.hostile.shards import REFUSED, bounded, hostile
from tests.faults.workspace import Workspace


def _forged(work: Workspace, path_of: str, change: Callable[[dict], None]) -> Path:
    cache = work.copy()
    path = next(cache.glob(path_of))
    tree = json.loads(path.read_text())
    tree.pop("digest")
    change(tree)
    write_sealed(path, tree)
    return path


def _first(tree: dict) -> dict:
    return tree["shards"][0]


INDICES: dict[str, Callable[[dict], None]] = {
    "a shard's name that leaves the folder": lambda t: _first(t).update(name="../../../etc/passwd"),
    "an absolute name": lambda t: _first(t).update(name="/etc/passwd"),
    "an object type": lambda t: _first(t)["fields"].update(time=[4096, "|O", [40]]),
    "a string type": lambda t: _first(t)["fields"].update(time=[4096, "|S8", [40]]),
    "an offset outside the file": lambda t: _first(t)["fields"]["time"].__setitem__(0, 1 << 40),
    "a negative offset": lambda t: _first(t)["fields"]["time"].__setitem__(0, -8),
    "a shape of terabytes": lambda t: _first(t)["fields"]["time"].__setitem__(2, [1 << 44]),
    "negative shapes": lambda t: _first(t)["fields"]["time"].__setitem__(2, [-1, -1]),
    "a clip's rows outside the field": lambda t: _first(t)["clips"][-1].__setitem__(2, 1 << 30),
    "a clip's rows below zero": lambda t: _first(t)["clips"][0].__setitem__(1, -9),
    "an unknown status": lambda t: _first(t)["clips"][0].__setitem__(3, "fine"),
    "a number instead of the shards": lambda t: t.update(shards=3),
}


def _index(name: str, change) -> None:
    @hostile(f"an index with {name}", REFUSED, short=True)
    def inject(work: Workspace) -> str:
        path = _forged(work, "*/faces-*/index.json", change)
        message = bounded(lambda: read_index(path.parent), CacheError)
        assert "index.json" in message and "deiii preprocess" in message, message
        return message.split("index.json ")[-1][:90]


for _name, _change in INDICES.items():
    _index(_name, _change)


TABLES: dict[str, Callable[[dict], None]] = {
    "a label that is not a class": lambda t: t["clips"][0].update(label="x" * 9),
    "a clip twice": lambda t: t["clips"].append(t["clips"][0]),
    "an unknown entry": lambda t: t["clips"][0].update(surprise=1),
    "no classes": lambda t: t.pop("classes"),
}


def _table(name: str, change) -> None:
    @hostile(f"a clip table with {name}", REFUSED, short=True)
    def inject(work: Workspace) -> str:
        path = _forged(work, "*/clips.json", change)
        message = bounded(lambda: read_table(path.parent.parent, path.parent.name), CacheError)
        assert "clips.json" in message and "deiii preprocess" in message, message
        return message.split("clips.json ")[-1][:90]


for _name, _change in TABLES.items():
    _table(_name, _change)


@hostile("an index of 100,000 nested lists", REFUSED, short=True)
def nested(work: Workspace) -> str:
    cache = work.copy()
    path = next(cache.glob("*/faces-*/index.json"))
    path.write_text("[" * 100_000 + "]" * 100_000)
    return bounded(lambda: read_index(path.parent), CacheError).split("index.json ")[-1][:90]
