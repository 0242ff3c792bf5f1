"""Run a network over a loader and collect what each head says, in float32 on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from deiii.data.config.schema import TrainConfig
from deiii.data.loader.batch import Batch
from deiii.model.distributed.devices import autocast
from deiii.model.distributed.ranks import Ranks
from deiii.model.metrics import ccc, class_figures
from deiii.model.training.gather_batch import gather_batch
from deiii.model.training.losses import total_loss


@dataclass
class Predictions:
    """N clips, one row each, in the loader's order.

    Attributes:
        index: int64 [N], rows of the feature set.
        label: int64 [N], -1 where unknown.
        target: float32 [N,A], NaN where missing.
        probabilities: by head, float32 [N,C]; empty where classes are not predicted.
        attributes: by head, float32 [N,A]; empty where none are predicted.
        present: by head, bool [N], whether the clip has what the head reads.
        loss: mean loss over the batches.
    """

    index: np.ndarray
    label: np.ndarray
    target: np.ndarray
    probabilities: dict[str, np.ndarray]
    attributes: dict[str, np.ndarray]
    present: dict[str, np.ndarray]
    loss: float

    def figures(self, head: str = "fused", names: tuple[str, ...] = ()) -> dict[str, float | None]:
        """UAR, WAR and macro-F1 and each named attribute's CCC, over clips that the head can judge."""
        found: dict[str, float | None] = {}
        if head in self.probabilities:
            rows = (self.label >= 0) & self.present[head]
            predicted = self.probabilities[head].argmax(axis=1)
            found |= class_figures(self.label[rows], predicted[rows])
        if head in self.attributes:
            rows = self.present[head]
            for i, name in enumerate(names):
                found[f"ccc_{name}"] = ccc(self.target[rows, i], self.attributes[head][rows, i])
        return found


@torch.no_grad()
def score(
    model: nn.Module,
    batches: Iterable[Batch],
    device: torch.device,
    config: TrainConfig,
    change: Callable[[Batch], Batch] = lambda batch: batch,
    ranks: Ranks | None = None,
) -> Predictions:
    """Predictions of a model in eval mode; ``change`` is applied to every batch first.

    Over several ranks each scores its part of every batch, and all get the predictions for all clips, once.
    """
    model.eval()
    columns: dict[str, list[torch.Tensor]] = {}
    keep = lambda name, value: columns.setdefault(name, []).append(value)
    with autocast(config.amp, device):
        for batch in batches:
            batch = change(batch.to(device))
            outputs, batch = gather_batch(ranks or Ranks(), model(batch), batch)
            loss, _ = total_loss(outputs, batch, w_video=config.w_video, w_audio=config.w_audio)
            keep("loss", loss.float()[None])
            keep("real", batch.real)
            keep("index", batch.index)
            keep("label", batch.label)
            keep("target", batch.attributes)
            for head, scores in outputs.heads().items():
                keep(f"present/{head}", scores.present)
                if scores.logits is not None:
                    keep(f"probabilities/{head}", scores.logits.softmax(dim=1))
                if scores.attributes is not None:
                    keep(f"attributes/{head}", scores.attributes)
    whole = {name: torch.cat(parts).cpu().numpy() for name, parts in columns.items()}
    real = whole.pop("real")
    loss_mean = float(whole.pop("loss").mean())
    whole = {name: values[real] for name, values in whole.items()}
    by_head = lambda kind: {n.split("/")[1]: v for n, v in whole.items() if n.startswith(kind + "/")}
    return Predictions(
        whole["index"], whole["label"], whole["target"],
        by_head("probabilities"), by_head("attributes"), by_head("present"), loss_mean,
    )  # fmt: skip
