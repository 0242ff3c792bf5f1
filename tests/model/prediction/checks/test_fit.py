"""What ``deiii.json`` says is compared with its settings, and with the inputs and outputs of the program."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from deiii.data.config.load import parse_config
from deiii.data.config.schema import Config
from deiii.model.prediction.checks.fit import contradiction, input_shapes, other_network


def manifest_of(config: Config, **changes) -> dict:
    """The manifest of an export with these settings and two classes."""
    inputs = {name: {"shape": shape, "dtype": dtype} for name, (shape, dtype) in input_shapes(config).items()}
    sections = ("loader", "model", "faces", "flow", "logmel")
    found = {"settings": dict.fromkeys(sections, {}), "classes": ["a", "b"], "inputs": inputs}
    return {**found, "attributes": list(config.model.attributes), **changes}


@pytest.mark.parametrize("words", [[], ["model.flow=false"], ["model.audio=false"], ["model.extra=[speech]"]])
def test_an_export_agrees_with_its_settings(words):
    config = parse_config("stages: [faces, flow, logmel, speech]", words)
    manifest = manifest_of(config)
    manifest["settings"]["speech"] = {}
    assert contradiction(config, manifest) == ""


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ("logmel.n_mels=64", "its input logmel is [B, 160, 80] float32, by its settings it is [B, 160, 64]"),
        ("loader.crop=64", "its input frames is"),
        ("loader.steps=5", "its input frames is"),
        ("loader.eval_audio_steps=99", "its input logmel is"),
        ("model.audio=false", "its input logmel is [B, 160, 80] float32, by its settings it is absent"),
        ("model.flow=false", "its input flow is"),
        ("model.attributes=[valence]", "its attributes are none, in its settings (model.attributes) valence"),
        ("faces.size=40", "loader.crop=88, but faces.size=40"),
    ],
)
def test_settings_of_another_network_are_named(changed, found):
    manifest = manifest_of(Config())
    config = Config()
    section, _, rest = changed.partition(".")
    name, _, value = rest.partition("=")
    kinds = {"false": False, "[valence]": ["valence"]}
    setattr(getattr(config, section), name, kinds[value] if value in kinds else int(value))
    assert found.replace("88", str(Config().loader.crop)) in contradiction(config, manifest)


def test_classes_without_the_switch_and_missing_sections_are_named():
    config = parse_config("model: {classes: false, attributes: [valence]}", [])
    assert "2 classes, but model.classes is false" in contradiction(config, manifest_of(config))
    assert contradiction(config, manifest_of(config, classes=[])) == ""
    manifest = manifest_of(Config())
    del manifest["settings"]["logmel"]
    assert contradiction(Config(), manifest) == "its settings have no logmel"


def tensors(sizes: dict[str, list]) -> list:
    return [
        SimpleNamespace(name=name, shape=shape, type="tensor(bool)" if "mask" in name else "tensor(float)")
        for name, shape in sizes.items()
    ]


INPUTS = {"logmel": ["batch", "hops", 80], "audio_mask": ["batch", "hops"]}
OUTPUTS = {"fused_probabilities": ["batch", 2], "fused_present": ["batch"]}
LISTED = {
    "logmel": {"shape": ["B", 160, 80], "dtype": "float32"},
    "audio_mask": {"shape": ["B", 160], "dtype": "bool"},
}


@pytest.mark.parametrize(
    ("inputs", "outputs", "found"),
    [
        ({}, {}, ""),
        ({}, {"audio_probabilities": ["batch", 2], "audio_present": ["batch"]}, ""),
        ({}, {"fused_probabilities": ["batch", "C"]}, ""),  # the name of an axis tells nothing
        ({}, {"fused_probabilities": ["batch", 3]}, "it has 2 classes, model.onnx has 3"),
        ({}, {"audio_probabilities": ["batch", 1]}, "model.onnx has 1 (output audio_probabilities)"),
        ({}, {"fused_attributes": ["batch", 1]}, "it has 0 attributes, model.onnx has 1"),
        ({}, {"fused_probabilities": None}, "model.onnx has 0 (output fused_probabilities)"),
        ({}, {"fused_present": None}, "model.onnx has no output fused_present"),
        ({}, {"strange": ["batch", 2]}, "unknown output strange"),
        ({"logmel": ["batch", "hops", 64]}, {}, "input logmel is [80] tensor(float) (each row), in"),
        ({"audio_mask": None}, {}, "its input audio_mask is [] tensor(bool) (each row), in model.onnx it is"),
        ({"flow_mask": ["batch", "steps"]}, {}, "its input flow_mask is absent"),
    ],
)
def test_a_program_of_another_network_is_named(inputs, outputs, found):
    both = [{n: s for n, s in {**a, **b}.items() if s} for a, b in ((INPUTS, inputs), (OUTPUTS, outputs))]
    manifest = {"classes": ["a", "b"], "attributes": [], "inputs": LISTED}
    told = other_network(manifest, *map(tensors, both))
    assert found in told and bool(found) == bool(told)
