"""Whether the parts of an export belong together: the entries of ``deiii.json``, and the network beside it.

Nothing here needs PyTorch, so that the inputs can be checked before a network is loaded without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deiii.data.cache.stages import network_stages
from deiii.data.config.schema import Config
from deiii.data.loader.sampling import evaluation_hops, flow_channels
from deiii.data.tools.counts import counted

DTYPES = {"float32": "tensor(float)", "bool": "tensor(bool)"}  # types of inputs in ONNX files, by name
FUSED = "fused"  # the head whose outputs are the prediction


def input_shapes(config: Config) -> dict[str, tuple[list[Any], str]]:
    """Return shape (``B`` is the batch) and dtype of each input of a network, ``model.extra`` left out.

    >>> input_shapes(Config())["audio_mask"]
    (['B', 160], 'bool')
    """
    m = config.model
    steps, size, hops = config.loader.steps, config.loader.crop, evaluation_hops(config.loader)
    video = m.video or m.flow
    known: dict[str, tuple[bool, list[Any], str]] = {
        "frames": (m.video, ["B", steps, 3, size, size], "float32"),
        "flow": (m.flow, ["B", steps, flow_channels(config.loader), size, size], "float32"),
        "video_time": (video, ["B", steps], "float32"),
        "video_mask": (video, ["B", steps], "bool"),
        "flow_mask": (video, ["B", steps], "bool"),
        "logmel": (m.audio, ["B", hops, config.logmel.n_mels], "float32"),
        "audio_time": (m.audio, ["B", hops], "float32"),
        "audio_mask": (m.audio, ["B", hops], "bool"),
    }
    return {name: (shape, dtype) for name, (used, shape, dtype) in known.items() if used}


def contradiction(config: Config, manifest: Mapping[str, Any]) -> str:
    """Return how entries of ``deiii.json`` contradict its settings; empty where they agree.

    Args:
        config: the settings.
        manifest: content of ``deiii.json``, whose entries have the right types
            (`deiii.model.prediction.checks.entries`).

    >>> manifest = {"settings": {}, "classes": ["sad"], "attributes": [], "inputs": {}}
    >>> contradiction(Config(), manifest)
    'its settings have no loader'
    """
    for section in ("loader", "model", *network_stages(config.model)):
        if section not in manifest["settings"]:
            return f"its settings have no {section}"
    if manifest["attributes"] != list(config.model.attributes):
        names, wanted = (", ".join(a) or "none" for a in (manifest["attributes"], config.model.attributes))
        return f"its attributes are {names}, in its settings (model.attributes) {wanted}"
    if manifest["classes"] and not config.model.classes:
        return f"it has {counted(len(manifest['classes']), 'class', 'classes')}, but model.classes is false"
    if (config.model.video or config.model.flow) and config.loader.crop > config.faces.size:
        return f"its settings have loader.crop={config.loader.crop}, but faces.size={config.faces.size}"
    wanted_inputs = input_shapes(config)
    found = {name: (about["shape"], about["dtype"]) for name, about in manifest["inputs"].items()}
    for name in [*wanted_inputs, *found]:
        wanted_input, listed = wanted_inputs.get(name), found.get(name)
        if wanted_input is None and name.rpartition("_")[0] in config.model.extra:
            continue  # the weights of the network determine its size
        if listed != wanted_input:
            return (
                f"its input {name} is {_described(listed)}, by its settings it is {_described(wanted_input)}"
            )
    return ""


def other_network(manifest: Mapping[str, Any], inputs: Sequence[Any], outputs: Sequence[Any]) -> str:
    """Return how the program in ``model.onnx`` differs from ``deiii.json``; empty where it does not.

    Args:
        manifest: content of ``deiii.json``.
        inputs, outputs: inputs and outputs of the program, as onnxruntime lists them: each has ``name``,
            ``type`` and ``shape``, whose first two entries (outputs: the first one) are names of free axes.
    """
    wanted = {
        name: (list(about["shape"][2:]), DTYPES.get(about["dtype"], about["dtype"]))
        for name, about in manifest["inputs"].items()
    }
    found = {one.name: (list(one.shape[2:]), one.type) for one in inputs}
    for name in [*wanted, *found]:
        if wanted.get(name) != found.get(name):
            here, there = (_described(one.get(name)) for one in (found, wanted))
            return f"its input {name} is {there} (each row), in model.onnx it is {here}"
    sizes = {one.name: one.shape[-1] if len(one.shape) > 1 else 1 for one in outputs}
    heads = dict.fromkeys(name.partition("_")[0] for name in (f"{FUSED}_", *sizes))
    counts = {
        "probabilities": len(manifest["classes"]),
        "attributes": len(manifest["attributes"]),
        "present": 1,
    }
    nouns = {"probabilities": ("class", "classes"), "attributes": ("attribute", "attributes")}
    for head in heads:
        for kind, count in counts.items():
            if head != FUSED and f"{head}_{kind}" not in sizes:
                continue  # only the prediction must have all
            size = sizes.pop(f"{head}_{kind}", 0)
            if isinstance(size, int) and size != count:  # the size of an axis with a name is not known
                if kind not in nouns:
                    return f"model.onnx has no output {head}_{kind}"
                return f"it has {counted(count, *nouns[kind])}, model.onnx has {size} (output {head}_{kind})"
    return f"model.onnx has an unknown output {next(iter(sizes))}" if sizes else ""


def _described(about: tuple[list[Any], str] | None) -> str:
    """Return shape and type of an input in words."""
    return "absent" if about is None else f"[{', '.join(map(str, about[0]))}] {about[1]}"
