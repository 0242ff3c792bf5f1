"""Tests of the package ``model`` use one thread: several test runs may share a machine."""

import csv
import shutil

import pytest
import torch

from tests.helpers.shared_worker import preprocess

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def seen_run(tmp_path_factory):
    """Six synthetic clips of six speakers through every command: a folder with raw/, cache/ and run/."""
    from deiii.__main__ import main
    from deiii.data.config.schema import SyntheticConfig
    from deiii.data.corpora.synthetic.make import make

    folder = tmp_path_factory.mktemp("seen")
    drawn = SyntheticConfig(speakers=3, clips_per_class=1, seconds=0.8, size=160)
    make(folder / "drawn", drawn, workers=1, progress=False)
    videos = sorted((folder / "drawn").rglob("*.mp4"))
    (folder / "raw").mkdir()
    with open(folder / "raw/clips.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "speaker", "label", "valence"])
        for i in range(6):
            shutil.copy(videos[4 * i], folder / f"raw/c{i}.mp4")
            table.writerow([f"c{i}.mp4", f"s{i}", "ab"[i % 2], i / 10])
    words = ["configs/tiny.yaml", "corpus.name=table", f"corpus.root={folder / 'raw'}"]
    words += [f"cache={folder / 'cache'}", f"train.run={folder / 'run'}", "faces.size=64", "loader.crop=56"]
    words += ["train.epochs=1", "loader.batch=2", "train.device=cpu", "model.width=32", "loader.steps=4"]
    words += ["model.channels=[8,16]", "model.attributes=[valence]", "corpus.table=clips.csv"]
    assert preprocess(*words) == 0
    assert main(["train", *words, "--quiet"]) == 0
    assert main(["evaluate", str(folder / "run")]) == 0
    return folder
