"""ONNX files of other inputs and outputs: types, an axis of one channel, masks, lengths, pooled maps."""

from __future__ import annotations

import numpy as np
import pytest

from deiii.data.config.load import load_config
from deiii.data.tools.weights import WeightsError
from deiii.pipeline.encoders.load import load_encoder
from tests.helpers.onnx_maker import (
    BOOL,
    DOUBLE,
    FLOAT,
    FLOAT16,
    INT64,
    UINT8,
    node,
    number,
    tensor,
    text,
    value,
    write,
)  # fmt: skip

HOP = 320
FILTERS = np.random.default_rng(0).normal(scale=0.05, size=(6, 1, HOP)).astype(np.float32)
SAMPLES = np.random.default_rng(1).normal(scale=0.1, size=(2, 3200)).astype(np.float32)
CROPS = np.random.default_rng(2).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)


def network(stage: str, path: str, *words: str):
    words = (f"stages=[{stage}]", f"{stage}.encoder={path}", "speech.rate=0", *words)
    return load_encoder(getattr(load_config(overrides=list(words)), stage)).network


def rows_of(samples: np.ndarray, filters: np.ndarray = FILTERS) -> np.ndarray:
    """Rows [B,R,D] by an independent computation."""
    return np.einsum("brk,dk->brd", samples.reshape(len(samples), -1, HOP), filters[:, 0])


def speech(path, kind=FLOAT, length="n", channel=False, further=(), outputs=("rows",), filters=FILTERS):
    """A network of samples, times the mask and plus length and rate as far as it has these inputs."""
    nodes = [node("Cast", ["samples"], ["float"], to=FLOAT)]
    last = "float"
    if any("mask" in name for name, _, _ in further):
        nodes += [
            node("Cast", ["attention_mask"], ["mask"], to=FLOAT),
            node("Mul", [last, "mask"], ["hidden"]),
        ]
        last = "hidden"
    if not channel:
        nodes.append(node("Unsqueeze", [last, "one"], ["channel"]))
        last = "channel"
    nodes += [
        node("Conv", [last, "filters"], ["columns"], strides=[HOP]),
        node("Transpose", ["columns"], ["plain"], perm=[0, 2, 1]),
    ]
    last = "plain"
    for name, _, _ in further:
        if "mask" not in name:
            nodes.append(node("Cast", [name], [f"{name}_float"], to=FLOAT))
            added = f"{name}_float"
            if "length" in name:
                nodes.append(node("Unsqueeze", [added, "places"], ["wide"]))
                added = "wide"
            nodes.append(node("Add", [last, added], [f"with_{name}"]))
            last = f"with_{name}"
    nodes += [
        node("Identity", [last], ["rows"]),
        node("ReduceMean", ["rows"], ["mean"], axes=[1], keepdims=0),
        node("Shape", ["rows"], ["sizes"]),
    ]
    tensors = [
        tensor("one", np.array([1], np.int64)), tensor("places", np.array([1, 2], np.int64)),
        tensor("filters", filters),
    ]  # fmt: skip
    shape = ["B", 1, length] if channel else ["B", length]
    given = [value(name, axes, what) for name, axes, what in further]
    shapes = {"rows": value("rows", ["B", "R", len(filters)]), "mean": value("mean", ["B", len(filters)]),
              "sizes": value("sizes", [3], INT64)}  # fmt: skip
    return write(path, nodes, tensors, [*given, value("samples", shape, kind)], [shapes[n] for n in outputs])


@pytest.mark.parametrize("kind", [FLOAT, FLOAT16, DOUBLE])
@pytest.mark.parametrize("channel", [False, True])
def test_samples_are_given_in_the_type_and_axes_of_the_file(tmp_path, kind, channel):
    path = speech(tmp_path / "a.onnx", kind, channel=channel)
    found = network("speech", path)(SAMPLES)
    assert found.dtype == np.float32 and found.shape == (2, 10, 1, 6)
    rounded = SAMPLES.astype(np.float16) if kind == FLOAT16 else SAMPLES
    np.testing.assert_allclose(found[:, :, 0], rows_of(rounded.astype(np.float32)), atol=1e-5)


@pytest.mark.parametrize("kind", [INT64, FLOAT, BOOL])
def test_a_mask_hides_nothing_of_a_window(tmp_path, kind):
    path = speech(tmp_path / "a.onnx", further=[("attention_mask", ["B", "n"], kind)])
    np.testing.assert_allclose(network("speech", path)(SAMPLES)[:, :, 0], rows_of(SAMPLES), atol=1e-5)


def test_a_mask_hides_the_padding_of_a_file_of_fixed_length(tmp_path):
    """The filter counts the samples that the mask leaves, because the padding is added before the ones."""
    path = tmp_path / "a.onnx"
    nodes = [
        node("Cast", ["attention_mask"], ["mask"], to=FLOAT),
        node("Mul", ["samples", "zero"], ["nothing"]),
        node("Add", ["nothing", "mask"], ["counted"]),
        node("Unsqueeze", ["counted", "one"], ["channel"]),
        node("Conv", ["channel", "filters"], ["columns"], strides=[HOP]),
        node("Transpose", ["columns"], ["rows"], perm=[0, 2, 1]),
    ]
    tensors = [
        tensor("one", np.array([1], np.int64)), tensor("zero", np.zeros(1, np.float32)),
        tensor("filters", np.ones((1, 1, HOP), np.float32)),
    ]  # fmt: skip
    given = [value("samples", ["B", 3200]), value("attention_mask", ["B", 3200], INT64)]
    write(path, nodes, tensors, given, [value("rows", ["B", 10, 1])])
    encode = network("speech", str(path), "speech.window=0.2", "speech.step=0.1")
    assert encode(SAMPLES[:, :1000])[..., 0, 0].tolist() == [[320, 320, 320, 40]] * 2
    lengths = encode.ragged([SAMPLES[0, :640], SAMPLES[1, :700]])
    assert [rows[:, 0, 0].tolist() for rows in lengths] == [[320, 320], [320, 320, 60]]


def test_length_and_rate_are_given(tmp_path):
    further = [("input_lengths", ["B"], INT64), ("sr", [], INT64)]
    path = speech(tmp_path / "a.onnx", further=further)
    found = network("speech", path)(SAMPLES)[:, :, 0]
    np.testing.assert_allclose(found, rows_of(SAMPLES) + 3200 + 16000, rtol=1e-6)


@pytest.mark.parametrize("outputs", [("rows", "mean", "sizes"), ("sizes", "rows"), ("rows", "sizes")])
def test_the_last_suitable_output_is_taken(tmp_path, outputs):
    path = speech(tmp_path / "a.onnx", outputs=outputs)
    np.testing.assert_allclose(network("speech", path)(SAMPLES)[:, :, 0], rows_of(SAMPLES), atol=1e-5)


def test_what_an_audio_file_needs_beyond_audio_is_named(tmp_path):
    path = speech(tmp_path / "a.onnx", further=[("input_ids", ["B", "t"], INT64)])
    with pytest.raises(WeightsError, match="a.onnx needs input_ids beside samples"):
        network("speech", path)
    path = speech(tmp_path / "b.onnx", INT64)
    with pytest.raises(
        WeightsError, match=r"b.onnx reads 'samples' of the type tensor.int64.*texts or codes"
    ):
        network("speech", path)
    path = speech(tmp_path / "c.onnx", outputs=("mean", "sizes"))
    with pytest.raises(WeightsError, match=r"layers are outputs \[B,rows,D\].*speech.outputs="):
        network("speech", path)


def images(path, kind=FLOAT, batch="B", height=16, outputs=("pooled",), further=()):
    nodes = [
        node("Cast", ["images"], ["float"], to=FLOAT),
        node("ReduceMean", ["float"], ["pooled"], axes=[2, 3], keepdims=1),
        node("Identity", ["float"], ["map"]),
    ]
    shapes = {"pooled": value("pooled", [batch, 3, 1, 1]), "map": value("map", [batch, 3, height, 16])}
    given = [value("images", [batch, 3, height, 16], kind), *further]
    return write(path, nodes, [], given, [shapes[name] for name in outputs])


@pytest.mark.parametrize("outputs", [("pooled",), ("pooled", "map")])
@pytest.mark.parametrize("kind", [FLOAT, FLOAT16, DOUBLE, UINT8])
def test_images_are_given_in_the_type_of_the_file(tmp_path, kind, outputs):
    path = images(tmp_path / "a.onnx", kind, outputs=outputs)
    found = network("appearance", path, "appearance.pixels=0..255")(CROPS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:, 0], CROPS.mean(axis=(1, 2)), rtol=1e-4)


def test_one_image_at_a_time(tmp_path):
    words = ["stages=[appearance]", f"appearance.encoder={images(tmp_path / 'a.onnx', batch=1)}"]
    loaded = load_encoder(load_config(overrides=words).appearance)
    assert loaded.batch == 1 and loaded.network(CROPS[:1]).shape == (1, 1, 3)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"kind": UINT8}, "as bytes: set appearance.pixels=0..255 in place of imagenet"),
        ({"batch": 4}, "reads exactly 4 inputs at a time: export it with a first axis of any length"),
        ({"height": 24}, "reads images of 16x24 px, and crops are square"),
        ({"outputs": ("map",)}, r"layers are outputs \[B,D\] of one width, but map are \[1, 3, 16, 16\]"),
        ({"further": [value("pixel_mask", ["B"], INT64)]}, "needs pixel_mask beside images"),
    ],
)
def test_image_files_that_cannot_be_used_are_refused(tmp_path, changed, says):
    with pytest.raises(WeightsError, match=says):
        network("appearance", images(tmp_path / "a.onnx", **changed))


@pytest.mark.parametrize(
    ("version", "says"),
    [
        # ModelProto: opset_import is field 8 (version: 2), ir_version is field 1. The last one counts.
        (
            text(8, number(2, 99)),
            r"a.onnx cannot be used .*operator set 99.*reads up to \d+\).*opset_version=17",
        ),
        (number(1, 99), r"a.onnx cannot be used .*version 99 of the format.*update onnxruntime"),
    ],
)
def test_files_of_a_later_onnx_name_the_version_to_export(tmp_path, version, says):
    path = speech(tmp_path / "a.onnx")
    with open(path, "ab") as file:
        file.write(version)
    with pytest.raises(WeightsError, match=says):
        network("speech", path)


def test_operations_of_others_are_named(tmp_path):
    nodes = [node("Mine", ["samples"], ["rows"])]
    given, found = value("samples", ["B", "n"]), [value("rows", ["B", "r", 2])]
    path = write(tmp_path / "a.onnx", nodes, [], given, found)
    with pytest.raises(
        WeightsError, match=r"a.onnx cannot be used .*Mine.*export it with operations of ONNX"
    ):
        network("speech", path)
