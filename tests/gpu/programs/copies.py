"""The first copies of a loader on the fake GPU: what their stream waits for before them."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.feature_cache import open_cache
from deiii.data.config.load import load_config
from deiii.data.loader.loader import Loader
from tests.gpu.fake_gpu import recorded


def main() -> None:
    config = load_config(overrides=["loader.batch=4", "loader.crop=48", "loader.residency=stream"])
    with TemporaryDirectory() as folder:
        features = open_cache(Path(folder), clips=16, frames=12, size=56)
        loader = Loader(features, range(16), config.loader, training=False, device="cuda")
        with recorded() as log:
            batches = sum(1 for _ in loader.epoch(0))
    side = f"{loader._side.cuda_stream:x}"
    calls = [call for call in log.of("copy", "wait-event") if call.stream.removeprefix("0x") == side]
    print(json.dumps({"batches": batches, "calls": [call.kind for call in calls]}))


if __name__ == "__main__":
    main()
