"""A training on the second of two cards: which card each call went to."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.feature_cache import open_cache
from deiii.data.config.load import load_config
from deiii.model.distributed.ranks import joined
from tests.gpu.fake_gpu import recorded
from tests.gpu.programs.training import FRAMES, SIZE, make_trainer, without_checks


def main() -> None:
    config = load_config(["configs/tiny.yaml"], ["loader.batch=4", "train.device=cuda:1", "train.epochs=1"])
    with (
        TemporaryDirectory() as folder,
        without_checks(),
        recorded() as log,
        joined(config.loader.batch, config.train.device) as ranks,
    ):
        features = open_cache(Path(folder) / "cache", 24, FRAMES, SIZE)
        make_trainer(features, config, Path(folder), ranks).fit(progress=False)
    kinds = ("malloc", "hostalloc", "kernel", "lib", "copy", "stream-create", "graph-launch")
    print(json.dumps({kind: sorted({call.device for call in log.of(kind)}) for kind in kinds}))


if __name__ == "__main__":
    main()
