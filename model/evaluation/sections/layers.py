"""How much each layer of the frozen encoders counts in a trained network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from deiii.model.network.deiii import DEIII
from deiii.model.network.extra_encoders import PooledEncoder, RowEncoder
from deiii.model.network.inputs.network import Network

Weights = dict[str, dict[str, float]]  # weights, keyed by stage and layer; each stage's sum is 1


@torch.no_grad()
def layer_weights(network: Network, layers: Mapping[str, Iterable[int]]) -> Weights:
    """Return the weight of each layer, for stages with several.

    Where layers are averaged, these are the weights of the average. Where they enter the heads pooled and
    standardised, it is the share of each layer's features in the squared weights of the fused head's first
    matrix.

    Args:
        network: a trained network.
        layers: numbers of the stored layers, keyed by stage; for a stage that is not in it, they are counted
            from 1.

    >>> layer_weights(network, {"speech": [1, 2, 3, 4]})   # doctest: +SKIP
    {'speech': {'1': 0.24, '2': 0.28, '3': 0.27, '4': 0.21}}
    """
    found: Weights = {}
    for name, encoder in network.extra_encoders.items():
        weights = None
        if isinstance(encoder, RowEncoder) and encoder.layers is not None:
            weights = encoder.layers.softmax(dim=0)
        elif isinstance(network, DEIII) and isinstance(encoder, PooledEncoder) and encoder.standardise:
            columns = network.fused_head.first_layer().weight[:, network.head_inputs()[name]]
            parts = columns.square().sum(dim=0).view(2, encoder.layers, -1)  # means and deviations
            weights = parts.sum(dim=(0, 2)) / parts.sum()
        if weights is not None and len(weights) > 1:
            numbers = layers.get(name, range(1, len(weights) + 1))
            found[name] = {str(n): float(w) for n, w in zip(numbers, weights, strict=True)}
    return found


def mean_weights(runs: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return mean and deviation of each layer's weight over runs.

    Args:
        runs: what ``metrics.json`` of each holds; runs of older versions have no ``layers``.
    """
    tables = [run["layers"] for run in runs if run.get("layers")]
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for stage in tables[0] if tables else {}:
        for layer in tables[0][stage]:
            values = [table[stage][layer] for table in tables]
            sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
            found.setdefault(stage, {})[layer] = {"mean": float(np.mean(values)), "sd": sd}
    return found
