"""Export a trained network as one folder that needs neither the run nor its configuration.

The folder holds ``deiii.json`` (preprocessing, network, labels, provenance), ``model.safetensors`` (the
weights of the best epoch), ``deiii.pt2`` (the network as a `torch.export` program for any batch size,
compared with the original) and ``README.md`` (a model card after Mitchell et al., arXiv 1810.03993, with the
figures of the run).

>>> export("runs/latest", "exported")                              # doctest: +SKIP
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from deiii.data.cache.stages import BUILT_IN, extra_inputs, get_stage, with_upstream
from deiii.data.config.load import config_class, parse_stored
from deiii.data.config.schema import Config
from deiii.data.loader.augment import MEAN, STD
from deiii.data.loader.augment_audio import DB_CENTRE, DB_SCALE, LEAST_DB
from deiii.data.loader.batch import Batch
from deiii.data.tools.atomic_files import atomic_path, writable_folder, write_json, write_text
from deiii.model.intervals import kind_of_interval
from deiii.model.metrics import figure_names
from deiii.model.rendering import render
from deiii.model.training.loaders import evaluation_hops
from deiii.model.training.run_folder import RunFolder
from deiii.model.training.trained import load_network

MANIFEST = "deiii.json"
WEIGHTS = "model.safetensors"
PROGRAM = "deiii.pt2"
CARD = "README.md"
FORMAT = 1
EXTRA_FIELDS = ("values", "time", "mask")  # of an extra stream, as inputs of the program
TOLERANCE = 1e-4  # largest difference between the program's outputs and the network's
TRIALS = (1, 2, 5)  # batch sizes for which the outputs are compared


class ExportError(ValueError):
    """A folder holds no usable export, or the exported program differs from the network."""


class Program(nn.Module):
    """DE-III with plain tensors as inputs and outputs, for `torch.export`."""

    def __init__(self, network: nn.Module, extra: Sequence[str] = ()):
        super().__init__()
        self.network = network
        self.extra = tuple(extra)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute the outputs of every head.

        Args:
            inputs: fields of `Batch` by name, those that `describe_inputs` lists.

        Returns:
            ``<head>_probabilities``, float32 [B,C], and ``<head>_attributes``, float32 [B,A].
        """
        extra = {f"{name}_{key}": f"extra/{name}/{key}" for name in self.extra for key in EXTRA_FIELDS}
        batch = Batch.from_inputs({extra.get(name, name): tensor for name, tensor in inputs.items()})
        outputs = {}
        for head, scores in self.network(batch).heads().items():
            if scores.logits is not None:
                outputs[f"{head}_probabilities"] = scores.logits.softmax(dim=1)
            if scores.attributes is not None:
                outputs[f"{head}_attributes"] = scores.attributes
        return outputs


def export(run: str | Path, folder: str | Path, program: bool = True) -> Path:
    """Write a run's best network into a folder.

    Args:
        run: a run folder.
        folder: is made where needed; files of an earlier export are replaced.
        program: whether to write ``deiii.pt2``, which takes some seconds.

    Returns:
        the folder.

    Raises:
        RunError, CheckpointError: the run is not trained.
        ExportError: the folder holds other files, or the outputs of the program differ from those of the
            network by more than 1e-4.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / MANIFEST).is_file():
        if not folder.is_dir() or any(folder.iterdir()):
            raise ExportError(
                f"{folder} exists and holds no export (no {MANIFEST}), so its files are not overwritten; "
                "name a new or empty folder"
            )
    trained = load_network(run)
    writable_folder(folder)
    network, config, info = trained.network, trained.config, trained.info
    files = RunFolder(run)
    metrics = files.read_metrics() if files.metrics_json.is_file() else None
    manifest = {
        "format": FORMAT,
        "corpus": info["corpus"], "classes": info["classes"], "attributes": info["attributes"],
        "ranges": info["ranges"], "seconds": info.get("seconds"), "epoch": trained.epoch,
        "settings": _settings(config), "inputs": describe_inputs(config),
        "keys": info["keys"], "split": info["split"], "clips": info["clips"],
        "versions": info["versions"], "revision": info["revision"],
        "parameters": sum(p.numel() for p in network.parameters()),
    }  # fmt: skip
    if program:
        manifest["program_difference"] = write_program(network.eval(), config, folder / PROGRAM)
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file({n: t.contiguous().clone() for n, t in network.state_dict().items()}, str(temporary))
    write_text(folder / CARD, model_card(manifest, metrics))
    write_json(folder / MANIFEST, manifest)  # last, because it marks a complete export
    return folder


def model_card(manifest: dict[str, Any], metrics: dict[str, Any] | None) -> str:
    """Return the model card as Markdown.

    Args:
        manifest: what ``deiii.json`` holds.
        metrics: what the run's ``metrics.json`` holds; ``None`` where the run was not evaluated.
    """
    settings = manifest["settings"]
    switches = {"video": "face crops", "flow": "optical flow", "audio": "log-mel spectrogram"}
    outputs = []
    if manifest["classes"]:
        outputs.append("the classes " + ", ".join(manifest["classes"]))
    if manifest["attributes"]:
        pairs = zip(manifest["attributes"], manifest["ranges"], strict=True)
        outputs.append("the attributes " + ", ".join(f"{n} ({lo:g} to {hi:g})" for n, (lo, hi) in pairs))
    figures = {}
    if metrics is not None:
        names = figure_names(metrics["test"])
        figures = {key: name for key, name in names.items() if metrics["test"][key] is not None}
    return render(
        "model_card.md.j2",
        m=manifest,
        s=settings,
        inputs=[name for switch, name in switches.items() if settings["model"][switch]],
        outputs=outputs,
        metrics=metrics,
        figures=figures,
        interval=kind_of_interval(metrics or {}),
    )


def read_export(folder: str | Path) -> tuple[Config, dict[str, Any], dict[str, Tensor], Path]:
    """Return the settings, the manifest, the weights by name, and the path of the weights.

    Raises:
        ExportError: the folder holds no export, a damaged one, or one of another format.
    """
    path = Path(folder) / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise ExportError(
                f"{path} has format {manifest['format']}, this version reads {FORMAT}; export the run again"
            )
        config = parse_stored(json.dumps(manifest["settings"]))
        weights = load_file(Path(folder) / WEIGHTS)
    except ExportError:
        raise
    except (OSError, KeyError, ValueError, TypeError, SafetensorError) as error:
        raise ExportError(f"{path.parent} holds no usable export ({error}); export the run again") from None
    return config, manifest, weights, Path(folder) / WEIGHTS


def write_program(network: nn.Module, config: Config, path: Path) -> float:
    """Write the network as a program for any batch size; returns the largest difference of its outputs.

    Raises:
        ExportError: the difference is above `TOLERANCE`.
    """
    program = Program(network, config.model.extra).cpu().eval()
    shapes = {name: i["shape"] for name, i in describe_inputs(config).items()}
    batch = torch.export.Dim("batch", min=1, max=4096)
    dynamic = {"inputs": {name: {0: batch} for name in shapes}}
    with torch.no_grad(), atomic_path(path) as temporary:
        exported = torch.export.export(program, (example(config, 2),), dynamic_shapes=dynamic)
        with open(temporary, "wb") as file:
            torch.export.save(exported, file)
        with open(temporary, "rb") as file:
            again = torch.export.load(file).module()
        worst = 0.0
        for size in TRIALS:
            inputs = example(config, size, seed=size)
            found, wanted = again(inputs), program(inputs)
            worst = max(worst, *(float((found[n] - w).abs().max()) for n, w in wanted.items()))
        if not worst <= TOLERANCE:
            raise ExportError(
                f"the exported program differs from the network by {worst:g}, more than {TOLERANCE:g}; "
                "export without it: --no-program"
            )
    return worst


_FLOW = {
    True: "px of the crop in 1/25 s: flow to the next frame times 0.04 s over the time to it in s; u, v",
    False: "px of the crop to the next native frame; u, v",
}
_LOGMEL = {
    "none": f"(dB - {DB_CENTRE:g}) / {DB_SCALE:g}",
    "clip": f"(dB - mean of the band over the clip's hops) / {DB_SCALE:g}; 0 where masked",
    "speaker": "(dB - mean of the band over all hops of the speaker's clips) / their deviation, which is "
    f"at least {LEAST_DB:g} dB; 0 where masked",
}


def describe_inputs(config: Config) -> dict[str, dict[str, Any]]:
    """Return shape (``B`` is the batch), dtype and meaning of each input of ``deiii.pt2``, by name."""
    m = config.model
    steps, size, hops = config.loader.steps, config.loader.crop, evaluation_hops(config.loader)
    video = m.video or m.flow
    pixels = f"RGB / 255, minus {MEAN}, divided by {STD}"
    known = {
        "frames": (m.video, ["B", steps, 3, size, size], "float32", pixels),
        "flow": (
            m.flow, ["B", steps, 2, size, size], "float32", _FLOW[config.loader.flow_per_second],
        ),
        "video_time": (video, ["B", steps], "float32", "s"),
        "video_mask": (video, ["B", steps], "bool", "true where the step shows the face"),
        "flow_mask": (video, ["B", steps], "bool", "true where the step's flow is valid"),
        "logmel": (
            m.audio, ["B", hops, config.logmel.n_mels], "float32", _LOGMEL[config.loader.normalise],
        ),
        "audio_time": (m.audio, ["B", hops], "float32", "s, same zero as video_time"),
        "audio_mask": (m.audio, ["B", hops], "bool", "true where there is audio"),
    }  # fmt: skip
    for x in extra_inputs(config):
        rows = x.rows(steps, hops)
        known |= {
            f"{x.name}_values": (True, ["B", rows, *x.shape], "float32", f"rows of the stage {x.name}"),
            f"{x.name}_time": (True, ["B", rows], "float32", "s, same zero as the other times"),
            f"{x.name}_mask": (True, ["B", rows], "bool", "true where the row is valid"),
        }
    return {
        name: {"shape": shape, "dtype": dtype, "meaning": meaning}
        for name, (used, shape, dtype, meaning) in known.items()
        if used
    }


def example(config: Config, size: int, seed: int = 0) -> dict[str, Tensor]:
    """Return random inputs for a batch size; about a fifth of the entries of the masks are false."""
    g = torch.Generator().manual_seed(seed)
    inputs = {}
    for name, about in describe_inputs(config).items():
        shape = [size, *about["shape"][1:]]
        if about["dtype"] == "bool":
            inputs[name] = torch.rand(shape, generator=g) > 0.2
        elif name.endswith("_time"):
            inputs[name] = torch.arange(shape[1]).float().expand(shape).contiguous() * 0.04
        else:
            inputs[name] = torch.randn(shape, generator=g)
    return inputs


def _settings(config: Config) -> dict[str, Any]:
    """Return the sections that using the network depends on; operational settings get their defaults."""
    tree = _tree(config)
    default = _tree(config_class()())
    added = [name for name in with_upstream(config.model.extra) if get_stage(name) not in BUILT_IN]
    sections = ("stages", *(stage.name for stage in BUILT_IN), *added, "loader", "model")
    settings = {name: tree[name] for name in sections}
    for name in sections:
        section = getattr(config, name)
        for f in fields(section) if is_dataclass(section) else ():
            if f.metadata["operational"]:
                settings[name][f.name] = default[name][f.name]
    return settings


def _tree(config: Config) -> dict[str, Any]:
    tree = OmegaConf.to_container(OmegaConf.structured(config))
    if not isinstance(tree, dict):
        raise TypeError(f"the settings are a {type(tree).__name__}, not a table")
    return {str(name): value for name, value in tree.items()}
