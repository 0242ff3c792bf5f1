"""What the fake GPU logs of a few operations whose launches are known."""

from __future__ import annotations

import json

import torch

from tests.gpu.fake_gpu import recorded


def main() -> None:
    torch.zeros(1, device="cuda")
    pinned = torch.ones(4).pin_memory()
    graph = torch.cuda.CUDAGraph()
    held = torch.zeros(4, device="cuda")
    with recorded() as sums:
        held + 1
        held @ held
    with recorded() as sends:
        pinned.to("cuda", non_blocking=True)
    with recorded() as blocking:
        torch.tensor([1.0, 2.0], device="cuda")
    with recorded() as item:
        held.sum().item()
    with recorded() as capture:
        with torch.cuda.graph(graph):
            held.add_(1).mul_(2)
    with recorded() as replay:
        graph.replay()
    with recorded() as refused:
        try:
            with torch.cuda.graph(torch.cuda.CUDAGraph()):
                held.sum().item()
        except Exception as error:
            print(type(error).__name__, error)
    result = {
        "sums": sums.launches,
        "sums_syncs": sums.syncs,
        "sends": sends.launches,
        "sends_syncs": sends.syncs,
        "blocking_syncs": len(blocking.syncs),
        "item_syncs": len(item.syncs),
        "captured_launches": capture.launches,
        "captured_nodes": capture.nodes,
        "captured_forbidden": capture.forbidden,
        "replay": replay.launches,
        "refused": refused.forbidden,
        "name": torch.cuda.get_device_name(),
        "capability": torch.cuda.get_device_capability(),
        "memory_gb": round(torch.cuda.mem_get_info()[1] / 2**30, 1),
        "devices": torch.cuda.device_count(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
