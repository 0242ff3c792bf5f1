"""Run a network over a loader and collect the outputs of each head, in float32 on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from deiii.data.config.schema import TrainConfig
from deiii.data.loader.batch import Batch
from deiii.data.tools.counts import counted
from deiii.data.tools.processes.torch_defaults import cudnn_flags
from deiii.model.distributed.devices import autocast
from deiii.model.distributed.ranks import Ranks
from deiii.model.metrics import ccc, class_figures
from deiii.model.network.heads import Outputs, Scores
from deiii.model.training.gather_batch import Truth, gather_batch
from deiii.model.training.losses import total_loss


@dataclass(frozen=True)
class Predictions:
    """Predictions for N clips, one row each, in the loader's order; C classes, A attributes.

    Attributes:
        index: int64 [N], rows of the feature set.
        label: int64 [N], -1 where unknown.
        target: float32 [N,A], NaN where unknown.
        probabilities: probabilities of the classes, float32 [N,C], keyed by head; empty if no classes are
            predicted.
        attributes: attributes, float32 [N,A], keyed by head; empty if no attributes are predicted.
        present: whether the clip has an input of the head, bool [N], keyed by head.
        loss: loss of all clips together, as `whole_loss` computes it; `select` leaves it as it is.

    Raises:
        ValueError: an array has another number of rows.
    """

    index: np.ndarray
    label: np.ndarray
    target: np.ndarray
    probabilities: dict[str, np.ndarray]
    attributes: dict[str, np.ndarray]
    present: dict[str, np.ndarray]
    loss: float

    def __post_init__(self) -> None:
        named = {"label": self.label, "target": self.target}
        for kind in ("probabilities", "attributes", "present"):
            named |= {f"{kind}[{head!r}]": values for head, values in getattr(self, kind).items()}
        for name, values in named.items():
            if len(values) != len(self.index):
                raise ValueError(
                    f"{name} has the shape {list(values.shape)} for {counted(len(self.index), 'clip')}"
                )

    def __repr__(self) -> str:
        heads = {head: list(values.shape) for head, values in self.probabilities.items()}
        return (
            f"Predictions(clips={len(self.index)}, probabilities={heads}, target={list(self.target.shape)})"
        )

    def select(self, rows: np.ndarray) -> Predictions:
        """Return some clips; ``rows`` is a mask, bool [N], or row numbers."""
        return Predictions(
            self.index[rows], self.label[rows], self.target[rows],
            {head: values[rows] for head, values in self.probabilities.items()},
            {head: values[rows] for head, values in self.attributes.items()},
            {head: values[rows] for head, values in self.present.items()},
            self.loss,
        )  # fmt: skip

    def figures(
        self, head: str = "fused", names: tuple[str, ...] = (), every: bool = False
    ) -> dict[str, float | None]:
        """Return UAR, WAR, macro-F1 and each named attribute's CCC.

        They are over the clips that the head can read, or over ``every`` clip.
        """
        found: dict[str, float | None] = {}
        some = np.ones(len(self.index), bool) if every else self.present[head]
        if head in self.probabilities:
            rows = (self.label >= 0) & some
            predicted = self.probabilities[head].argmax(axis=1)
            found |= class_figures(self.label[rows], predicted[rows])
        if head in self.attributes:
            rows = some
            for i, name in enumerate(names):
                found[f"ccc_{name}"] = ccc(self.target[rows, i], self.attributes[head][rows, i])
        return found


def average(found: Sequence[Predictions]) -> Predictions:
    """Return the mean of the predictions of several networks for the same clips: their ensemble.

    Args:
        found: predictions of each network; a single one is returned as it is.

    Returns:
        mean probabilities and attributes of the heads that all networks have. A head is present where it is
        in all of them. ``loss`` is the mean of the networks' losses, not the loss of the mean.

    Raises:
        ValueError: the predictions are for different clips.
    """
    first, *others = found
    if not others:
        return first
    aligned = [first]
    for one in others:
        place = {row: at for at, row in enumerate(one.index.tolist())}
        if len(one.index) != len(first.index) or any(row not in place for row in first.index.tolist()):
            raise ValueError("the networks of an ensemble predicted for different clips")
        aligned.append(one.select(np.array([place[row] for row in first.index.tolist()], np.int64)))

    def mean(kind: str) -> dict[str, np.ndarray]:
        own = [getattr(one, kind) for one in aligned]
        return {
            head: np.stack([one[head] for one in own]).mean(axis=0, dtype=np.float64).astype(np.float32)
            for head in own[0]
            if all(head in one for one in own)
        }

    present = {
        head: np.logical_and.reduce([one.present[head] for one in aligned])
        for head in first.present
        if all(head in one.present for one in aligned)
    }
    loss = float(np.mean([one.loss for one in found]))
    return replace(
        first,
        probabilities=mean("probabilities"),
        attributes=mean("attributes"),
        present=present,
        loss=loss,
    )


def in_full_precision(config: TrainConfig) -> TrainConfig:
    """Return the settings without autocast: evaluation, prediction and export then agree on every device."""
    return replace(config, amp="off")


def unchanged(batch: Batch) -> Batch:
    """Return the batch as it is."""
    return batch


@torch.no_grad()
def score(
    model: Callable[[Batch], Outputs],
    batches: Iterable[Batch],
    device: torch.device,
    config: TrainConfig,
    change: Callable[[Batch], Batch] = unchanged,
    ranks: Ranks | None = None,
) -> Predictions:
    """Return the predictions of a network in evaluation mode; without batches, no clips and no heads.

    Args:
        model: the network on ``device``, compiled or not.
        batches: batches with every clip once, for example one epoch of a `Loader`.
        device: the device to which the batches are copied.
        config: precision and weights of the loss.
        change: function that is applied to every batch first.
        ranks: the processes that share the batches; each predicts for its part of every batch, and all
            return the predictions for all clips.
    """
    if isinstance(model, nn.Module):
        model.eval()
    columns: dict[str, list[Tensor]] = {}

    def collect(name: str, value: Tensor) -> None:
        columns.setdefault(name, []).append(value)

    with autocast(config.amp, device):
        for batch in batches:
            own = change(batch.to(device))
            # By default cuDNN rounds the inputs of float32 convolutions to TF32.
            with cudnn_flags(device, enabled=True, allow_tf32=False):
                found = model(own)
            outputs, truth = gather_batch(ranks or Ranks(), found, own)
            collect("real", truth.real)
            collect("index", truth.index)
            collect("label", truth.label)
            collect("target", truth.attributes)
            collect("soft", truth.soft)
            for head, scores in outputs.heads().items():
                collect(f"present/{head}", scores.present)
                if scores.logits is not None:
                    collect(f"logits/{head}", scores.logits)
                    collect(f"probabilities/{head}", scores.logits.softmax(dim=1))
                if scores.attributes is not None:
                    collect(f"attributes/{head}", scores.attributes)
    if not columns:
        none = np.zeros(0, np.int64)
        return Predictions(none, none, np.zeros((0, 0), np.float32), {}, {}, {}, 0.0)
    tensors = {name: torch.cat(parts).cpu() for name, parts in columns.items()}
    real = tensors.pop("real")  # false for rows that only fill the last batch
    tensors = {name: values[real] for name, values in tensors.items()}
    loss = whole_loss(tensors, config)
    whole = {name: values.numpy() for name, values in tensors.items()}
    return Predictions(
        whole["index"], whole["label"], whole["target"],
        _by_head(whole, "probabilities"), _by_head(whole, "attributes"), _by_head(whole, "present"),
        loss,
    )  # fmt: skip


def whole_loss(tensors: Mapping[str, Tensor], config: TrainConfig) -> float:
    """Return the loss of all clips together, whatever the batches in which they were predicted.

    A mean over batches would weigh the clips of a short last batch more, and the CCC of a few clips depends
    on how the clips are divided into batches. The loss has the terms L_F, w_V L_V and w_A L_A, without L_S,
    label smoothing, class weights and clip weights.

    Args:
        tensors: tensors of N rows each, keyed by the names that `score` collects.
        config: its ``w_video`` and ``w_audio``.
    """

    def scores(head: str) -> Scores | None:
        if f"present/{head}" not in tensors:
            return None
        return Scores(
            tensors.get(f"logits/{head}"), tensors.get(f"attributes/{head}"), tensors[f"present/{head}"]
        )

    fused = scores("fused")
    if fused is None:
        return 0.0  # there was no batch
    truth = Truth(
        tensors["label"], tensors["soft"], tensors["target"], tensors["index"],
        torch.ones(len(tensors["label"]), dtype=torch.bool),
    )  # fmt: skip
    outputs = Outputs(fused, scores("video"), scores("audio"))
    return float(total_loss(outputs, truth, w_video=config.w_video, w_audio=config.w_audio)[0])


def _by_head(whole: dict[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
    prefix = f"{kind}/"
    return {name.removeprefix(prefix): values for name, values in whole.items() if name.startswith(prefix)}
