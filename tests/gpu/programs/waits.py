"""`no_waits` on the fake GPU: what it refuses, and that its mode ends with its block."""

from __future__ import annotations

import json
import warnings

import torch

from tests.helpers.no_waits import no_waits


def waits(action) -> bool:
    """Return whether the action is refused as waiting for the device."""
    try:
        with no_waits():
            action()
    except RuntimeError as error:
        return "synchroniz" in str(error).lower()
    return False


def main() -> None:
    warnings.simplefilter("error")
    held = torch.zeros(3, device="cuda")
    found = {
        "add": waits(lambda: held + 1),
        "item": waits(lambda: held.sum().item()),
        "to_host": waits(lambda: held.cpu()),
        "from_list": waits(lambda: torch.tensor([1.0], device="cuda")),
    }
    held.sum().item()  # allowed again
    print(json.dumps({**found, "mode": torch.cuda.get_sync_debug_mode()}))


if __name__ == "__main__":
    main()
