"""Set what is computed from the training clips before the first epoch: standardisation, and fitted heads."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from deiii.data.config.schema import Config
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.stage_arrays import valid_rows
from deiii.data.tools.counts import counted
from deiii.model.network.deiii import DEIII
from deiii.model.network.extra_encoders import PooledEncoder, RowEncoder, row_moments
from deiii.model.network.heads import Head
from deiii.model.network.inputs.network import Network
from deiii.model.training.loaders import make_loader
from deiii.model.training.losses import inverse_frequency
from deiii.model.training.parts import mixture_weights
from deiii.model.training.start.discriminant import Clips, discriminant, find_temperature

HEADS = ("fused_head", "video_head", "audio_head")


def fit_encoders(model: Network, features: FeatureSet, rows: np.ndarray, config: Config) -> None:
    """Set mean and deviation in the encoders of extra streams to those of the training clips."""
    encoders = {name: e for name, e in model.extra_encoders.items() if name in features.streams}
    for name, encoder in encoders.items():
        # With normalise=speaker the loader already standardises the rows.
        if isinstance(encoder, RowEncoder) and config.loader.normalise != "speaker":
            encoder.fit(valid_rows(features.streams[name], rows))
    pooled = {name: e for name, e in encoders.items() if isinstance(e, PooledEncoder) and e.standardise}
    if not pooled:
        return
    # From the rows that the network reads in validation, after the loader left out silence, for example.
    found: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {name: [] for name in pooled}
    for batch in make_loader(features, rows, config, torch.device("cpu"), training=False).epoch(0):
        for name in pooled:
            extra = batch.extra[name]
            some = batch.real & extra.mask.any(dim=1)
            found[name].append(row_moments(extra.values[some], extra.mask[some]))
    for name, moments in found.items():
        means, variances = (torch.cat(parts) for parts in zip(*moments, strict=True))
        pooled[name].fit(means, variances)


def fit_heads(model: Network, features: FeatureSet, rows: np.ndarray, config: Config) -> str:
    """Compute the heads by linear discriminant analysis if ``train.optimizer=discriminant``.

    Each head is computed from the training clips that have one of its inputs, weighted as in the training
    loss. Its scores are divided by the temperature that fits speakers who are left out (`find_temperature`).

    Args:
        model: network on the CPU, after `fit_encoders`.
        features: the features of all clips.
        rows: rows of the training clips, int64 [n].
        config: all settings.

    Returns:
        a line on what was computed; empty with other optimisers.
    """
    if config.train.optimizer != "discriminant":
        return ""
    if not isinstance(model, DEIII):
        raise TypeError("check_discriminant refuses other networks")
    vectors, targets, index = _pooled(model, features, rows, config)
    of_clips = mixture_weights(features, config)
    weights = torch.ones(len(index)).double() if of_clips is None else of_clips[index].double()
    if config.train.class_weights:
        weights = weights * (targets @ inverse_frequency(targets).double())
    speakers = [features.clips[i].speaker for i in index.tolist()]
    described = []
    for name in HEADS:
        head = getattr(model, name)
        if head is None:
            continue
        parts = [vectors[stage] for stage in model.head_inputs(name)]
        some = torch.stack([present for _, present in parts]).any(dim=0)
        own = Clips(torch.cat([values for values, _ in parts], dim=1), targets, weights).some(some)
        people = [speaker for speaker, there in zip(speakers, some.tolist(), strict=True) if there]
        if people:
            described.append(_fit_head(head, own, people, config.train.shrinkage, name))
    return f"heads computed by linear discriminant analysis: {'; '.join(described)}"


def _pooled(
    model: DEIII, features: FeatureSet, rows: np.ndarray, config: Config
) -> tuple[dict[str, tuple[Tensor, Tensor]], Tensor, Tensor]:
    """Return what the heads read of every labelled training clip, as in validation.

    Returns:
        for each stage, features float64 [N,F] and whether a clip has any, bool [N]; targets float64 [N,C];
        rows of the feature set, int64 [N].
    """
    found: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in model.extra_encoders}
    targets, index = [], []
    training = model.training
    model.eval()
    with torch.no_grad():
        for batch in make_loader(features, rows, config, torch.device("cpu"), training=False).epoch(0):
            labelled = batch.real & (batch.soft.sum(dim=1) > 0)
            for name, stages in found.items():
                vector, present = model.pooled_stage(name, batch)
                stages.append((vector[labelled].double(), present[labelled]))
            targets.append(batch.soft[labelled].double())
            index.append(batch.index[labelled])
    model.train(training)
    joined = {
        name: (torch.cat([v for v, _ in parts]), torch.cat([p for _, p in parts]))
        for name, parts in found.items()
    }
    return joined, torch.cat(targets), torch.cat(index)


def _fit_head(head: Head, clips: Clips, speakers: list[str], shrinkage: float, name: str) -> str:
    """Set the weights of a head; return what was computed."""
    coefficients, intercepts = discriminant(clips, shrinkage)
    temperature = find_temperature(clips, speakers, shrinkage)
    layer = head.first_layer()  # of a linear head, the only one
    with torch.no_grad():
        layer.weight.copy_(coefficients / temperature)
        layer.bias.copy_(intercepts / temperature)
    held = counted(len(speakers), "clip")
    return f"{name.removesuffix('_head')} from {held}, temperature {temperature:.1f}"
