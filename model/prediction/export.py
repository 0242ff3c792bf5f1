"""Export a trained network as one folder that needs neither the run nor its configuration.

The folder holds ``deiii.json`` (preprocessing, network, labels, provenance), ``model.safetensors`` (the
weights of the best epoch), ``deiii.pt2`` (the network as a `torch.export` program for any batch size,
compared with the original), on request ``model.onnx`` (the network for onnxruntime, for any batch size and
length, compared too; `deiii.runtime` predicts with it without PyTorch), and ``README.md`` (a model card after
Mitchell et al., arXiv 1810.03993, with the figures of the run and the licence of the corpus).

>>> export("runs/latest", "exported")                              # doctest: +SKIP
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deiii.data.cache.stages import extra_inputs, get_stage
from deiii.data.config.networks import DEFAULT, described
from deiii.data.config.schema import Config, LoaderConfig
from deiii.data.encoders.chosen import torch_encoders
from deiii.data.loader.augment import MEAN, STD
from deiii.data.loader.augmentation.audio import DB_CENTRE, DB_SCALE
from deiii.data.loader.batch import Batch
from deiii.data.loader.gather import FLOW_UNIT_S, SHORTEST_STEP_S
from deiii.data.loader.sampling import evaluation_hops
from deiii.data.loader.stage_arrays import LEAST_DB, LEAST_DEVIATION
from deiii.data.pages.rendering import plain, render
from deiii.data.sharing.hub_metadata import front_matter
from deiii.data.tools.atomic_files import atomic_path, writable_folder, write_json, write_text
from deiii.data.tools.counts import listed
from deiii.data.tools.progress import progress_bar
from deiii.model.calibration import stored_temperature
from deiii.model.corpus_title import corpus_title
from deiii.model.intervals import kind_of_interval
from deiii.model.metrics import figure_names, guessing
from deiii.model.prediction.checks.fit import input_shapes
from deiii.model.prediction.manifest import (
    CARD,
    FORMAT,
    MANIFEST,
    ONNX,
    PROGRAM,
    WEIGHTS,
    ExportError,
    check_target,
    digests,
    known_licence,
    marked_unfinished,
    portable_settings,
    remove_members,
    test_scores,
)
from deiii.model.prediction.onnx_file import check_packages, write_onnx
from deiii.model.training.checkpoint import save_tensors
from deiii.model.training.run_folder import RunFolder
from deiii.model.training.trained import load_network, training_record

EXTRA_FIELDS = ("values", "time", "mask")  # inputs of the program for each extra stream
TOLERANCE = 1e-4  # largest difference between the program's outputs and the network's
TRIALS = (1, 2, 5)  # batch sizes for which the outputs are compared
PART_WORDS = {"train": "training", "val": "validation"}  # in the card; other parts keep their names
KINDS = {"audio": "A speech", "video": "A facial"}  # in the card, by the only modality that is read

# Numbers by which the inputs are made from the stored features; `deiii.runtime` reads them.
PREPARATION = {
    "mean": MEAN, "std": STD, "db_centre": DB_CENTRE, "db_scale": DB_SCALE,
    "flow_unit_s": FLOW_UNIT_S, "shortest_step_s": SHORTEST_STEP_S,
}  # fmt: skip


class Program(nn.Module):
    """A network with plain tensors as inputs and outputs, for `torch.export`."""

    def __init__(self, network: nn.Module, extra: Sequence[str] = ()):
        super().__init__()
        self.network = network
        self.extra = tuple(extra)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute the outputs of every head.

        Args:
            inputs: fields of `Batch` by name, those that `describe_inputs` lists.

        Returns:
            ``<head>_probabilities``, float32 [B,C], ``<head>_attributes``, float32 [B,A], and
            ``<head>_present``, bool [B], whether the clip has what the head reads.
        """
        extra = {f"{name}_{key}": f"extra/{name}/{key}" for name in self.extra for key in EXTRA_FIELDS}
        batch = Batch.from_inputs({extra.get(name, name): tensor for name, tensor in inputs.items()})
        outputs = {}
        for head, scores in self.network(batch).heads().items():
            if scores.logits is not None:
                outputs[f"{head}_probabilities"] = scores.logits.softmax(dim=1)
            if scores.attributes is not None:
                outputs[f"{head}_attributes"] = scores.attributes
            outputs[f"{head}_present"] = scores.present
        return outputs


def export(
    run: str | Path,
    folder: str | Path,
    program: bool = True,
    onnx: bool = False,
    licence: str | None = None,
    progress: bool = False,
) -> Path:
    """Write a run's best network into a folder.

    Args:
        run: a run folder.
        folder: folder of the export, which is made if needed; files of an earlier export are replaced.
        program: whether to write ``deiii.pt2``, which takes some seconds.
        onnx: whether to write ``model.onnx``, which takes longer.
        licence: licence under which the corpus may be used; by default that of RAVDESS, CREMA-D or MSP-IMPROV
            if the corpus is one of them, else the card states that it is not known.
        progress: whether to show a bar.

    Returns:
        the folder.

    Raises:
        RunError, CheckpointError: the run is not trained.
        ExportError: the folder holds other files, the packages that write ONNX are missing, or the outputs
            of a program differ from those of the network by more than 1e-4.
    """
    folder = Path(folder)
    check_target(folder)
    if onnx:
        check_packages()  # fail before the network is loaded
    trained = load_network(run)
    writable_folder(folder)
    remove_members(folder)
    network, config, info = trained.network, trained.config, trained.info
    files = RunFolder(run)
    metrics = files.read_metrics() if files.metrics_json.is_file() else None
    manifest = {
        "format": FORMAT,
        "corpus": info["corpus"], "classes": info["classes"], "attributes": info["attributes"],
        "ranges": info["ranges"], "seconds": info.get("seconds"), "epoch": trained.epoch,
        "chosen": config.train.monitor != "last",  # whether the epoch was chosen on validation speakers
        "licence": licence or known_licence(info["corpus"]), "settings": portable_settings(config),
        "inputs": describe_inputs(config), "preparation": PREPARATION, "hidden": list(config.split.hide),
        "keys": info["keys"], "split": info["split"], "clips": info["clips"], "versions": info["versions"],
        "revision": info["revision"], "encoders": info.get("encoders", []), "scores": test_scores(metrics),
        "temperature": stored_temperature(run), "training": training_record(run, config),
        "parameters": sum(p.numel() for p in network.parameters()),
    }  # fmt: skip
    if "start" in info:
        manifest["start"] = info["start"]
    programs = [(PROGRAM, "program_difference", write_program)] if program else []
    programs += [(ONNX, "onnx_difference", write_onnx_program)] if onnx else []
    bar = progress_bar(desc="export", unit="program", total=len(programs), leave=False, shown=progress)
    with bar, marked_unfinished(folder):
        for name, difference, write in programs:
            bar.set_postfix_str(f"{name} is written and checked")
            manifest[difference] = write(network.eval(), config, folder / name)
            bar.update()
        save_tensors(folder / WEIGHTS, {n: t.contiguous().clone() for n, t in network.state_dict().items()})
        manifest["sha256"] = digests(folder)
        write_text(folder / CARD, model_card(manifest, metrics, corpus_title(config, info)))
        write_json(folder / MANIFEST, manifest)  # last, because it marks a complete export
    return folder


def model_card(manifest: dict[str, Any], metrics: dict[str, Any] | None, corpus: str = "") -> str:
    """Return the model card as Markdown.

    Args:
        manifest: what ``deiii.json`` holds.
        metrics: what the run's ``metrics.json`` holds; ``None`` where the run was not evaluated.
        corpus: name of the corpus by which people know it; by default that in the manifest.
    """
    settings = manifest["settings"]
    switches = {"video": "face crops", "flow": "optical flow", "audio": "log-mel spectrogram"}
    outputs = []
    if manifest["classes"]:
        outputs.append("the classes " + ", ".join(map(plain, manifest["classes"])))
    if manifest["attributes"]:
        pairs = zip(manifest["attributes"], manifest["ranges"], strict=True)
        outputs.append("the attributes " + ", ".join(f"{n} ({lo:g} to {hi:g})" for n, (lo, hi) in pairs))
    figures = {}
    if metrics is not None:
        names = figure_names(metrics["test"])
        figures = {key: name for key, name in names.items() if metrics["test"][key] is not None}
    needs = [f"features of {name}" for name in torch_encoders(settings)]
    if settings["model"]["flow"] and settings["flow"]["method"] == "raft":
        needs.append("flow of RAFT")
    read = sorted({get_stage(name).modality for name in manifest["keys"]})
    title, about = described(settings["model"].get("name", DEFAULT))  # older exports are DE-III
    return render(
        "model_card.md.j2",
        title=title,
        about=about,
        kind=KINDS[read[0]] if len(read) == 1 else "An audio-visual",
        guess=guessing(manifest["classes"]) if "uar" in figures else None,
        m=manifest,
        corpus=corpus or manifest["corpus"],
        s=settings,
        inputs=listed(
            [name for switch, name in switches.items() if settings["model"][switch]]
            + [f"features of {e['name']}" for e in manifest.get("encoders", ())]
        ),
        parts=listed(f"{n} {PART_WORDS.get(part, part)}" for part, n in manifest["clips"].items()),
        outputs=outputs,
        with_torch=listed(needs),
        metrics=metrics,
        figures=figures,
        interval=kind_of_interval(metrics or {}),
        front=front_matter(manifest, title, figures, metrics and metrics["test"], corpus, read),
    )


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
        with warnings.catch_warnings():
            # They are about the list of GRU weights and the mapped file; the outputs are compared below.
            for words in ("The tensor attributes .*_flat_weights", "The given buffer is not writable"):
                warnings.filterwarnings("ignore", words, UserWarning)
            exported = torch.export.export(program, (example(config, 2),), dynamic_shapes=dynamic)
            written = io.BytesIO()  # PyTorch's writer ends the process by a signal where a disk is full
            torch.export.save(exported, written)
            temporary.write_bytes(written.getbuffer())
            with open(temporary, "rb") as file:
                again = torch.export.load(file).module()
        worst = 0.0
        for size in TRIALS:
            inputs = example(config, size, seed=size)
            found, wanted = again(inputs), program(inputs)
            each = [(found[n].float() - w.float()).abs().max() for n, w in wanted.items()]
            worst = float(torch.stack([torch.tensor(worst), *each]).max())  # unlike max(), it keeps NaN
        if not worst <= TOLERANCE:
            raise ExportError(
                f"the exported program differs from the network by {worst:g}, more than {TOLERANCE:g}; "
                "export without it: --no-program"
            )
    return worst


def write_onnx_program(network: nn.Module, config: Config, path: Path) -> float:
    """Write the network for onnxruntime; returns the largest difference of its outputs.

    Raises:
        ExportError: the packages that write ONNX are missing, or the difference is above `TOLERANCE`.
    """
    program = Program(network, config.model.extra).cpu().eval()
    audio = {x.name for x in extra_inputs(config) if x.modality == "audio"}
    lengths = {}
    for name in describe_inputs(config):
        stage = name.rpartition("_")[0]
        if stage in audio:
            lengths[name] = f"{stage}_rows"
        else:
            lengths[name] = "hops" if name == "logmel" or name.startswith("audio_") else "steps"
    whole, half = example(config, 1, seed=1), example(config, 2, seed=2)
    half = {name: x[:, : -(-x.shape[1] // 2)].contiguous() for name, x in half.items()}
    twice = {name: torch.cat((x, x), dim=1) for name, x in example(config, 3, seed=3).items()}
    worst = write_onnx(program, example(config, 2), lengths, (whole, half, twice), path)
    if not worst <= TOLERANCE:
        path.unlink()
        raise ExportError(
            f"the ONNX program differs from the network by {worst:g}, more than {TOLERANCE:g}; "
            "export without it: leave out --onnx"
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
_ROWS = {
    False: "rows of the stage {}",
    True: "rows of the stage {}, minus the mean of each feature over all rows of the speaker's clips, "
    f"divided by their deviation, which is at least {LEAST_DEVIATION:g}",
}


def _flow_of_frames(loader: LoaderConfig) -> str:
    """Return how the flow of several frames enters, in words; empty for that of one frame."""
    if loader.flow_frames == 1:
        return ""
    how = "u, v of each" if loader.flow_join == "stack" else "sum"
    return f"; {how} of {loader.flow_frames} successive native frames from the step's on, 0 where not valid"


def describe_inputs(config: Config) -> dict[str, dict[str, Any]]:
    """Return shape (``B`` is the batch), dtype and meaning of each input of ``deiii.pt2``, by name."""
    pixels = f"RGB / 255, minus {MEAN}, divided by {STD}"
    meanings = {
        "frames": pixels,
        "flow": _FLOW[config.loader.flow_per_second] + _flow_of_frames(config.loader),
        "video_time": "s",
        "video_mask": "true where the step shows the face",
        "flow_mask": "true where the step's flow is valid",
        "logmel": _LOGMEL[config.loader.normalise],
        "audio_time": "s, same zero as video_time",
        "audio_mask": "true where there is audio",
    }
    found = {
        name: {"shape": shape, "dtype": dtype, "meaning": meanings[name]}
        for name, (shape, dtype) in input_shapes(config).items()
    }
    rows_are = _ROWS[config.loader.normalise == "speaker"]
    for x in extra_inputs(config):
        rows = x.rows(config.loader.steps, evaluation_hops(config.loader))
        for name, shape, dtype, meaning in (
            ("values", ["B", rows, *x.shape], "float32", rows_are.format(x.name)),
            ("time", ["B", rows], "float32", "s, same zero as the other times"),
            ("mask", ["B", rows], "bool", "true where the row is valid"),
        ):
            found[f"{x.name}_{name}"] = {"shape": shape, "dtype": dtype, "meaning": meaning}
    return found


def example(config: Config, size: int, seed: int = 0) -> dict[str, Tensor]:
    """Return random inputs for a batch size: a fifth of the masks is false, and times are 0.04 s apart."""
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
