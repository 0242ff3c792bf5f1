"""The versions of FFmpeg that decoded the shards of a stage, recorded beside the stages of a corpus.

Another version may return audio of another length under the same key: a cache that is continued with it holds
features of both.

>>> record_decoder(Path("cache/ravdess"), {"logmel-e7e2f30ff518": False})   # doctest: +SKIP
[]
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from deiii.data.cache.identity import DECODERS, read_decoders
from deiii.data.cluster.on_workers import decoder_version
from deiii.data.tools.atomic_files import write_json


def record_decoder(folder: Path, begun: Mapping[str, bool]) -> list[str]:
    """Record the version that will decode media for some stages, and return a line on each that mixes two.

    Args:
        folder: the cache folder of the corpus; it exists.
        begun: whether a stage has finished shards, by the name of its folder. Only stages that read media.

    Returns:
        lines for users. None for stages whose earlier shards have no record: they are of an earlier deiii.
    """
    known = read_decoders(folder)
    now = decoder_version()
    kept = dict(known)
    lines = []
    for stage, has_shards in sorted(begun.items()):
        before = known.get(stage, []) if has_shards else []
        if has_shards and not before:
            continue
        kept[stage] = [*before, now] if now not in before else before
        if others := [str(version) for version in before if version != now]:
            lines.append(
                f"{stage}: libavcodec {', '.join(others)} decoded its finished shards, and {now} decodes the "
                "rest; their audio may differ in length by a few ms. For features of one version alone, use "
                "a new cache folder (cache=), or install the former version of PyAV"
            )
    if kept != known:
        write_json(folder / DECODERS, kept, indent=None)
    return lines
