"""The code of docs/howto-train-elsewhere.md reads a cache."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from deiii.data.loader.feature_set import open_features
from deiii.data.loader.feature_split import open_split
from tests.helpers.shared_worker import preprocess
from tests.helpers.tables import tone_rows, words_for, write_rows

PAGE = (Path(__file__).parents[3] / "docs/howto-train-elsewhere.md").read_text(encoding="utf-8")


def block(kind: str) -> str:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.S)[0]


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """What the page's first block leaves, run on a corpus of tones."""
    folder = tmp_path_factory.mktemp("howto")
    write_rows(folder / "raw", tone_rows(folder / "raw", speakers=4))
    words = words_for(folder / "raw", folder / "cache")
    assert preprocess(*words) == 0
    code = (
        block("python")
        .replace('["runs/demo/config.yaml"]', repr(words))
        .replace("num_workers=2", "num_workers=0")
    )
    found: dict = {"__name__": "page"}
    exec(code, found)
    return found, words


def test_the_dataset_gives_the_training_clips_of_the_cache(space):
    found, words = space
    features, split = open_features(*words), open_split(*words)
    items = [found["Clips"](features, split.train)[n] for n in range(len(split.train))]
    assert len(found["train"]) == len(items) == len(split.train)
    for clip, (logmel, label) in zip(split.train, items, strict=True):
        assert np.array_equal(logmel.numpy(), features.clip(clip)["logmel"]["logmel"].astype(np.float32))
        row = int(features.rows([clip])[0])
        assert features.classes[label] == features.clips[row].label
    shapes = {tuple(batch.shape[2:]) for batch, _ in found["train"]}
    assert shapes == {(80,)}


def test_the_data_module_gives_each_part_its_speakers(space):
    pytest.importorskip("lightning")
    found, words = space
    exec(block("py"), found)
    module = found["CacheModule"](*words)
    split = open_split(*words)
    for part in ("train", "val", "test"):
        loader = getattr(module, f"{part}_dataloader")()
        assert len(loader.dataset) == len(getattr(split, part))


def test_the_blocks_are_as_short_as_the_page_says():
    body = block("py").strip().splitlines()
    assert len([line for line in body if line.startswith("    ")]) <= 11
