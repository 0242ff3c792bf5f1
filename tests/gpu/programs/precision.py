"""The type that matrix products have under each ``train.amp``, and what the deterministic mode costs."""

from __future__ import annotations

import json

import torch

from deiii.model.distributed.devices import autocast, make_deterministic
from tests.gpu.fake_gpu import recorded


def main() -> None:
    device = torch.device("cuda", 0)
    make_deterministic(device)
    held = torch.zeros(8, 8, device=device)
    found = {}
    for amp in ("auto", "off", "bfloat16"):
        with autocast(amp, device):
            found[amp] = str((held @ held).dtype)
    with recorded() as log:
        torch.empty(1000, device=device)
    fill = torch.utils.deterministic.fill_uninitialized_memory
    print(json.dumps({**found, "fill": fill, "fills": len(log.of("kernel", "memset"))}))


if __name__ == "__main__":
    main()
