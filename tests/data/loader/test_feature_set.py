"""Opening, leaving out, mixing."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from deiii.data.cache.index import (
    CacheError,
    read_index,
    read_table,
    stage_folder,
    write_index,
    write_table,
)
from deiii.data.cache.outcomes import Status
from deiii.data.cache.stages import get_stage, network_stages
from deiii.data.config.load import load_config
from deiii.data.config.schema import Config, CorpusConfig, LoaderConfig, ModelConfig, SplitConfig
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.corpora.clips import CorpusError
from deiii.data.corpora.protocol import PARTS
from deiii.data.corpora.splits import make_split
from deiii.data.corpora.targets.classes import map_classes
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.loader.loader import Loader
from deiii.data.loader.mixture import mixed_people
from tests.helpers.caches import CORPUS, KEYS, make_cache


def test_clips_without_any_stream_are_left_out_and_counted(tmp_path):
    config = make_cache(tmp_path, [3, 0, 0, 4], [5, 6, 0, 0])
    features = FeatureSet.open(config, KEYS)
    assert [c.id for c in features.clips] == ["s0/c000", "s1/c001", "s3/c003"]
    assert list(features.left_out) == ["s2/c002"] and "made so" in features.left_out["s2/c002"]
    assert [features.usable(i) for i in range(3)] == [
        {"faces": True, "flow": True, "logmel": True},
        {"faces": False, "flow": False, "logmel": True},
        {"faces": True, "flow": True, "logmel": False},
    ]
    assert features.outcomes["faces"]["s2/c002"].status is Status.UNREADABLE
    assert len(features.outcomes["logmel"]) == 4
    assert features.rows(["s3/c003", "s2/c002", "s0/c000"]).tolist() == [2, 0]
    with pytest.raises(KeyError, match="c999"):
        features.rows(["s0/c999"])


def test_only_the_stages_that_the_network_reads_are_opened(tmp_path):
    config = make_cache(tmp_path, [3, 4], [5, 6])
    config.model.flow = False
    features = FeatureSet.open(config, KEYS)
    assert list(features.streams) == ["faces", "logmel"]
    assert network_stages(ModelConfig(video=False, audio=False)) == ["faces", "flow"]
    config.model.video = config.model.audio = False
    with pytest.raises(CacheError, match="none is in stages"):
        FeatureSet.open(config, KEYS)


def test_a_missing_stage_says_what_to_run_and_what_is_there(tmp_path):
    config = make_cache(tmp_path, [3], [5])
    with pytest.raises(CacheError, match=r"deiii preprocess.*flow-123.*flow-0{12}"):
        FeatureSet.open(config, {**KEYS, "flow": "123"})


def test_a_missing_stage_names_the_settings_of_the_finished_ones(tmp_path):
    """A cache from a GPU has the precision that ``auto`` stands for there."""
    config = make_cache(tmp_path, [3], [5])
    config.flow.method = "raft"
    folder = stage_folder(tmp_path, CORPUS, "flow", KEYS["flow"])
    params = {"method": "raft", "precision": "float16", "storage": config.flow.storage}
    write_index(folder, replace(read_index(folder), provenance={"params": params}))
    with pytest.raises(CacheError, match=r"finished: flow-0{12} with flow\.precision=float16\)"):
        FeatureSet.open(config, {**KEYS, "flow": "123"})


def test_flow_of_another_length_is_refused(tmp_path):
    config = make_cache(tmp_path, [3], [5])
    folder = stage_folder(tmp_path, CORPUS, "flow", KEYS["flow"])
    index = read_index(folder)
    (record,) = index.shards
    fields = {n: replace(f, shape=(2, *f.shape[1:])) for n, f in record.fields.items()}
    index.shards = [replace(record, fields=fields, clips=(replace(record.clips[0], stop=2),))]
    write_index(folder, index)
    with pytest.raises(CacheError, match="another shard than the index lists"):
        FeatureSet.open(config, KEYS, whole=True)
    with pytest.raises(CacheError, match="2 rows of flow for 3 frames"):
        FeatureSet.open(config, KEYS)


def test_corpora_mix(tmp_path):
    one, two = (
        make_cache(tmp_path, [3, 0, 5], [4, 5, 0], name=n, seed=s)
        for n, s in (("ravdess", 1), ("crema_d", 2))
    )
    a, b = FeatureSet.open(one, KEYS), FeatureSet.open(two, KEYS)
    both = FeatureSet.mix([a, b])
    assert [c.id for c in both.clips] == [
        f"{n}:s{i}/c00{i}" for n in (a.corpus.name, b.corpus.name) for i in range(3)
    ]
    assert {c.speaker for c in both.clips} == {
        f"{n}:s{i}" for n in (a.corpus.name, b.corpus.name) for i in range(3)
    }
    batches = [list(Loader(f, range(len(f)), one.loader, training=False).compact(0)) for f in (a,)]
    assert len(batches[0]) == 1
    for part, offset in ((a, 0), (b, 3)):
        for row in range(3):
            expected, found = part.arrays(row), both.arrays(row + offset)
            assert expected.keys() == found.keys()
            for stage in expected:
                for name, values in expected[stage].items():
                    assert np.array_equal(values, found[stage][name])
    got = np.concatenate([x.index[x.real].numpy().copy()
                          for x in Loader(both, range(6), one.loader, training=True).compact(0)])  # fmt: skip
    assert sorted(got) == list(range(6))


def test_the_settings_name_a_mixture(tmp_path, monkeypatch):
    one, two = (make_cache(tmp_path, [3] * 4, [4] * 4, name=n) for n in ("ravdess", "crema_d"))
    (tmp_path / "other.yaml").write_text("corpus: {name: crema_d, root: /nowhere}\nfaces: {size: 64}\n")
    monkeypatch.setattr("deiii.data.loader.feature_set.stage_keys", lambda config: KEYS)
    one.mix = [str(tmp_path / "other.yaml")]
    both = FeatureSet.open(one)
    assert len(both) == 8 and both.corpus.name == "ravdess-audio-video-speech+crema_d"
    split = make_split(both.corpus, SplitConfig(val_share=0.3))
    assert split.protocol == "speakers" and len(split.train) + len(split.val) + len(split.test) == 8


def test_a_config_of_a_mixture_names_a_corpus_and_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.yaml").write_text("faces: {size: 64}\n")
    with pytest.raises(ConfigError, match=r"mix: other.yaml names no corpus"):
        FeatureSet.open(load_config(overrides=["mix=[other.yaml]"]))
    with pytest.raises(ConfigError, match=f"mix: no such .*: gone.yaml.* the current folder, {tmp_path}"):
        FeatureSet.open(load_config(overrides=["mix=[gone.yaml]"]))


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ({"name": "ravdess"}, {"name": "ravdess", "channel": "song", "root": "/elsewhere"}, True),
        ({"name": "ravdess"}, {"name": "crema_d"}, False),
        ({"name": "table", "root": "/a"}, {"name": "table", "root": "/a/", "table": "b.csv"}, True),
        ({"name": "table", "root": "/a"}, {"name": "table", "root": "/b", "table": "b.csv"}, False),
    ],
)
def test_a_person_in_two_corpora_of_a_mixture_is_one_speaker(tmp_path, first, second, same):
    """Two selections of RAVDESS, or two tables of one folder, must not divide a person in a split."""
    sets = [
        FeatureSet.open(make_cache(tmp_path, [3] * 6, [4] * 6, name=n), KEYS) for n in ("ravdess", "crema_d")
    ]
    parts = [Config(corpus=CorpusConfig(**words)) for words in (first, second)]
    both = FeatureSet.mix(sets, mixed_people(parts))
    assert len(both.corpus.speakers) == (4 if same else 8) and len({c.id for c in both.clips}) == 12
    for fold in range(3):
        split = make_split(both.corpus, SplitConfig(fold=fold, val_share=0.3))
        held = {part: {i.split("/")[0].split(":")[1] for i in getattr(split, part)} for part in PARTS}
        if same:
            assert not held["train"] & held["test"] and not held["train"] & held["val"]


def test_a_corpus_does_not_mix_with_itself(tmp_path):
    a = FeatureSet.open(make_cache(tmp_path, [3], [4], name="ravdess"), KEYS)
    with pytest.raises(CacheError, match="names the corpus ravdess.* twice"):
        FeatureSet.mix([a, a])


def test_two_spellings_of_a_class_do_not_mix(tmp_path):
    a, b = (FeatureSet.open(make_cache(tmp_path, [3], [4], name=n), KEYS) for n in ("ravdess", "crema_d"))
    b.corpus = map_classes(b.corpus, {"happy": "Happy"})
    with pytest.raises(CorpusError, match="'happy' and 'Happy' differ in spelling alone; .* corpus.classes"):
        FeatureSet.mix([a, b])


def test_corpora_of_different_crops_do_not_mix(tmp_path):
    a = FeatureSet.open(make_cache(tmp_path, [3], [4], name="ravdess"), KEYS)
    b = FeatureSet.open(make_cache(tmp_path, [3], [4], name="crema_d", size=14), KEYS)
    words = (
        r"rows of faces are of different kinds: uint8 \[12, 12, 3\] in .*ravdess.*/faces-f+, uint8 \[14, 14, "
    )
    with pytest.raises(
        CacheError, match=rf"{words}3\] in .*crema_d.*; give .* same settings of faces, and run"
    ):
        FeatureSet.mix([a, b])


def test_shards_without_a_field_are_named_with_their_folder(tmp_path):
    stream = FeatureSet.open(make_cache(tmp_path, [3, 4], [4, 5]), KEYS).streams["faces"]
    for layout in stream.layouts:
        del layout["time"]
    with pytest.raises(CacheError, match=r"/faces-f+ lack the field 'time'; remove that folder and run"):
        stream.load_small()


def test_a_network_that_reads_no_stage_is_told_how_to_read_one(tmp_path):
    config = make_cache(tmp_path, [3], [4])
    config.stages, config.model.video, config.model.flow = ["faces"], False, False
    with pytest.raises(CacheError, match=r"reads logmel, of which none is in stages=\[faces\]; add it"):
        FeatureSet.open(config)


def test_a_table_is_found_under_its_own_name(tmp_path):
    config = make_cache(tmp_path, [3, 4], [5, 6])
    table = tmp_path / "table-my_list"
    (tmp_path / CORPUS).rename(table)
    shutil.copytree(table, tmp_path / CORPUS)
    write_table(tmp_path, replace(read_table(tmp_path, CORPUS), name=table.name))
    config.corpus.name, config.corpus.table = "table", "lists/my list.csv"
    assert len(FeatureSet.open(config, KEYS)) == 2


def test_features_of_another_version_of_the_stage_are_named_as_such(tmp_path):
    config = make_cache(tmp_path, [3], [5])
    folder = stage_folder(tmp_path, CORPUS, "logmel", KEYS["logmel"])
    version = get_stage("logmel").version
    for made, said in ((version - 1, " by another version of the stage"), (version, "")):
        write_index(folder, replace(read_index(folder), provenance={"version": made, "params": {}}))
        with pytest.raises(CacheError, match=f"finished: logmel-{KEYS['logmel']}{said}\\)$"):
            FeatureSet.open(config, {**KEYS, "logmel": "1" * 12})


def printed(features: FeatureSet) -> list[str]:
    """What a session at the prompt prints of a corpus and of what is made from it."""
    rows = range(len(features))
    loader = Loader(features, rows, LoaderConfig(batch=5, steps=4, audio_steps=20, crop=8), training=False)
    split = make_split(features.corpus, SplitConfig())
    return [repr(x) for x in (features, features.corpus, *features.streams.values(), loader, split)]


def test_what_is_printed_says_how_much_there_is_and_does_not_grow_with_it(tmp_path):
    few = make_cache(tmp_path / "few", [3] * 8, [5] * 7 + [0])
    many = make_cache(tmp_path / "many", [3] * 80, [5] * 80)
    lines = printed(FeatureSet.open(few, KEYS))
    assert lines == [
        "FeatureSet('synthetic-cues': 8 clips, 0 left out; Stream(faces: 24 rows of uint8 [12, 12, 3] in 8 "
        "of 8 clips), Stream(flow: 24 rows of int8 [12, 12, 2] in 8 of 8 clips), Stream(logmel: 35 rows of "
        "float16 [8] in 7 of 8 clips))",
        "Corpus('synthetic-cues': 8 clips of 4 speakers, 3 classes, /nowhere)",
        "Stream(faces: 24 rows of uint8 [12, 12, 3] in 8 of 8 clips)",
        "Stream(flow: 24 rows of int8 [12, 12, 2] in 8 of 8 clips)",
        "Stream(logmel: 35 rows of float16 [8] in 7 of 8 clips)",
        "Loader(8 clips of 'synthetic-cues' for evaluation, 2 batches, on cpu, residency stream)",
        "Split('synthetic-cues', speakers, fold 0 of 4: clips (speakers) train 4 (2), val 2 (1), test 2 (1))",
    ]
    grown = printed(FeatureSet.open(many, KEYS))
    assert all(len(b) <= len(a) + 10 for a, b in zip(lines, grown, strict=True))
    index = read_index(stage_folder(few.cache, CORPUS, "faces", KEYS["faces"]))
    assert repr(index) == "StageIndex(faces-ffffffffffff: 8 clips in 4 shards)"
