"""Features in other formats: read back with their own libraries, bit for bit what the cache holds."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from deiii.__main__ import main
from deiii.data.corpora.protocol import PARTS
from deiii.data.corpora.splits import make_split
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.sharing import formats
from deiii.data.sharing.export import LOAD, write_features
from deiii.data.sharing.formats import HUB_PARTS, SharingError
from tests.helpers.caches import KEYS, make_cache
from tests.helpers.shared_worker import preprocess
from tests.helpers.tables import tone_rows, words_for, write_rows

FRAMES, HOPS = [9, 5, 0, 3, 7, 4, 6, 2], [40, 15, 30, 0, 12, 8, 9, 10]


@pytest.fixture(scope="module", params=["all", "some"])
def corpus(request, tmp_path_factory):
    """Features and a split, which uses all clips or leaves one speaker out."""
    folder = tmp_path_factory.mktemp("shared")
    config = make_cache(folder / "cache", FRAMES, HOPS, bad_flow=(1,))
    if request.param == "some":
        fold = "{train: [s0], val: [s3], test: [s1]}"
        config.split.protocol = str(folder / "some.yaml")
        (folder / "some.yaml").write_text(f"name: some\nabout: b\nkind: parts\nfolds: [{fold}]\n")
    features = FeatureSet.open(config, KEYS)
    return config, features, make_split(features.corpus, config.split)


@pytest.fixture(params=[1, 20_000, 256_000_000])
def shard_bytes(request, monkeypatch):
    """One clip a file, a few, and all in one."""
    monkeypatch.setattr(formats, "SHARD_BYTES", request.param)
    monkeypatch.setattr(formats, "GROUP_BYTES", max(1, request.param // 2))


def check(found: dict[str, dict], corpus) -> None:
    """What a reader found by clip id: ``facts`` and ``arrays``; everything is as in the cache."""
    _, features, split = corpus
    assert set(found) == {clip.id for clip in features.clips}
    part_of: dict = dict.fromkeys(found) | {i: part for part in PARTS for i in getattr(split, part)}
    for clip in features.clips:
        facts, arrays = found[clip.id]["facts"], found[clip.id]["arrays"]
        assert facts["speaker"] == clip.speaker and facts["label"] == clip.label
        assert facts["part"] == part_of[clip.id]
        assert facts["valence"] == clip.attributes.get("valence")
        number = None if clip.label is None else features.classes.index(clip.label)
        assert facts["label_number"] == number
        assert tuple(facts["soft"]) == (clip.soft or ())
        stored = {f"{s}_{n}": a for s, fields in features.clip(clip.id).items() for n, a in fields.items()}
        assert set(arrays) == set(stored)
        for name, array in stored.items():
            assert arrays[name].dtype == array.dtype and arrays[name].shape == array.shape
            assert arrays[name].tobytes() == array.tobytes(), (clip.id, name)


def split_parts(found: dict[str, dict]) -> set:
    return {sample["facts"]["part"] for sample in found.values()}


def test_npz(corpus, tmp_path):
    config, features, _ = corpus
    write_features(features, config, tmp_path / "out", "npz", progress=False)
    found = {}
    with open(tmp_path / "out/clips.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            with np.load(tmp_path / "out" / row["file"]) as arrays:
                facts = {key: value or None for key, value in row.items()}
                for key, kind in (("label_number", int), ("valence", float)):
                    facts[key] = None if facts[key] is None else kind(facts[key])
                facts["soft"] = [float(word) for word in row["soft"].split()]
                found[row["id"]] = {"facts": facts, "arrays": dict(arrays)}
    check(found, corpus)


def test_npz_holds_no_python_objects(tmp_path):
    """Reading them would run code. The table, which is written last, is not there."""
    arrays = {"x": np.arange(2), "y": np.array([{}], dtype=object)}
    clip = SimpleNamespace(number=0, facts={}, soft=(), arrays=arrays)
    with pytest.raises(ValueError, match="Python objects are not written: y"):
        formats.write_npz(tmp_path, lambda part: iter([clip]), {}, [None])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_webdataset_with_plain_tar(corpus, tmp_path, shard_bytes):
    config, features, split = corpus
    write_features(features, config, tmp_path / "out", "webdataset", progress=False)
    found: dict[str, dict] = {}
    samples: dict[str, dict] = {}
    for path in sorted((tmp_path / "out").glob("*.tar")):
        keys = []
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, field = member.name.partition(".")
                data = tar.extractfile(member).read()
                keys.append(key)
                sample = samples.setdefault(key, {"arrays": {}})
                if field == "json":
                    sample["facts"] = json.loads(data)
                    assert (sample["facts"]["part"] or "other") == path.name.split("-")[0]
                else:
                    sample["arrays"][field.removesuffix(".npy")] = np.load(io.BytesIO(data))
        groups = [key for n, key in enumerate(keys) if n == 0 or keys[n - 1] != key]
        assert len(set(groups)) == len(groups)  # the files of a sample are neighbours, as WebDataset needs
    for sample in samples.values():
        found[sample["facts"]["id"]] = sample
    check(found, corpus)


@pytest.mark.parametrize("kind", ["parquet", "hf"])
def test_parquet(kind, corpus, tmp_path, shard_bytes):
    parquet = pytest.importorskip("pyarrow.parquet")
    config, features, split = corpus
    write_features(features, config, tmp_path / "out", kind, progress=False)
    found = {}
    folder = tmp_path / "out" / ("data" if kind == "hf" else "")
    about = json.loads((tmp_path / "out/features.json").read_text())["arrays"]
    for path in sorted(folder.glob("*.parquet")):
        table = parquet.read_table(path)
        assert json.loads(table.schema.metadata[b"deiii_arrays"]) == about
        for row in table.to_pylist():
            named = row["part"] or "other"
            named = HUB_PARTS[named] if kind == "hf" else named
            assert path.name.split("-")[0] == named
            arrays = {
                name: np.frombuffer(row[name], about[name]["dtype"]).reshape(row[f"{name}_shape"])
                for name in about
                if row[name] is not None
            }
            found[row["id"]] = {"facts": row, "arrays": arrays}
    check(found, corpus)
    if kind == "hf":
        card = (tmp_path / "out/README.md").read_text()
        front = yaml.safe_load(card.split("---")[1])
        splits = front["configs"][0]["data_files"]
        whole = ["train", "validation", "test"]
        assert [s["split"] for s in splits] == (
            whole if None not in split_parts(found) else [*whole, "other"]
        )
        for s in splits:
            count = int(sorted(tmp_path.glob(f"out/{s['path']}"))[0].stem.split("-of-")[1])
            assert len(list(tmp_path.glob(f"out/{s['path']}"))) == count


def test_equal_features_give_equal_archives(corpus, tmp_path):
    config, features, _ = corpus
    for name in ("a", "b"):
        write_features(features, config, tmp_path / name, "webdataset", progress=False)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)


def test_the_card_says_licence_outcomes_split_and_arrays(corpus, tmp_path):
    config, features, split = corpus
    write_features(features, config, tmp_path / "out", "npz", progress=False)
    card = (tmp_path / "out/README.md").read_text()
    for words in ("MIT, the clips are generated", "| faces | `ffffffffffff` |", "`faces_frames` | uint8",
                  "| ok |", split.protocol, "flow_scale[:, None, None, None]", "of 4 speakers"):  # fmt: skip
        assert words in card, words
    facts = json.loads((tmp_path / "out/features.json").read_text())
    outcomes = {s["name"]: s["outcomes"] for s in facts["stages"]}
    assert outcomes["faces"]["unreadable"] == 1 and outcomes["flow"]["unreadable"] == 2
    assert facts["split"]["digest"] == split.digest
    assert sum(facts["split"]["clips"].values()) == len(features.clips)


def test_the_lines_of_the_hub_give_datasets_the_name_of_the_folder(tmp_path, monkeypatch):
    """`datasets` 5 takes the name of the data from the path and refuses "." without one."""

    def load_dataset(path, split):
        assert Path(path).name == tmp_path.name and split == "train"
        return [{"a": np.arange(6, dtype=np.float32).tobytes(), "a_shape": [3, 2]}]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    monkeypatch.chdir(tmp_path)
    space: dict = {}
    exec(LOAD["hf"].format(array="a", dtype="float32"), space)
    assert space["array"].tolist() == [[0, 1], [2, 3], [4, 5]]


def test_the_three_lines_of_the_card_run(corpus, tmp_path, monkeypatch):
    config, features, _ = corpus
    write_features(features, config, tmp_path / "out", "npz", progress=False)
    code = (tmp_path / "out/README.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path / "out")
    space: dict = {}
    exec(code, space)
    first = space["rows"][0]["id"]
    assert np.array_equal(space["arrays"]["faces_frames"], features.clip(first)["faces"]["frames"])


def test_what_is_refused_before_anything_is_written(corpus, tmp_path, monkeypatch):
    config, features, _ = corpus
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(SharingError, match="is not empty; name a new folder"):
        write_features(features, config, tmp_path / "full", "npz")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SharingError, match=r"pip install 'deiii\[parquet\]'"):
        write_features(features, config, tmp_path / "new", "parquet")
    assert not (tmp_path / "new").exists()


def test_an_export_that_failed_leaves_an_empty_folder_and_can_be_repeated(corpus, tmp_path, monkeypatch):
    config, features, _ = corpus
    write = formats.WRITERS["npz"]

    def fill_disk(out, *args):
        write(out, *args)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(out))

    monkeypatch.setitem(formats.WRITERS, "npz", fill_disk)
    with pytest.raises(OSError, match="No space left"):
        write_features(features, config, tmp_path / "out", "npz", progress=False)
    assert list((tmp_path / "out").iterdir()) == []
    monkeypatch.undo()
    write_features(features, config, tmp_path / "out", "npz", progress=False)


def test_the_refusal_of_a_folder_without_a_card_says_that_it_may_be_unfinished(corpus, tmp_path):
    config, features, _ = corpus
    (tmp_path / "killed/clips").mkdir(parents=True)
    with pytest.raises(SharingError, match="or remove it if a stopped export left it"):
        write_features(features, config, tmp_path / "killed", "npz")


def test_the_command_and_a_corpus_that_cannot_be_divided(tmp_path, capsys):
    write_rows(tmp_path / "raw", tone_rows(tmp_path / "raw", speakers=1))
    words = words_for(tmp_path / "raw", tmp_path / "cache")
    assert preprocess(*words) == 0
    assert main(["export-features", str(tmp_path / "out"), *words, "--to", "webdataset"]) == 0
    assert "2 clips" in capsys.readouterr().out
    assert (tmp_path / "out/all-000000.tar").is_file() and "no split" in (
        tmp_path / "out/README.md"
    ).read_text()
