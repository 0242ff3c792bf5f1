"""Copy the weights of a trained network into a new one that may have other inputs and other classes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deiii.data.config.schema import Config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.corpora.spelling import spelling_key
from deiii.data.encoders.statement import used_encoders
from deiii.model.network.deiii import DEIII
from deiii.model.network.extra_encoders import PooledEncoder, RowEncoder
from deiii.model.network.heads import Head
from deiii.model.network.inputs.network import Network
from deiii.model.network.task import Task
from deiii.model.peers.base import Peer
from deiii.model.training.trained import TrainedNetwork, load_network

Pairs = list[tuple[slice | int, slice | int, float]]  # place in the new tensor, in the old one, factor


def starting_network(config: Config) -> TrainedNetwork | None:
    """Return the network whose weights training starts from; ``None`` if ``train.start`` is empty.

    Raises:
        RunError: ``train.start`` holds no run.
        CheckpointError: its checkpoint is missing or damaged.
        ConfigError: it is the run folder itself, or one of the two trainings is of a mixture of corpora.
    """
    if not config.train.start:
        return None
    if Path(config.train.start).resolve() == Path(config.train.run).resolve():
        raise ConfigError(
            "train.start and train.run name the same folder; name another one with train.run=..., or use "
            "--resume to continue a run"
        )
    start = load_network(config.train.start)
    if config.is_mixture or start.config.is_mixture:
        # Speakers and recordings of a mixture have other names than those of its corpora.
        raise ConfigError(
            "train.start cannot be used with a mixture of corpora (mix, copies), neither for the run that it "
            "names nor for the new one: it could not be checked whether that run was trained on test speakers"
        )
    return start


def copy_start(
    network: Network, task: Task, start: TrainedNetwork, config: Config, stages: Collection[str]
) -> str:
    """Copy the weights of ``train.start`` that fit; returns a line that says which do not.

    Args:
        network, task, start: arguments of `copy_weights`.
        config: settings of the new training.
        stages: names of the stages that the new training reads.

    Raises:
        ConfigError: see `copy_weights`.
    """
    other = other_features(config, stages, start.info)
    copied, new = copy_weights(network, task, start, other)
    total = sum(p.numel() for p in network.parameters())
    corpus = start.info["corpus"]
    line = f"{copied:,} of {total:,} weights are copied from {config.train.start}, trained on {corpus}"
    if other:
        line += f"; none for {', '.join(other)}: the frozen encoder is another one"
    return line + (f"; at least in part with new initial weights: {describe(new)}" if new else "")


@torch.no_grad()
def copy_weights(
    network: Network, task: Task, start: TrainedNetwork, other: Collection[str] = ()
) -> tuple[int, list[str]]:
    """Copy every weight that means the same in both networks.

    Tensors of the same name and shape are copied. In the heads, rows of classes and attributes are matched by
    name, and the pools and the columns of the first layer by modality and by pooled stage. Means and
    deviations that standardise features are not copied: they come from the training clips of the new network.

    Args:
        network: new, on the CPU.
        task: what it predicts.
        start: the trained network.
        other: stages of ``model.extra`` whose features are not those that ``start`` was trained on; nothing
            is copied for them.

    Returns:
        the number of copied values of parameters, and the names of the parameters that keep initial values,
        at least in part.

    Raises:
        ConfigError: the networks are of different kinds, or nothing can be copied.

    >>> copied, new = copy_weights(network, task, load_network("runs/ravdess"))   # doctest: +SKIP
    """
    old = start.network
    if type(network) is not type(old):
        raise ConfigError(
            f"train.start holds a network of model.name={start.config.model.name}, and this training is of "
            f"model.name={network.config.name}: use the same one"
        )
    given = old.state_dict()
    heads = dict(_head_tensors(network, task, old, start.task, other))
    pools, parameters = _pool_sources(network, old), dict(network.named_parameters())
    copied, new = 0, []
    for name, tensor in network.state_dict().items():
        if name in _of_data(network):
            continue
        source, count = given.get(pools.get(name, name)), 0
        if source is not None and not any(_belongs(name, stage) for stage in other):
            same = source.shape == tensor.shape
            rows, columns = heads.get(name, (_whole(same), _whole(same)))
            count = _copy_parts(tensor, source, rows, columns)
        if name in parameters:
            copied += count
            new += [name] if count < tensor.numel() else []
    if not copied:
        raise ConfigError(
            "nothing of train.start fits this network: use the inputs and widths of its run, or leave it out"
        )
    return copied, new


def other_features(config: Config, stages: Collection[str], info: Mapping[str, Any]) -> list[str]:
    """Return the stages of frozen encoders whose features are not those that a run was trained on.

    Args:
        config: settings of the new training.
        stages: names of the stages that the new training reads.
        info: ``run.json`` of the run.
    """

    def same(entry: Mapping[str, Any]) -> tuple[Any, ...]:
        return entry["name"], tuple(entry["layers"]), entry["sha256"]

    before = {entry["stage"]: same(entry) for entry in info.get("encoders", ())}
    now = {entry.stage: same(asdict(entry)) for entry in used_encoders(config, stages)}
    return [stage for stage, encoder in now.items() if stage in before and before[stage] != encoder]


def _of_data(network: Network) -> set[str]:
    """Return the names of the tensors that belong to the data: ranges of attributes, and standardisation."""
    found = set()
    for name, module in network.named_modules():
        if isinstance(module, (Head, PooledEncoder, RowEncoder)):
            found |= {f"{name}.{buffer}" for buffer, _ in module.named_buffers(recurse=False)}
    return found


def _belongs(name: str, stage: str) -> bool:
    return name.startswith((f"extra_encoders.{stage}.", f"extra_conformers.{stage}."))


def _head_tensors(
    network: Network, task: Task, old: Network, old_task: Task, other: Collection[str]
) -> Iterator[tuple[str, tuple[Pairs, Pairs]]]:
    """Yield name, pairs of rows and pairs of columns of the heads' tensors that are copied in parts."""
    modules = dict(old.named_modules())
    for name, head in network.named_modules():
        before = modules.get(name)
        if not isinstance(head, Head) or not isinstance(before, Head):
            continue
        columns = _columns(network, old, name, head, before, other)
        hidden, inner = isinstance(head.mix[0], nn.Linear), dict(before.named_modules())
        for part, layer in head.named_modules():
            source = inner.get(part)
            if not isinstance(layer, nn.Linear) or not isinstance(source, nn.Linear):
                continue
            rows = _rows(part, layer, source, task, old_task)
            # Classes and attributes read the pooled features, or those of a hidden layer.
            pooled = layer is head.first_layer() or not hidden
            read = columns if pooled else _all(layer.in_features, source.in_features)
            yield f"{name}.{part}.weight", (rows, read)
            yield f"{name}.{part}.bias", (rows, [(slice(0, 1), slice(0, 1), 1.0)])


def _rows(part: str, layer: nn.Linear, source: nn.Linear, task: Task, old: Task) -> Pairs:
    named = {"classes": (task.classes, old.classes), "attributes": (task.attributes, old.attributes)}
    if part not in named:
        return _all(layer.out_features, source.out_features)
    now, before = ([spelling_key(name) for name in names] for names in named[part])
    return [(i, before.index(label), 1.0) for i, label in enumerate(now) if label in before]


def _columns(
    network: Network, old: Network, name: str, head: Head, before: Head, other: Collection[str]
) -> Pairs:
    """Return the pairs of columns of a head's first layer, each with the ratio of the balance factors."""
    now, then = _inputs(network, name, head), _inputs(old, name, before)
    if now is None or then is None:
        return _all(head.first_layer().in_features, before.first_layer().in_features)
    of_new, of_old = ({} if not isinstance(n, DEIII) else n.factors for n in (network, old))
    return [
        (now[part], then[part], of_old.get(part, 1.0) / of_new.get(part, 1.0))
        for part in now
        if part in then and part not in other and _length(now[part]) == _length(then[part])
    ]


def _inputs(network: Network, name: str, head: Head) -> dict[str, slice] | None:
    """Return the place of each part among the pooled features that a head reads, those of the pools first.

    ``None`` for a head that does not read one sequence of each modality of its network.
    """
    if isinstance(network, DEIII):
        return network.head_inputs(name)
    modalities = network.modalities if isinstance(network, Peer) else ()
    if len(head.pools) != len(modalities):
        return None
    width = head.first_layer().in_features // len(modalities)
    return {m: slice(i * width, (i + 1) * width) for i, m in enumerate(modalities)}


def _pool_sources(network: Network, old: Network) -> dict[str, str]:
    """Return, for each weight of a pool of a head, the name of the old network's for the same modality.

    It is empty where the old head does not read that modality. A modality's number in a head depends on the
    other ones: audio is the second beside video, and the first without.
    """
    modules, found = dict(old.named_modules()), {}
    for name, head in network.named_modules():
        before = modules.get(name)
        if not isinstance(head, Head) or not isinstance(before, Head):
            continue
        now, then = _inputs(network, name, head), _inputs(old, name, before)
        if now is None or then is None:
            continue
        numbers = {part: number for number, part in zip(range(len(before.pools)), then, strict=False)}
        for number, (part, pool) in enumerate(zip(now, head.pools, strict=False)):
            for weight, _ in pool.named_parameters():
                source = f"{name}.pools.{numbers[part]}.{weight}" if part in numbers else ""
                found[f"{name}.pools.{number}.{weight}"] = source
    return found


def _length(part: slice) -> int:
    return int(part.stop) - int(part.start)


def _all(now: int, before: int) -> Pairs:
    return [(slice(0, now), slice(0, now), 1.0)] if now == before else []


def _whole(same: bool) -> Pairs:
    return [(slice(None), slice(None), 1.0)] if same else []


def _copy_parts(tensor: Tensor, source: Tensor, rows: Pairs, columns: Pairs) -> int:
    """Copy blocks of a matrix [out,in], or parts of other tensors; returns the number of copied values."""
    new, old = (t.reshape(-1, 1) if t.ndim < 2 else t for t in (tensor, source))
    copied = 0
    for row, old_row, _ in rows:
        for column, old_column, factor in columns:
            block = new[row, column]
            block.copy_(old[old_row, old_column] * factor if factor != 1.0 else old[old_row, old_column])
            copied += block.numel()
    return copied


def describe(names: Sequence[str]) -> str:
    """Return the modules of tensors that keep initial values, in one line.

    >>> describe(["fused_head.classes.weight", "fused_head.classes.bias", "frame_encoder.0.weight"])
    'fused_head.classes, frame_encoder'
    """
    modules = []
    for name in names:
        parts = name.split(".")
        inner = parts[0].endswith("_head") or parts[0].startswith("extra")
        module = ".".join(parts[:2]) if inner else parts[0]
        if module not in modules:
            modules.append(module)
    return ", ".join(modules)
