"""Stored flow stays within the errors that the stage promises."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deiii.data.cache.flow_codec import decode_flow, encode_flow
from deiii.data.cache.flow_codec_torch import decode_tensor, encode_tensor


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    largest=st.sampled_from([1e-38, 1e-6, 0.01, 1.0, 5.0, 128.0]),
    storage=st.sampled_from(["int8", "float16"]),
)
def test_worst_error_is_below_one_percent_of_the_frames_largest_flow(seed, largest, storage):
    flow = np.random.default_rng(seed).uniform(-largest, largest, (3, 8, 8, 2)).astype(np.float32)
    flow[1] *= 0.1  # frames are scaled one by one
    error = np.linalg.norm(decode_flow(encode_flow(flow, storage)) - flow, axis=3).max(axis=(1, 2))
    longest = np.linalg.norm(flow, axis=3).max(axis=(1, 2))
    assert (error <= 0.01 * longest + 1e-7).all()


def test_mean_error_of_flow_up_to_five_px_is_below_two_hundredths():
    flow = np.random.default_rng(0).uniform(-5, 5, (4, 64, 64, 2)).astype(np.float32)
    error = np.linalg.norm(decode_flow(encode_flow(flow, "int8")) - flow, axis=3)
    assert error.mean() <= 0.02


def test_int8_matches_rounding_written_out():
    flow = np.array([2.54, -1.27, 0.5, 0.0, 0.011, -0.011, 1.0, -2.54], np.float32).reshape(1, 2, 2, 2)
    stored = encode_flow(flow, "int8")
    assert stored["flow"].dtype == np.int8 and stored["scale"].dtype == np.float32
    np.testing.assert_allclose(stored["scale"], [0.02])
    np.testing.assert_array_equal(stored["flow"].ravel(), [127, -64, 25, 0, 1, -1, 50, -127])


def test_zero_stays_zero_and_each_form_has_its_fields():
    zero = np.zeros((2, 8, 8, 2), np.float32)
    assert set(encode_flow(zero, "int8")) == {"flow", "scale"}
    assert set(encode_flow(zero, "float16")) == {"flow"}
    for storage in ("int8", "float16"):
        assert not decode_flow(encode_flow(zero, storage)).any()
        assert encode_flow(np.zeros((0, 8, 8, 2), np.float32), storage)["flow"].shape == (0, 8, 8, 2)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    largest=st.sampled_from([0.0, 1e-44, 1e-38, 1e-6, 1.0, 5.0, 128.0, 60000.0]),
    storage=st.sampled_from(["int8", "float16"]),
)
def test_the_tensor_form_encodes_to_the_same_bits(seed, largest, storage):
    flow = np.random.default_rng(seed).uniform(-largest, largest, (3, 8, 8, 2)).astype(np.float32)
    flow[1] = 0
    here, there = encode_flow(flow, storage), encode_tensor(torch.from_numpy(flow), storage)
    assert here.keys() == there.keys()
    for name, array in here.items():
        assert array.dtype == there[name].numpy().dtype and array.tobytes() == there[name].numpy().tobytes()


@pytest.mark.parametrize("storage", ["int8", "float16"])
def test_the_tensor_form_decodes_to_the_same_numbers(storage):
    flow = np.random.default_rng(1).normal(0, 2, (5, 8, 8, 2)).astype(np.float32)
    stored = encode_flow(flow, storage)
    tensors = {k: torch.from_numpy(v) for k, v in stored.items()}
    np.testing.assert_array_equal(
        decode_tensor(tensors["flow"], tensors.get("scale")).numpy(), decode_flow(stored)
    )


def test_what_cannot_be_stored_is_refused():
    flow = np.zeros((1, 8, 8, 2), np.float32)
    flow[0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        encode_flow(flow, "int8")
    flow[0, 0, 0, 0] = 1e6
    with pytest.raises(ValueError, match="float16"):
        encode_flow(flow, "float16")
    with pytest.raises(ValueError, match="int8 or float16"):
        encode_flow(flow, "int4")
    with pytest.raises(ValueError, match="scale"):
        decode_tensor(torch.zeros(1, 8, 8, 2, dtype=torch.int8))
