"""Run a trained network in PyTorch, on what the stages computed for one recording.

The loader is the one that evaluation uses, so that a clip of the corpus gets the probabilities that
evaluation recorded for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from deiii.data.cache.stages import get_stage, network_stages
from deiii.data.config.schema import Config
from deiii.data.loader.batch import Batch
from deiii.data.loader.recording import recording
from deiii.data.loader.stage_arrays import StageLevels
from deiii.data.tools.devices import use_device
from deiii.data.tools.processes.torch_defaults import usual_defaults
from deiii.model.network.hide_streams import hide
from deiii.model.network.streams import enabled_streams
from deiii.model.prediction.manifest import (
    MANIFEST,
    WEIGHTS,
    check_digest,
    read_manifest,
    test_scores,
    unusable,
)
from deiii.model.prediction.predictor import Predictor
from deiii.model.prediction.result import HeadOutputs
from deiii.model.prediction.windows.units import MOST_BATCH
from deiii.model.training.checkpoint import CheckpointError
from deiii.model.training.loaders import make_loader
from deiii.model.training.run_folder import RunError, RunFolder
from deiii.model.training.scoring import in_full_precision, score
from deiii.model.training.trained import build_network, load_network, training_record


class TorchScorer:
    """Scores intervals of a recording with a network in PyTorch; see `deiii.model.prediction.result.Scorer`.

    Args:
        network: network with its weights.
        config: settings of loader and network.
        classes: the classes that it predicts.
        device: device on which it computes.
    """

    def __init__(self, network: nn.Module, config: Config, classes: tuple[str, ...], device: torch.device):
        self.network = network.to(device).eval()
        self.config = config
        self.classes = classes
        self.device = device

    @usual_defaults()
    def __call__(
        self,
        arrays: Mapping[str, Mapping[str, np.ndarray]],
        intervals: Sequence[tuple[float, float]],
        hidden: Sequence[set[str]],
        levels: StageLevels | None,
    ) -> HeadOutputs:
        """Return the outputs of every head for each interval."""
        empty = {name: get_stage(name).empty(self.config) for name in network_stages(self.config.model)}
        features = recording({**empty, **arrays}, intervals, self.classes)
        loader = replace(self.config.loader, batch=min(len(intervals), MOST_BATCH), residency="stream")
        config = replace(self.config, loader=loader)
        rows = np.arange(len(intervals))
        batches = make_loader(features, rows, config, self.device, training=False, levels=levels)
        gone = {
            s: torch.zeros(len(intervals), dtype=torch.bool, device=self.device)
            for s in enabled_streams(config.model)
        }
        for row, names in enumerate(hidden):
            for name in names:
                gone[name][row] = True

        def hide_inputs(batch: Batch) -> Batch:
            return hide(batch, **{name: rows[batch.index] for name, rows in gone.items()})

        train = in_full_precision(config.train)
        found = score(self.network, batches.epoch(0), self.device, train, hide_inputs)
        return HeadOutputs(len(found.index), found.probabilities, found.attributes, found.present)


def read_export(folder: str | Path) -> tuple[Config, dict[str, Any], dict[str, Tensor], Path]:
    """Return the settings, the manifest, the weights by name, and the path of the weights.

    Raises:
        ExportError: the folder holds no export, a damaged one, or one of another format.
    """
    config, manifest = read_manifest(folder)
    path = Path(folder) / WEIGHTS
    check_digest(path.parent, manifest, WEIGHTS)
    try:
        return config, manifest, load_file(path), path
    except (OSError, ValueError, SafetensorError) as error:
        raise unusable(path.parent, error) from None


@usual_defaults()
def load_folder(
    folder: Path, device: str = "auto", overrides: Iterable[str] = (), change_preprocessing: bool = False
) -> Predictor:
    """Load a run folder or an exported folder; see `deiii.model.prediction.loading.load`."""
    if (folder / MANIFEST).is_file():
        config, info, weights, source = read_export(folder)
        with torch.random.fork_rng(devices=[]):  # new layers draw weights; the caller's numbers stay the same
            try:
                network, task = build_network(config, info, weights, source)
            except CheckpointError as error:
                detail = str(error).partition("model: ")[2]
                raise unusable(
                    folder, f"{MANIFEST} describes another network than {WEIGHTS}: {detail}"
                ) from None
    else:
        with torch.random.fork_rng(devices=[]):
            trained = load_network(folder)
        network, task, config = trained.network, trained.task, trained.config
        run = RunFolder(folder)
        info = {**trained.info, "training": training_record(folder, config)}
        with suppress(RunError):  # not evaluated, or the figures are of other weights
            info["scores"] = test_scores(run.read_metrics())
    scorer = TorchScorer(network, config, task.classes, use_device(device))
    return Predictor.of(scorer, config, info, overrides, change_preprocessing, folder)
