"""The rows of the comparison with peers: settings of each network, of its widths and ways of scoring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.ablation_tasks import PARTS
from deiii.data.config.load import parse_config, to_yaml
from deiii.data.config.networks import check_network, described, network_names
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.model.network.task import Task
from deiii.model.peers.match import matched_width

FIRST_NETWORK = "deiii"  # the network that all others are compared with
CORRECTED = "vavl"  # VAVL as its paper describes it, with attention over time
BATCH_AXIS = "vavl-batch-axis"  # VAVL as its published code runs
MATCHED = "-matched"  # at the width with DE-III's number of parameters
ALONE = "-alone"  # scored one clip at a time
ALONE_FILE = "predictions-alone.csv"
# Networks without one of DE-III's parts: deiii-ov-concat, deiii-no-ife and so on.
ABLATIONS = {f"{FIRST_NETWORK}-{name.replace('_', '-')}": part for name, part in PARTS.items()}


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Attributes:
        name: name of its folder.
        about: description in words.
        config: settings of its cross-validation; ``train.run`` is its folder.
        file: name of the file with its runs' predictions.
        trained: whether it is trained, or another variant's networks are scored in another way.
    """

    name: str
    about: str
    config: Config
    file: str = "predictions.csv"
    trained: bool = True


def known_names() -> list[str]:
    """Return the names that ``--only`` takes, those of the ablations last."""
    return [*network_names(), BATCH_AXIS, *ABLATIONS]


def variants(base: Config, folder: Path, only: Sequence[str], task: Task, match: bool) -> list[Variant]:
    """Return the rows of the table: DE-III, its ablations, the other networks.

    An ablation that `left_out` names is left out.

    Args:
        base: the settings that all networks share.
        folder: holds a folder for each.
        only: networks of `known_names`; DE-III is always there.
        task: what all predict.
        match: whether to add each peer at the width with DE-III's number of parameters. A peer that has
            this width already is not added again.

    Raises:
        ConfigError: a network is not known, or the settings do not fit one.
    """
    if unknown := [name for name in only if name not in known_names()]:
        raise ConfigError(f"--only names {', '.join(unknown)}; the networks are {', '.join(known_names())}")
    first = _first_network(base, folder)
    found = [first, *(v for v in _ablations(first, folder, only) if _differs(v, first, task))]
    for name in (n for n in [*network_names(), BATCH_AXIS] if n != FIRST_NETWORK and n in only):
        own = deepcopy(base)
        own.model.name = "vavl" if name == BATCH_AXIS else name
        own.model.batch_axis = name == BATCH_AXIS
        own.model.time_match = False
        own.train.run = str(folder / name)
        check_network(own.model)
        title = described(own.model.name)[0]
        about = f"{title} along the batch, as published" if name == BATCH_AXIS else title
        found.append(Variant(name, about, own))
        if name == BATCH_AXIS:
            found.append(Variant(name + ALONE, f"{about}; one clip at a time", own, ALONE_FILE, False))
        if match:
            wide = deepcopy(own)
            wide.model.width = matched_width(own, task)
            wide.train.run = str(folder / (name + MATCHED))
            if wide.model.width != own.model.width:  # otherwise the same network would be trained twice
                found.append(Variant(name + MATCHED, f"{about}; width matched", wide))
    return found


def left_out(base: Config, folder: Path, only: Sequence[str], task: Task) -> list[str]:
    """Return a sentence on each ablation among ``only`` that is the network of ``base`` itself.

    That is the case if the network does not have the part, or does not read the streams that it joins.

    Args:
        base, folder, only, task: arguments of `variants`.
    """
    first = _first_network(base, folder)
    model = first.config.model
    streams = {"frames": model.video, "flow": model.flow, "audio": model.audio}
    read = [name for name, there in streams.items() if there] + list(model.extra)
    return [
        f"{v.name} is left out: it needs {ABLATIONS[v.name].needs}, and without the part the network of "
        f"these settings (inputs: {', '.join(read)}) is the same"
        for v in _ablations(first, folder, only)
        if not _differs(v, first, task)
    ]


def _first_network(base: Config, folder: Path) -> Variant:
    own = deepcopy(base)
    own.model.name = FIRST_NETWORK
    own.train.run = str(folder / FIRST_NETWORK)
    check_network(own.model)
    return Variant(FIRST_NETWORK, described(FIRST_NETWORK)[0], own)


def _ablations(first: Variant, folder: Path, only: Sequence[str]) -> Iterator[Variant]:
    for name, part in ABLATIONS.items():
        if name in only:
            own = parse_config(to_yaml(first.config), part.changes)
            own.train.run = str(folder / name)
            yield Variant(name, f"{first.about}, {part.about}", own)


def _differs(variant: Variant, first: Variant, task: Task) -> bool:
    """Return whether two networks have different parameters; a part without parameters is none."""
    return _parameters(variant.config, task) != _parameters(first.config, task)


def _parameters(config: Config, task: Task) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(p.shape) for name, p in task.network(config).named_parameters()}
