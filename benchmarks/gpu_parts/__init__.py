"""The parts of `benchmarks.gpu_check`; `python -m benchmarks.gpu_parts NAME` runs one."""
