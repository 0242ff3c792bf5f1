"""Copies to the GPU on a stream of their own are ordered with the computation."""


def test_no_copy_runs_before_its_buffer_is_ready(fake_gpu):
    """Also the first copy into a buffer waits, for the zeros that are written when the buffer is made."""
    found = fake_gpu.run("copies")
    assert found["batches"] == 4
    assert found["calls"] == ["wait-event", "copy"] * 4
