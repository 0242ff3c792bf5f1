"""The training loop: steps, validation, early stopping, checkpoints, resuming.

It knows a network, two loaders and a run folder; `model.train` finds them. A loader has
``len(loader)`` batches an epoch and ``loader.epoch(number, start)`` that yields them from batch
``start`` on, in an order that follows from its seed and the epoch's number.
"""

from __future__ import annotations

import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from deiii.data.config.schema import Config
from deiii.data.loader.batch import Batch
from deiii.data.tools.malloc import keep_freed_memory
from deiii.data.tools.progress import progress_bar
from deiii.model.distributed.devices import autocast, seed_all
from deiii.model.distributed.layers import connect
from deiii.model.distributed.ranks import Ranks
from deiii.model.network.hide_streams import random_hide
from deiii.model.training import checkpoint
from deiii.model.training.gather_batch import gather_batch
from deiii.model.training.losses import total_loss
from deiii.model.training.optim import AveragedWeights, learning_rate, make_optimizer
from deiii.model.training.run_folder import RunFolder
from deiii.model.training.scoring import score

CHECK_EVERY = 25  # steps between two looks at the loss; a look waits for the device


class Loader(Protocol):
    """What training needs of a loader."""

    def __len__(self) -> int: ...

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]: ...


class Diverged(ValueError):
    """The loss or a gradient became NaN or infinite."""


class Trainer:
    """One training run.

    Args:
        model: on ``device`` already.
        train, val: loaders; test clips never come near.
        config: all settings.
        run: where checkpoints and metrics go.
        clip_ids: id of each feature-set row, for messages.
        info: what every checkpoint carries beside its weights.
        class_weights: float32 [C] or ``None``.
        ranks: the processes that train together; this one alone where not given. Each has loaders of its
            part of every batch; the first writes files and shows progress.
    """

    def __init__(
        self,
        model: nn.Module,
        train: Loader,
        val: Loader,
        config: Config,
        run: RunFolder,
        device: torch.device,
        clip_ids: list[str],
        info: dict[str, Any],
        class_weights: Tensor | None = None,
        ranks: Ranks | None = None,
    ):
        self.ranks = ranks or Ranks()
        self.model, self.train, self.val, self.run, self.device = model, train, val, run, device
        self.config, self.settings, self.clip_ids, self.info = config, config.train, clip_ids, info
        self.class_weights = None if class_weights is None else class_weights.to(device)
        connect(model, self.ranks)
        self.forward = self.learner = torch.compile(model) if self.settings.compile else model
        if self.ranks.world > 1:
            self.learner = DistributedDataParallel(self.forward)
        self.optimizer = make_optimizer(model, self.settings, device)
        self.average = AveragedWeights(model, self.settings.ema)
        self.total = self.settings.epochs * len(train)
        self.step = 0  # optimiser steps done
        self.history: list[dict[str, Any]] = []
        self.best: list[float] | None = None
        self.best_epoch = -1
        self.sums: dict[str, Tensor] = {}  # of the epoch under way, on the device
        if device.type == "cpu":
            keep_freed_memory()

    def fit(self, resume: bool = False, progress: bool = True) -> dict[str, Any]:
        """Train to the end, or to early stopping; returns the best epoch's row of metrics.

        Raises:
            Diverged: names the step and its clips; the last good checkpoint stays.
            KeyboardInterrupt: after Ctrl-C or SIGTERM, when the state is saved.
        """
        if resume:
            self._restore()
        progress = progress and self.ranks.first
        with self._board() as board, _stop_requests() as stop:
            while len(self.history) < self.settings.epochs and not self._patience_over():
                self._epoch(len(self.history), board, stop, progress)
        return self.history[self.best_epoch]

    def _epoch(self, epoch: int, board: Any, stop: threading.Event, progress: bool) -> None:
        began = time.perf_counter()
        start = self.step - epoch * len(self.train)
        bar = progress_bar(
            desc=f"epoch {epoch}",
            unit="batch",
            total=len(self.train),
            initial=start,
            leave=False,
            shown=progress,
        )
        pending: list[tuple[int, Tensor, Tensor]] = []
        with bar:
            for batch in self.train.epoch(epoch, start):
                pending.append(self._train_step(batch.to(self.device)))
                bar.update()
                if len(pending) == CHECK_EVERY:
                    self._check(pending)
                if self.ranks.any_wants_to_stop(stop.is_set()):
                    self._check(pending)
                    self._save_state()
                    self.ranks.wait()  # whoever ends first has the others ended
                    raise KeyboardInterrupt
        self._check(pending)
        trained = time.perf_counter() - began
        row = {"epoch": epoch, "step": self.step, "lr": self.optimizer.param_groups[0]["lr"]}
        row |= {f"train_{name}": (value / len(self.train)).item() for name, value in self.sums.items()}
        self.sums = {}
        row |= self._validate(epoch)
        row |= {"train_seconds": round(trained, 3), "seconds": round(time.perf_counter() - began, 3)}
        self.history.append(row)
        for name, value in row.items():
            if board is not None and value is not None and name != "epoch":
                board.add_scalar(name.replace("_", "/", 1), value, epoch)
        self._save_state()
        if self.ranks.first:
            self.run.write_history(self.history)
        if progress:
            tqdm.write(describe(row, best=epoch == self.best_epoch))

    def _train_step(self, batch: Batch) -> tuple[int, Tensor, Tensor]:
        """One optimiser step; returns its number, whether all was finite, and its clips, unread."""
        seed_all(self.settings.seed, self.step)
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.total, self.settings)
        batch = random_hide(batch, self.settings.modality_dropout, self.config.model, self.ranks)
        with autocast(self.settings.amp, self.device):
            outputs = self.learner(batch)
        outputs, batch = gather_batch(self.ranks, outputs, batch)
        loss, parts = total_loss(
            outputs, batch,
            w_video=self.settings.w_video, w_audio=self.settings.w_audio, w_match=self.settings.w_match,
            label_smoothing=self.settings.label_smoothing, class_weights=self.class_weights,
        )  # fmt: skip
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        self.average.update(self.step)
        for name, value in {"loss": loss.detach(), **parts}.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.step += 1
        return self.step - 1, loss.detach().isfinite() & norm.isfinite(), batch.index

    def _check(self, pending: list[tuple[int, Tensor, Tensor]]) -> None:
        for step, finite, index in pending:
            if not finite:
                names = ", ".join(self.clip_ids[i] for i in index.unique().tolist() if i >= 0)
                raise Diverged(
                    f"loss or gradient became NaN or infinite at step {step}; clips of that batch: {names}. "
                    f"The last good checkpoint stays in {self.run.path}; try a smaller train.lr"
                )
        pending.clear()

    def _validate(self, epoch: int) -> dict[str, Any]:
        """Validation figures under the averaged weights; keeps the best and the last weights."""
        self.average.swap()
        found = score(self.forward, self.val.epoch(0), self.device, self.settings, ranks=self.ranks)
        row = {"val_loss": found.loss}
        names = tuple(self.config.model.attributes)
        row |= {f"val_{name}": value for name, value in found.figures("fused", names).items()}
        row["val_monitor"] = monitored(row, self.settings.monitor)
        # equal results are told apart by the loss: small validation sets tie often
        result = self.ranks.of_first([row["val_monitor"], -found.loss])
        weights, info = self.model.state_dict(), {**self.info, "epoch": epoch, "validation": row}
        self._save(self.run.last, weights, info)
        if self.best is None or result > self.best:
            self.best, self.best_epoch = result, epoch
            self._save(self.run.best, weights, info)
        self.average.swap()
        return row

    def _patience_over(self) -> bool:
        return len(self.history) - 1 - self.best_epoch >= self.settings.patience

    def _save(self, path: Path, tensors: dict[str, Tensor], info: dict[str, Any]) -> None:
        if self.ranks.first:
            checkpoint.save(path, tensors, info)

    def _save_state(self) -> None:
        tensors = {
            **checkpoint.prefixed("model", self.model.state_dict()),
            **checkpoint.prefixed("average", self.average.state()),
            **checkpoint.prefixed("optimizer", checkpoint.optimizer_tensors(self.optimizer)),
            **checkpoint.prefixed("sums", self.sums),
        }
        progress = {
            "step": self.step, "history": self.history, "best": self.best, "best_epoch": self.best_epoch,
            "batches": len(self.train),
        }  # fmt: skip
        self._save(self.run.state, tensors, progress)

    def _restore(self) -> None:
        there = self.ranks.first and self.run.state.exists()
        found = self.ranks.state_of_first(checkpoint.load(self.run.state) if there else None)
        if found is None:
            return
        tensors, progress = found
        if progress["batches"] != len(self.train):
            raise checkpoint.CheckpointError(
                f"{self.run.state} has {progress['batches']} batches an epoch, this run {len(self.train)}"
            )
        checkpoint.load_into(self.model, checkpoint.under("model", tensors), self.run.state)
        checkpoint.load_optimizer(self.optimizer, checkpoint.under("optimizer", tensors))
        self.average.load(checkpoint.under("average", tensors))
        self.sums = {n: t.to(self.device) for n, t in checkpoint.under("sums", tensors).items()}
        self.step, self.history = progress["step"], progress["history"]
        self.best, self.best_epoch = progress["best"], progress["best_epoch"]
        if self.ranks.first:
            self.run.write_history(self.history)

    @contextmanager
    def _board(self) -> Iterator[Any]:
        """Rank 0's TensorBoard writer, which hides what a resumed run is about to write again."""
        if not self.ranks.first:
            yield None
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TensorBoard's imports warn about its own dependencies
            from torch.utils.tensorboard import SummaryWriter
        writer = SummaryWriter(str(self.run.events), purge_step=len(self.history) or None)
        try:
            yield writer
        finally:
            writer.close()


def monitored(row: dict[str, Any], monitor: str) -> float:
    """The figure that picks the epoch; larger is better.

    ``auto`` is UAR where classes are predicted, else the mean CCC, else the loss.
    """
    cccs = [v for k, v in row.items() if k.startswith("val_ccc_") and v is not None]
    figures = {"uar": row.get("val_uar"), "ccc": sum(cccs) / len(cccs) if cccs else None}
    figures["loss"] = -row["val_loss"]
    if monitor == "auto":
        return next(v for v in figures.values() if v is not None)
    if figures[monitor] is None:
        raise ValueError(f"train.monitor={monitor}, but the validation clips carry no such labels")
    return figures[monitor]


def describe(row: dict[str, Any], best: bool) -> str:
    """One line on an epoch."""
    names = {"train_loss": "loss", "val_loss": "val loss", "val_uar": "val UAR"}
    names |= {k: k.removeprefix("val_").replace("_", " ") for k in row if k.startswith("val_ccc_")}
    parts = [f"{label} {row[key]:.3f}" for key, label in names.items() if row.get(key) is not None]
    return f"epoch {row['epoch']:3d}  {'  '.join(parts)}  {row['seconds']:.1f} s{'  best' if best else ''}"


@contextmanager
def _stop_requests() -> Iterator[threading.Event]:
    """Set on Ctrl-C or SIGTERM, so that a step is finished first; a second one stops at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {s: signal.signal(s, request) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
