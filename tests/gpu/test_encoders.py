"""What a batch of a frozen encoder costs on a GPU beside its computation."""

import pytest

pytest.importorskip("transformers", reason="needs the extra: pip install 'deiii[encoders]'")


def test_a_batch_waits_for_its_result_alone(fake_gpu):
    found = fake_gpu.run("encoders")
    assert found.keys() == {"mobilenet", "WavLM", "Whisper", "Dinov2"}
    for seen in found.values():  # three batches
        assert seen["waits"] == ["cudaEventSynchronize"] * 3 and seen["allocations"] == []
        assert [copy for copy in seen["copies"] if copy != "D2D"] == ["H2D-pinned", "D2H-pinned"] * 3
