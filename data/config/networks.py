"""The networks that ``model.name`` chooses from, and the settings of the network that each of them reads.

This is the one table of networks: a new one of deiii is a file in ``model/peers/`` and an entry here. An
installed package adds a network through the entry-point group ``deiii.networks``.

Settings that are not in `OWN` (streams, encoders, width, heads, dropout, outputs) are read by all networks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from deiii.data.config.plugins import NETWORKS as GROUP
from deiii.data.config.plugins import installed
from deiii.data.config.strict_yaml import ConfigError


@dataclass(frozen=True)
class NetworkEntry:
    """One network of deiii.

    Attributes:
        title: its name in reports.
        about: what it is, in a few words.
        factory: ``module:class``, imported when it is needed.
        reads: the settings among `OWN` that it reads.
        needs: the settings in ``reads`` that must be at least 1.
    """

    title: str
    about: str
    factory: str
    reads: frozenset[str]
    needs: frozenset[str] = frozenset()


# Settings of the section ``model`` that not every network reads.
OWN = frozenset(
    ("blocks", "ife_blocks", "conv_kernel", "ov", "conformer", "ife", "modality_heads", "time_match")
) | {"batch_axis"}
DEFAULT = "deiii"
NETWORKS = {
    "deiii": NetworkEntry(
        "DE-III", "arXiv 2405.16701", "deiii.model.network.deiii:DEIII", OWN - {"batch_axis"}
    ),
    "late": NetworkEntry(
        "Late fusion",
        "averaged logits of one Conformer a modality",
        "deiii.model.peers.late:Late",
        frozenset(("blocks", "conv_kernel", "conformer", "modality_heads")),
    ),
    "gru": NetworkEntry(
        "GRU",
        "after concatenation of all streams",
        "deiii.model.peers.gru:ConcatGRU",
        frozenset(("blocks",)),
        needs=frozenset(("blocks",)),
    ),
    "mult": NetworkEntry(
        "MulT",
        "crossmodal transformers, arXiv 1906.00295",
        "deiii.model.peers.mult:MulT",
        frozenset(("blocks", "ife_blocks")),
        needs=frozenset(("ife_blocks",)),
    ),
    "attention": NetworkEntry(
        "Two-stream attention",
        "modalities weigh each other's steps, arXiv 2201.11095",
        "deiii.model.peers.attention:TwoStreamAttention",
        frozenset(),
    ),
    "vavl": NetworkEntry(
        "VAVL",
        "Conformers that modalities share, arXiv 2305.07216",
        "deiii.model.peers.vavl:VAVL",
        frozenset(("blocks", "ife_blocks", "conv_kernel", "modality_heads", "batch_axis")),
        needs=frozenset(("ife_blocks",)),
    ),
    "mbt": NetworkEntry(
        "MBT",
        "attention bottlenecks, arXiv 2107.00135",
        "deiii.model.peers.mbt:BottleneckTransformer",
        frozenset(("blocks", "ife_blocks")),
        needs=frozenset(("ife_blocks",)),
    ),
}


def network_names() -> list[str]:
    """Return the networks of deiii, then those of installed packages.

    >>> network_names()[:2]
    ['deiii', 'late']
    """
    return [*NETWORKS, *(name for name in installed(GROUP) if name not in NETWORKS)]


def described(name: str) -> tuple[str, str]:
    """Return a network's name in reports, and what it is; that of a package has its name alone.

    >>> described("mbt")[0]
    'MBT'
    """
    entry = NETWORKS.get(name)
    return (name, "of another package") if entry is None else (entry.title, entry.about)


def check_network(model: Any, named: Iterable[str] = ()) -> None:
    """Refuse settings that the network of ``model.name`` does not read.

    Configuration files describe recipes for several networks, so their settings for the parts of another
    network are ignored. A setting that a command names, and a value that the network cannot use, are refused.
    Networks of packages are free to read any setting.

    Args:
        model: the section ``model`` of the settings.
        named: the dotted names of the settings that a command names.

    Raises:
        ConfigError: names the setting that has no effect, and states what to do.
    """
    entry = NETWORKS.get(model.name)
    if entry is None:
        return
    unread = sorted(name for name in OWN - entry.reads if f"model.{name}" in set(named))
    unread += [
        name for name in ("time_match", "batch_axis") if getattr(model, name) and name not in entry.reads
    ]
    if unread:
        name = unread[0]
        readers = " and ".join(n for n, other in NETWORKS.items() if name in other.reads)
        own = ", ".join(f"model.{n}" for n in sorted(entry.reads))
        raise ConfigError(
            f"model.{name}={_written(getattr(model, name))} has no effect on model.name={model.name} "
            f"({entry.title}), only on {readers}; leave it out. "
            + (
                f"The settings that {model.name} has of its own are {own}"
                if own
                else f"{model.name} has no settings of its own"
            )
        )
    if model.join == "pooled" and model.name != DEFAULT:
        raise ConfigError(
            f"model.join=pooled is not for model.name={model.name} ({entry.title}), which compares steps "
            f"over time, but only for {DEFAULT}; use model.join=separate"
        )
    for name in sorted(entry.needs):
        if getattr(model, name) < 1:
            raise ConfigError(
                f"model.{name}={getattr(model, name)}: model.name={model.name} ({entry.title}) needs at "
                "least 1"
            )


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
