"""Run one part of `benchmarks.gpu_check`, by its name."""

from __future__ import annotations

import sys

from benchmarks.gpu_parts import flow, steps, training, whole

MODULES = (whole, flow, training, steps)

if __name__ == "__main__":
    by_name = {name: value for module in MODULES for name, value in vars(module).items()}
    by_name[f"part_{sys.argv[1]}"]()
