"""ONNX files as encoders: nodes and outputs without the package onnx, and any file with named outputs."""

from __future__ import annotations

import numpy as np
import pytest

from deiii.data.cache.recipes import recipes, stage_keys
from deiii.data.config.load import load_config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.encoders.onnx_file import describe_onnx
from deiii.data.encoders.onnx_graph import read_nodes, with_outputs
from deiii.data.encoders.onnx_session import OnnxNetwork
from deiii.data.tools.weights import WeightsError
from deiii.pipeline.encoders.load import load_encoder
from tests.helpers.onnx_maker import image_file, node, number, speech_file, tensor, text, value, write

FILTERS = np.random.default_rng(0).normal(size=(6, 1, 320)).astype(np.float32)


def encoder_of(stage: str, path: str, *words: str):
    config = load_config(overrides=[f"stages=[{stage}]", f"{stage}.encoder={path}", *words])
    return config, load_encoder(getattr(config, stage))


def test_nodes_are_read_and_inner_values_become_outputs(tmp_path):
    path = speech_file(tmp_path / "a.onnx", FILTERS)
    model = (tmp_path / "a.onnx").read_bytes()
    assert [(n.kind, n.outputs) for n in read_nodes(model)] == [
        ("Unsqueeze", ("channel",)), ("Conv", ("columns",)), ("Transpose", ("rows",)), ("Abs", ("louder",)),
    ]  # fmt: skip
    samples = np.random.default_rng(1).normal(size=(2, 3200)).astype(np.float32)
    rows, louder = OnnxNetwork(path, ["rows", "louder"])(samples)
    expected = np.einsum("brk,dk->brd", samples.reshape(2, 10, 320), FILTERS[:, 0])
    np.testing.assert_allclose(rows, expected, atol=1e-4)
    np.testing.assert_allclose(louder, np.abs(expected), atol=1e-4)
    assert len(read_nodes(with_outputs(model, ["rows"]))) == 4


@pytest.mark.parametrize("cut", [1, 5, 40, 200])
def test_a_cut_file_is_an_error_not_a_wrong_graph(tmp_path, cut):
    path = speech_file(tmp_path / "a.onnx", FILTERS)
    (tmp_path / "a.onnx").write_bytes((tmp_path / "a.onnx").read_bytes()[:-cut])
    with pytest.raises(WeightsError, match="a.onnx"):
        OnnxNetwork(path, ["rows"])


@pytest.mark.parametrize("inside", [False, True], ids=["a weight", "a constant of a node"])
def test_weights_in_another_file_are_refused(tmp_path, monkeypatch, inside):
    """Their digest was not in the key. onnxruntime finds them if the current folder is theirs."""
    entry = text(1, "location") + text(2, "weights.bin")
    kept = b"".join(number(1, n) for n in FILTERS.shape) + number(2, 1) + text(8, "filters")
    kept += text(13, entry) + number(14, 1)
    nodes = [
        node("Unsqueeze", ["samples", "one"], ["channel"]),
        node("Conv", ["channel", "filters"], ["columns"], strides=[320]),
        node("Transpose", ["columns"], ["rows"], perm=[0, 2, 1]),
    ]
    if inside:
        constant = text(5, text(1, "value") + text(5, kept) + number(20, 4))
        nodes.insert(0, node("Constant", [], ["filters"]) + constant)
    tensors = [tensor("one", np.array([1], np.int64)), *([] if inside else [kept])]
    write(tmp_path / "a.onnx", nodes, tensors, value("samples", ["B", "n"]), [value("rows", ["B", "R", 6])])
    (tmp_path / "weights.bin").write_bytes(FILTERS.tobytes())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match="a.onnx keeps its weights in other files .weights.bin."):
        encoder_of("speech", "a.onnx")


def test_names_of_outputs_are_layers(tmp_path):
    path = speech_file(tmp_path / "a.onnx", FILTERS)
    config, encoder = encoder_of("speech", path, "speech.outputs=[rows,louder]", "speech.rate=0")
    assert (encoder.choice.encoder.width, encoder.choice.layers, encoder.choice.encoder.hop) == (
        6,
        (1, 2),
        320,
    )
    samples = np.random.default_rng(2).normal(size=(1, 3200)).astype(np.float32)
    found = encoder.network(samples)
    np.testing.assert_allclose(np.abs(found[:, :, 0]), found[:, :, 1], atol=1e-5)
    _, second = encoder_of("speech", path, "speech.outputs=[rows,louder]", "speech.layers=[2]")
    np.testing.assert_array_equal(second.network(samples)[:, :, 0], found[:, :, 1])
    _, last = encoder_of("speech", path)
    np.testing.assert_array_equal(last.network(samples)[:, :, 0], found[:, :, 1])
    params = recipes(config)["speech"].provenance["params"]
    assert params["encoder"] == "onnx" and params["outputs"] == ["rows", "louder"]


def test_a_file_of_fixed_length_gets_zeros_at_the_end(tmp_path):
    path = speech_file(tmp_path / "fixed.onnx", FILTERS, 32000)
    _, encoder = encoder_of("speech", path, "speech.rate=0")
    assert encoder.choice.window == 32000
    samples = np.random.default_rng(3).normal(size=(1, 16000)).astype(np.float32)
    free = encoder_of("speech", speech_file(tmp_path / "free.onnx", FILTERS))[1]
    np.testing.assert_allclose(encoder.network(samples), free.network(samples), atol=1e-4)


@pytest.mark.parametrize("length", [32000, 32100])
def test_a_file_of_fixed_length_reads_no_longer_windows(tmp_path, length):
    path = speech_file(tmp_path / "fixed.onnx", FILTERS, length)
    assert encoder_of("speech", path)[1].choice.window == 32000
    with pytest.raises(ConfigError, match="speech.window=4: the encoder onnx reads at most 2"):
        encoder_of("speech", path, "speech.window=4", "speech.step=2")


@pytest.mark.parametrize("hop", [200, 256, 512])
def test_rows_at_other_distances_than_5_ms_are_refused_not_misplaced(tmp_path, hop):
    path = speech_file(tmp_path / "odd.onnx", FILTERS, hop=hop)
    with pytest.raises(WeightsError, match=f"a row every {hop} samples"):
        encoder_of("speech", path, "speech.rate=0")


@pytest.mark.parametrize("length", ["n", 128_000])
def test_outputs_of_other_numbers_of_rows_are_refused_before_work(tmp_path, length):
    """They were accepted, and every clip failed with an error that asked for a bug report."""
    nodes = [node("Unsqueeze", ["samples", "one"], ["channel"])]
    for name, hop in (("fine", 320), ("coarse", 640)):
        nodes.append(node("MaxPool", ["channel"], [f"{name}_columns"], kernel_shape=[hop], strides=[hop]))
        nodes.append(node("Transpose", [f"{name}_columns"], [name], perm=[0, 2, 1]))
    outputs = [value(name, ["B", f"rows of {name}", 1]) for name in ("fine", "coarse")]
    one = [tensor("one", np.array([1], np.int64))]
    path = write(tmp_path / "two.onnx", nodes, one, value("samples", ["B", length]), outputs)
    with pytest.raises(WeightsError, match=r"layers are outputs \[B,rows,D\] of as many rows and one width"):
        encoder_of("speech", path, "speech.outputs=[fine,coarse]")
    assert encoder_of("speech", path, "speech.outputs=[coarse]")[1].choice.encoder.hop == 640


def test_key_is_that_of_the_file_wherever_it_lies(tmp_path):
    def key(path, *words):
        return stage_keys(load_config(overrides=["stages=[speech]", f"speech.encoder={path}", *words]))[
            "speech"
        ]

    a = speech_file(tmp_path / "a.onnx", FILTERS)
    b = speech_file(tmp_path / "b.onnx", FILTERS)
    assert key(a) == key(b) == key("onnx", f"speech.weights={a}")
    assert key(a, "speech.outputs=[rows]") != key(a)
    assert key(speech_file(tmp_path / "c.onnx", FILTERS + 1)) != key(a)


@pytest.mark.parametrize("channels_first", [True, False])
def test_images_reach_a_file_at_its_size_and_in_the_pixels_named(tmp_path, channels_first):
    path = image_file(tmp_path / "i.onnx", 8, channels_first)
    crops = np.zeros((2, 16, 16, 3), np.uint8)
    crops[1] = [255, 51, 0]
    words = "appearance.outputs=[means,squares]", "appearance.pixels=-1..1"
    config, encoder = encoder_of("appearance", path, *words)
    found = encoder.network(crops)
    np.testing.assert_allclose(found[:, 0], [[-1, -1, -1], [1, -0.6, -1]], atol=1e-6)
    np.testing.assert_allclose(found[:, 1], found[:, 0] ** 2, atol=1e-6)
    other = load_config(overrides=["stages=[appearance]", f"appearance.encoder={path}"])
    assert stage_keys(other)["appearance"] != stage_keys(config)["appearance"]


def test_files_that_couple_the_windows_of_a_call_get_one_at_a_time(tmp_path):
    """Dynamic quantisation takes its scale from the whole call; a file may also fix the batch to one."""
    free = encoder_of("speech", speech_file(tmp_path / "free.onnx", FILTERS), "speech.batch=5")[1]
    assert free.batch == 5 and free.choice.encoder.batched
    scaled = [
        node("DynamicQuantizeLinear", ["samples"], ["q", "scale", "zero"]),
        node("DequantizeLinear", ["q", "scale", "zero"], ["rounded"]),
        node("Unsqueeze", ["rounded", "one"], ["channel"]),
        node("MaxPool", ["channel"], ["columns"], kernel_shape=[320], strides=[320]),
        node("Transpose", ["columns"], ["rows"], perm=[0, 2, 1]),
    ]
    one = [tensor("one", np.array([1], np.int64))]
    given, out = value("samples", ["B", "n"]), [value("rows", ["B", "R", 1])]
    path = write(tmp_path / "scaled.onnx", scaled, one, given, out)
    samples = np.stack([np.full(3200, 0.01, np.float32), np.full(3200, 1.0, np.float32)])
    found = OnnxNetwork(path, ["rows"])(samples)[0], OnnxNetwork(path, ["rows"])(samples[:1])[0]
    assert abs(found[0][0] - found[1][0]).max() > 1e-4  # the reason
    assert not describe_onnx("speech", path, ()).batched
    alone = write(tmp_path / "one.onnx", scaled[2:], one, value("rounded", [1, "n"]), out)
    assert not describe_onnx("speech", alone, ()).batched


def test_files_that_are_no_encoders_are_refused_with_a_reason(tmp_path):
    audio = speech_file(tmp_path / "a.onnx", FILTERS)
    image = image_file(tmp_path / "i.onnx", 8, True)
    flat = write(
        tmp_path / "flat.onnx",
        [node("Abs", ["x"], ["y"])],
        [],
        value("x", ["B", "n"]),
        [value("y", ["B", "n"])],
    )
    for stage, path, words, says in (
        ("speech", image, [], "takes samples"),
        ("appearance", audio, [], "images are"),
        ("speech", flat, [], r"layers are outputs \[B,rows,D\]"),
        ("speech", audio, ["speech.outputs=[rows,nothing]"], "computes no value 'nothing'"),
        ("speech", audio, ["speech.outputs=[columns]"], "more rows for longer audio"),
        ("speech", str(tmp_path / "none.onnx"), [], "no such ONNX file"),
        ("speech", "onnx", [], "set speech.weights"),
    ):
        with pytest.raises(WeightsError, match=says):
            encoder_of(stage, path, *words)
    with pytest.raises(ConfigError, match="one vector of a crop"):
        encoder_of("appearance", image, "appearance.grid=2")
