"""Settings of the calling program: hidden within a block, and restored after the last one."""

from __future__ import annotations

import multiprocessing
import threading

import pytest
import torch

from deiii.data.tools.processes.torch_defaults import cudnn_flags, usual_defaults


@pytest.fixture
def changed():
    """Let the program have float64, half-precision products and the device meta."""
    torch.set_default_dtype(torch.float64)
    torch.set_float32_matmul_precision("medium")
    torch.set_default_device("meta")
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_float32_matmul_precision("highest")
    torch.set_default_device(None)


def found() -> tuple[torch.dtype, str, str]:
    return torch.get_default_dtype(), torch.get_default_device().type, torch.get_float32_matmul_precision()


def test_a_block_has_the_usual_defaults_and_the_caller_gets_its_own_back(changed):
    with pytest.raises(KeyError), usual_defaults():
        assert found() == (torch.float32, "cpu", "highest")
        raise KeyError
    assert found() == (torch.float64, "meta", "medium")


def test_blocks_of_two_threads_that_end_in_another_order_restore_the_settings(changed):
    first, second = threading.Event(), threading.Event()

    def other():
        with usual_defaults():
            first.set()
            second.wait(10)
            assert torch.get_default_dtype() is torch.float32

    thread = threading.Thread(target=other)
    with usual_defaults():
        thread.start()
        assert first.wait(10)
    assert torch.get_default_dtype() is torch.float32  # the other block has not ended
    second.set()
    thread.join()
    assert found() == (torch.float64, "meta", "medium")


def test_autocast_and_inference_mode_are_off():
    x = torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        with usual_defaults():
            inside = x @ x
        half = x @ x
        assert (x @ x).is_inference()
    assert inside.dtype is torch.float32 and half.dtype is torch.bfloat16
    assert not inside.is_inference()


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_process_computes_after_its_parent_has_used_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.ones(1_000_000).mul_(2).sum() == 2e6
        context = multiprocessing.get_context("fork")
        answer = context.SimpleQueue()
        child = context.Process(target=_compute, args=(answer,), daemon=True)
        child.start()
        child.join(20)
        alive = child.is_alive()
        child.kill()
        assert not alive and answer.get() == (2e6, 1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def _compute(answer) -> None:
    with usual_defaults():
        answer.put((torch.ones(1_000_000).mul_(2).sum().item(), torch.get_num_threads()))


def flags() -> tuple[bool, bool, bool]:
    """The flags of cuDNN, which PyTorch also keeps on a machine without a GPU."""
    cudnn = torch.backends.cudnn
    return cudnn.enabled, cudnn.deterministic, cudnn.allow_tf32


def test_flags_of_cudnn_are_restored_where_blocks_of_two_threads_overlap():
    """The block that ended first took the flags of the other, which left its own to the caller."""
    before = flags()
    first, second = threading.Event(), threading.Event()
    found = []

    def other():
        with cudnn_flags("cuda", enabled=True, deterministic=True, allow_tf32=False):
            first.set()
            second.wait(0.5)
            found.append(flags())

    def third():
        with cudnn_flags(torch.device("cuda", 0), enabled=True, allow_tf32=False):
            second.set()
            found.append(flags())

    threads = [threading.Thread(target=other)]
    threads[0].start()
    assert first.wait(10)
    threads.append(threading.Thread(target=third))
    threads[1].start()
    for thread in threads:
        thread.join(10)
    assert found == [(True, True, False), (True, False, False)]
    assert flags() == before


def test_flags_of_nested_blocks_and_after_an_error():
    before = flags()
    with pytest.raises(KeyError), cudnn_flags("cuda", enabled=True, allow_tf32=False):
        with cudnn_flags("cuda", enabled=False):
            assert not torch.backends.cudnn.enabled
        assert flags() == (True, False, False)
        raise KeyError
    assert flags() == before


def test_on_the_cpu_flags_of_cudnn_are_neither_read_nor_set():
    """Reading them is an error in a program that has set the precision of its convolutions by operation."""
    convolutions = torch.backends.cudnn.conv
    own = convolutions.fp32_precision
    convolutions.fp32_precision = "ieee"
    try:
        with cudnn_flags("cpu", enabled=True, deterministic=True, allow_tf32=False):
            assert convolutions.fp32_precision == "ieee"
    finally:
        convolutions.fp32_precision = own
