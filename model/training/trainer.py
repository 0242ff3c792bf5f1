"""The training loop: steps, validation, early stopping, checkpoints, resuming.

`deiii.model.training.train` opens the features, splits the clips and builds the network that is trained here.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from deiii.data.config.schema import Config
from deiii.data.loader.batch import Batch
from deiii.data.tools.processes.malloc import keep_freed_memory
from deiii.data.tools.processes.signals import stop_requests
from deiii.data.tools.progress import progress_bar, say
from deiii.model.distributed.gradients import keep_strides
from deiii.model.distributed.layers import connect
from deiii.model.distributed.ranks import Ranks
from deiii.model.network.heads import Outputs
from deiii.model.network.inputs.network import Network
from deiii.model.training import checkpoint
from deiii.model.training.logs.cost import Cost, joined_cost
from deiii.model.training.logs.open_logs import Logs, open_logs
from deiii.model.training.monitor import TrainingState, describe, monitored
from deiii.model.training.run_folder import RunFolder
from deiii.model.training.scoring import score
from deiii.model.training.step.graphs import StepGraphs, own_stream
from deiii.model.training.step.half_weights import HalfWeights
from deiii.model.training.step.launch import choose_launch, compiles
from deiii.model.training.step.loader_protocols import Loader, SlabLoader
from deiii.model.training.step.step import TrainingStep, read_together
from deiii.model.training.step.sums import SHARES

PROGRESS = ("step", "history", "best", "best_epoch", "batches")  # what the state holds beside its tensors
CHECK_EVERY = 25  # steps between two checks for a finite loss; a check waits for the device


class Diverged(ValueError):
    """The loss or a gradient became NaN or infinite."""


@dataclass(frozen=True)
class TrainingSetup:
    """The inputs of a training other than its network.

    Attributes:
        train, val: loaders of the training and the validation clips; no test clip is in either. Without
            validation clips (``split.val_share=0``), ``val`` is ``None``.
        config: all settings.
        run: the run folder that receives checkpoints and metrics.
        device: device of the network.
        clip_ids: id of each row of the feature set, for messages.
        info: what every checkpoint carries beside its weights, JSON-able.
        class_weights: float32 [C], or ``None`` for equal weights.
        ranks: the processes that train together. Each has loaders of its part of every batch; rank 0 writes
            files and shows progress.
        clip_weights: float32 [N] of the rows of the feature set, or ``None`` for equal weights.
    """

    train: Loader
    val: Loader | None
    config: Config
    run: RunFolder
    device: torch.device
    clip_ids: Sequence[str]
    info: Mapping[str, Any]
    class_weights: Tensor | None = None
    ranks: Ranks = field(default_factory=Ranks)
    clip_weights: Tensor | None = None


class Trainer:
    """One training run.

    Args:
        model: the network, on ``setup.device`` already.
        setup: everything else.

    Attributes:
        step: optimiser steps done.
        history: one row of metrics for each finished epoch.
        best_epoch: the epoch of the best checkpoint; -1 before the first.

    >>> Trainer(network, setup).fit()   # doctest: +SKIP
    {'epoch': 24, 'val_uar': 0.91, ...}
    """

    def __init__(self, model: Network, setup: TrainingSetup):
        self.model = model
        self.train = setup.train
        self.val = setup.val
        self.config = setup.config
        self.settings = setup.config.train
        self.run = setup.run
        self.device = setup.device
        self.clip_ids = setup.clip_ids
        self.info = setup.info
        self.ranks = setup.ranks
        weights = (setup.class_weights, setup.clip_weights)
        classes, clips = (None if x is None else x.to(self.device) for x in weights)
        connect(model, self.ranks)
        self.launch = choose_launch(self.settings, self.device, self.ranks)
        # Validation calls this one, the network itself or compiled; steps call ``learner``.
        self.forward: Callable[[Batch], Outputs] = torch.compile(model) if compiles(self.settings) else model
        learner: Callable[[Batch], Outputs] = self.forward
        if self.ranks.alone and self.forward is model:
            learner = HalfWeights(model)
        elif not self.ranks.alone:
            keep_strides(model)
            # This copies the weights and the batch statistics of rank 0, which alone reads those of
            # ``train.start`` and of ImageNet. With an argument in place of the attribute it would leave the
            # statistics out. In the steps they are over all ranks; a package's encoder gets those of rank 0.
            learner = DistributedDataParallel(model)
            learner.broadcast_buffers = bool(self.config.model.encoders)
        total = self.settings.epochs * len(self.train)
        self.training_step = TrainingStep(
            model, learner, self.config, self.device, total, classes, self.ranks, clips
        )
        self.graphs: StepGraphs | None = None
        if self.launch == "graph":
            self.graphs = StepGraphs(self.training_step, self.device, strict=self.settings.launch == "graph")
        self.step = 0
        self.history: list[dict[str, Any]] = []
        self.best: list[float] | None = None  # monitored figure and negative loss of the best epoch
        self.best_epoch = -1
        if self.device.type == "cpu":
            keep_freed_memory()

    def fit(self, resume: bool = False, progress: bool = True) -> dict[str, Any]:
        """Train to the last epoch or to early stopping.

        Args:
            resume: continue from the state in the run folder, where there is one.
            progress: show a bar and one line an epoch.

        Returns:
            the best epoch's row of metrics.

        Raises:
            Diverged: names the step and its clips, or the epoch with the validation loss; the last good
                checkpoint stays.
            KeyboardInterrupt: after Ctrl-C, SIGTERM or SIGHUP, when the state is saved.
            CheckpointError: the state is damaged, or does not fit the network or the loaders.
            ConfigError: ``train.launch=graph``, but the step cannot be recorded.
        """
        if resume:
            self._restore()
        if self.history and self.ranks.first:
            state = self._state()
            what = f"finished after {state}; nothing is left to train"
            say(f"{self.run.path}: {what if state.finished else f'continues after {state}'}")
        if self._state().finished:  # the record of what it cost stays
            return self.history[self.best_epoch]
        # Recorded steps run on a stream of their own; everything else in this block runs on it, too.
        stream = nullcontext() if self.graphs is None else own_stream(self.graphs.stream)
        first = self.ranks.first
        record = open_logs(self.config, self.run, len(self.history)) if first else nullcontext(Logs({}))
        with self._measured(), record as logs, stop_requests() as stop, stream:
            while not self._state().finished:
                self._epoch(len(self.history), logs, stop, progress and first)
            if stop.is_set() and self.ranks.alone:  # set since the last step; crossval must stop, too
                raise KeyboardInterrupt
        return self.history[self.best_epoch]

    @contextmanager
    def _measured(self) -> Iterator[None]:
        """Record in ``run.json`` what the block took, also where it is stopped."""
        cost = Cost(self.device, self.ranks.world)
        try:
            yield
        finally:
            if self.ranks.first and self.run.info.exists():
                self.run.add(cost=joined_cost(self.run.read_info().get("cost"), cost.so_far()))

    def _epoch(self, epoch: int, logs: Logs, stop: threading.Event, progress: bool) -> None:
        """Train and validate one epoch, or what is left of it, and record its metrics."""
        began = time.perf_counter()
        self._train_epoch(epoch, stop, progress)
        trained = time.perf_counter() - began
        row = {"epoch": epoch, "step": self.step, "lr": self.training_step.rate}
        sums = self.training_step.sums.named()
        shares = sums.pop(SHARES, None)
        count = len(self.train) if shares is None else shares  # states of older versions do not contain it
        row |= {f"train_{name}": float(value / count) for name, value in sums.items()}
        self.training_step.sums.reset()
        row |= self._validate(epoch)
        row |= {"train_seconds": round(trained, 3), "seconds": round(time.perf_counter() - began, 3)}
        self.history.append(row)
        logs.epoch(row)
        # The state is written first: from it, a resumed run writes the weights of an epoch that are missing.
        self._save_state()
        self._save_weights()
        if self.ranks.first:
            self.run.write_history(self.history)
        if progress:
            # With train.monitor=last, every epoch replaces the one before, whether it is better or not.
            chosen = self.settings.monitor != "last"
            tqdm.write(describe(row, best=chosen and epoch == self.best_epoch))

    def _train_epoch(self, epoch: int, stop: threading.Event, progress: bool) -> None:
        """Do the training steps of an epoch that are not done yet."""
        start = self.step - epoch * len(self.train)
        bar = progress_bar(
            desc=f"epoch {epoch}",
            unit="batch",
            total=len(self.train),
            initial=start,
            leave=False,
            shown=progress,
        )
        pending: list[tuple[int, Tensor]] = []
        self.model.train()
        batches, unpack = self._batches(epoch, start)
        with bar:
            for batch in batches:
                pending.append((self.step, self._train_step(batch, unpack)))
                bar.update()
                if len(pending) == CHECK_EVERY:
                    self._check(pending)
                if self.ranks.any_wants_to_stop(stop.is_set()):
                    self._check(pending)
                    self._save_state()
                    self.ranks.wait()  # the first rank that ends makes torchrun end the others
                    raise KeyboardInterrupt
        self._check(pending)

    def _batches(self, epoch: int, start: int) -> tuple[Iterator[Any], Callable[[Any], Batch]]:
        """Return the batches of an epoch, and the function that makes the network's input from one of them.

        If steps are recorded and the loader can return batches before augmentation, this function augments
        them and is recorded with the step.
        """
        if self.graphs is not None and isinstance(self.train, SlabLoader):
            return self.train.slabs(epoch, start), self.train.unpack
        return self.train.epoch(epoch, start), self._as_it_is

    def _as_it_is(self, batch: Batch) -> Batch:
        return batch.to(self.device)

    def _train_step(self, batch: Any, unpack: Callable[[Any], Batch]) -> Tensor:
        """Do one optimiser step; returns its status on the device, see `TrainingStep`."""
        self.training_step.prepare(self.step)
        status = self.training_step(unpack(batch)) if self.graphs is None else self.graphs(batch, unpack)
        self.step += 1
        return status

    def _check(self, pending: list[tuple[int, Tensor]]) -> None:
        """Raise Diverged where a step since the last check was not finite; empties the list."""
        for step, (finite, *rows) in read_together(pending):
            if not finite:
                names = ", ".join(self.clip_ids[i] for i in sorted(set(rows)) if i >= 0)
                raise Diverged(
                    f"loss or gradient became NaN or infinite at step {step}; clips of that batch: {names}. "
                    f"The last good checkpoint stays in {self.run.path}; try a smaller train.lr"
                )
        pending.clear()

    def _validate(self, epoch: int) -> dict[str, Any]:
        """Return the figures of the averaged weights; notes the epoch if they are the best."""
        self.training_step.average.swap()
        row = {} if self.val is None else self._score(self.val, epoch)
        row["val_monitor"] = monitored({"epoch": epoch, **row}, self.settings.monitor)
        # The loss decides between equal figures, which are frequent in small validation sets.
        result = self.ranks.of_first([row["val_monitor"], -row.get("val_loss", 0.0)])
        if self.best is None or result > self.best:
            self.best, self.best_epoch = result, epoch
        self.training_step.average.swap()
        return row

    def _score(self, val: Loader, epoch: int) -> dict[str, Any]:
        """Return the figures of the validation clips."""
        found = score(self.forward, val.epoch(0), self.device, self.settings, ranks=self.ranks)
        if not math.isfinite(found.loss):
            raise Diverged(
                f"the validation loss became {found.loss} in epoch {epoch}, but the training loss is finite; "
                f"checkpoints of earlier epochs stay in {self.run.path}; try a smaller train.lr, or "
                "train.amp=off where bfloat16 is on"
            )
        figures = found.figures("fused", tuple(self.config.model.attributes))
        return {"val_loss": found.loss, **{f"val_{name}": value for name, value in figures.items()}}

    def _state(self) -> TrainingState:
        done, train = len(self.history), self.settings
        return TrainingState(done, train.epochs, done - 1 - self.best_epoch, train.patience)

    def _save(self, path: Path, tensors: dict[str, Tensor], info: dict[str, Any]) -> None:
        if self.ranks.first:
            checkpoint.save(path, tensors, info)

    def _save_weights(self, missing: bool = False) -> None:
        """Write the averaged weights of the last epoch as last, and as best if they are.

        Args:
            missing: write only those files that are not of this epoch.
        """
        epoch = len(self.history) - 1
        validation = {name: value for name, value in self.history[-1].items() if name.startswith("val_")}
        paths = [self.run.last, self.run.best][: 2 if epoch == self.best_epoch else 1]
        self.training_step.average.swap()
        for path in paths:
            if not (missing and checkpoint.epoch_of(path) == epoch):
                info = {**self.info, "epoch": epoch, "validation": validation}
                self._save(path, self.model.state_dict(), info)
        self.training_step.average.swap()

    def _save_state(self) -> None:
        tensors = {
            **checkpoint.prefixed("model", self.model.state_dict()),
            **checkpoint.prefixed("average", self.training_step.average.state()),
            **checkpoint.prefixed("optimizer", checkpoint.optimizer_tensors(self.training_step.optimizer)),
            **checkpoint.prefixed("sums", self.training_step.sums.named()),
        }
        progress = [self.step, self.history, self.best, self.best_epoch, len(self.train)]
        self._save(self.run.state, tensors, dict(zip(PROGRESS, progress, strict=True)))

    def _restore(self) -> None:
        exists = self.ranks.first and self.run.state.exists()
        found = self.ranks.state_of_first(checkpoint.load(self.run.state, PROGRESS) if exists else None)
        if found is None:
            return
        tensors, progress = found
        if progress["batches"] != len(self.train):
            raise checkpoint.CheckpointError(
                f"{self.run.state} has {progress['batches']} batches an epoch, this run {len(self.train)}; "
                "resume with the earlier settings and data, or start a new run with train.run=..."
            )
        checkpoint.load_into(self.model, checkpoint.under("model", tensors), self.run.state)
        checkpoint.load_optimizer(self.training_step.optimizer, checkpoint.under("optimizer", tensors))
        self.training_step.average.load(checkpoint.under("average", tensors))
        self.training_step.sums.load(checkpoint.under("sums", tensors))
        self.step, self.history = progress["step"], progress["history"]
        self.best, self.best_epoch = progress["best"], progress["best_epoch"]
        self.training_step.set_rate(max(0, self.step - 1))  # no step of the running epoch may be left
        if self.ranks.first:
            if self.history and self.step == len(self.history) * len(self.train):
                self._save_weights(missing=True)
            self.run.write_history(self.history)
            if self.best is not None:
                checkpoint.restore(self.run.best, self.run.last, self.best_epoch)
