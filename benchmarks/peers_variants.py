"""The rows of the comparison with peers: settings of each network, of its widths and ways of scoring."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from deiii.data.config.networks import check_network, described, network_names
from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.model.network.task import Task
from deiii.model.peers.match import matched_width

FIRST_NETWORK = "deiii"  # the network that all others are compared with
BATCH_AXIS = "vavl-batch-axis"  # VAVL as its published code runs
MATCHED = "-matched"  # at the width with DE-III's number of parameters
ALONE = "-alone"  # scored one clip at a time
ALONE_FILE = "predictions-alone.csv"


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


def variants(base: Config, folder: Path, only: Sequence[str], task: Task, match: bool) -> list[Variant]:
    """Return the rows of the table, DE-III first.

    Args:
        base: the settings that all networks share.
        folder: holds a folder for each.
        only: networks, `BATCH_AXIS` among them; DE-III is always there.
        task: what all predict.
        match: whether to add each peer at the width with DE-III's number of parameters. A peer that has
            this width already is not added again.

    Raises:
        ConfigError: a network is not known, or the settings do not fit one.
    """
    known = [*network_names(), BATCH_AXIS]
    if unknown := [name for name in only if name not in known]:
        raise ConfigError(f"--only names {', '.join(unknown)}; the networks are {', '.join(known)}")
    found: list[Variant] = []
    for name in (n for n in known if n == FIRST_NETWORK or n in only):
        own = deepcopy(base)
        own.model.name = "vavl" if name == BATCH_AXIS else name
        own.model.batch_axis = name == BATCH_AXIS
        own.model.time_match = own.model.time_match and name == FIRST_NETWORK
        own.train.run = str(folder / name)
        check_network(own.model)
        title = described(own.model.name)[0]
        about = f"{title} along the batch, as published" if name == BATCH_AXIS else title
        found.append(Variant(name, about, own))
        if name == BATCH_AXIS:
            found.append(Variant(name + ALONE, f"{about}; one clip at a time", own, ALONE_FILE, False))
        if match and name != FIRST_NETWORK:
            wide = deepcopy(own)
            wide.model.width = matched_width(own, task)
            wide.train.run = str(folder / (name + MATCHED))
            if wide.model.width != own.model.width:  # otherwise the same network would be trained twice
                found.append(Variant(name + MATCHED, f"{about}; width matched", wide))
    return found
