"""The cost of a training: time, processor time and GPU time. Energy is not measured."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

from deiii.data.tools.machine import processor, usable_cores

SUMMED = ("wall_seconds", "cpu_seconds", "gpu_seconds")


class Cost:
    """Measures the cost of a training, which begins when the object is made.

    Args:
        device: device of the training.
        processes: number of processes that train together, one for each GPU.

    >>> Cost(torch.device("cpu"), 1).so_far()["gpu_seconds"]
    0.0
    """

    def __init__(self, device: torch.device, processes: int):
        self.device = device
        self.processes = processes
        self._wall = time.perf_counter()
        self._cpu = time.process_time()

    def so_far(self) -> dict[str, Any]:
        """Return the figures of ``cost`` in ``run.json``.

        ``gpu_seconds`` is the time during which the GPUs were held, times their number: a GPU that several
        runs share counts for each. ``cpu_seconds`` is the time of all threads of the first process.
        """
        wall = time.perf_counter() - self._wall
        on_gpu = self.device.type == "cuda"
        found: dict[str, Any] = {
            "wall_seconds": round(wall, 3),
            "cpu_seconds": round(time.process_time() - self._cpu, 3),
            "gpu_seconds": round(wall * self.processes, 3) if on_gpu else 0.0,
            "processes": self.processes,
            "processor": processor(),
            "cores": usable_cores(),
            "gpu": torch.cuda.get_device_name(self.device) if on_gpu else None,
        }
        if on_gpu:
            found["gpu_memory_bytes"] = torch.cuda.max_memory_reserved(self.device)
        return found


def joined_cost(before: Mapping[str, Any] | None, part: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cost of a run whose earlier parts took ``before``; the machine is the latest one's.

    >>> joined_cost({"wall_seconds": 2.0}, {"wall_seconds": 1.5, "gpu": None})["wall_seconds"]
    3.5
    """
    before = before or {}
    sums = {name: round(before.get(name, 0.0) + part.get(name, 0.0), 3) for name in SUMMED}
    return {**part, **sums, "parts": before.get("parts", 0) + 1}


def cost_text(cost: Mapping[str, Any]) -> str:
    """Return the cost in one line.

    >>> cost_text({"wall_seconds": 90, "cpu_seconds": 170, "gpu_seconds": 0, "processor": "x", "cores": 2})
    '90 s, 170 s of processor time (x, 2 cores)'
    """
    text = f"{cost['wall_seconds']:.0f} s, {cost['cpu_seconds']:.0f} s of processor time "
    text += f"({cost['processor']}, {cost['cores']} core{'s' if cost['cores'] != 1 else ''})"
    if cost["gpu_seconds"]:
        text += f", {cost['gpu_seconds']:.0f} GPU seconds ({cost['gpu']})"
    return text
