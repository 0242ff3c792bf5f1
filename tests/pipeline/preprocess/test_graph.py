"""Preprocessing on a local cluster: no clip is lost and no shard is computed twice.

`tests/faults` tests it with killed processes, damaged files and full disks.
"""

from __future__ import annotations

import csv
import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deiii.__main__ import main
from deiii.data.audit.run import audit
from deiii.data.cache.index import CacheError, corpus_folder, read_index, read_table, stage_folder
from deiii.data.cache.integrity import verify
from deiii.data.cache.recipes import stage_keys
from deiii.data.config.load import load_config
from deiii.data.config.words import read_settings
from deiii.data.corpora.scan import cache_name
from deiii.data.corpora.splits import make_split
from deiii.data.loader.feature_set import open_features
from deiii.data.loader.feature_split import open_split
from deiii.data.tools.os_errors import STDOUT
from deiii.pipeline.corrupt.kinds import CorruptionError
from deiii.pipeline.corrupt.write import corrupted_copy
from deiii.pipeline.preprocess.graph import PreprocessError, preprocess
from deiii.pipeline.stages.clip import run_clip
from tests.helpers.clips import audio_corpus, tree_bytes, write_audio
from tests.helpers.shared_worker import address


def settings(tmp_path: Path, *more: str):
    words = ["stages=[logmel]", f"cache={tmp_path / 'cache'}", "corpus.clips_per_shard=2", "workers=2"]
    return load_config(overrides=[*words, *more])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A corpus of tones that is preprocessed once: folder, corpus, settings, summary, lines."""
    tmp_path = tmp_path_factory.mktemp("finished")
    corpus = audio_corpus(tmp_path / "raw")
    config = settings(tmp_path)
    lines: list[str] = []
    summary = preprocess(config, corpus, lines.append)
    return tmp_path, corpus, config, summary, lines


def test_every_clip_has_arrays_of_its_own_length(finished):
    tmp_path, corpus, config, summary, _ = finished
    folder = stage_folder(config.cache, corpus.name, "logmel", stage_keys(config)["logmel"])
    index = read_index(folder)
    assert set(index.clips) == {c.id for c in corpus.clips}
    assert summary.counts["logmel"] == {"ok": 12} and summary.failed == 0
    for record in index.shards:
        shard = record.open(folder)
        for row in record.clips:
            number = int(row.id[-1])
            rows = shard.clip(row.id)["logmel"]
            assert abs(len(rows) - (0.4 + 0.1 * number) * 100) <= 3  # a hop is 10 ms
            assert rows.shape[1] == 80
    assert read_table(config.cache, corpus.name) == corpus


def test_a_second_run_computes_nothing(finished):
    _, corpus, config, _, _ = finished
    before = tree_bytes(corpus_folder(config.cache, corpus.name))
    summary = preprocess(config, corpus, lambda line: None)
    assert (summary.computed, summary.reused) == (0, 6)
    assert tree_bytes(corpus_folder(config.cache, corpus.name)) == before


def test_the_address_of_the_dashboard_is_reported(finished):
    assert any("dashboard at http://127.0.0.1" in line for line in finished[4])


def test_a_scheduler_without_a_dashboard_is_not_said_to_have_one(tmp_path):
    config = settings(tmp_path, f"scheduler={address()}")  # the shared worker's scheduler shows none
    lines: list[str] = []
    preprocess(config, audio_corpus(tmp_path / "raw", speakers=1), lines.append)
    assert any(line.startswith("1 worker, no dashboard (") for line in lines)
    assert not any("http" in line for line in lines)


def test_one_and_two_workers_compute_the_same_bytes(finished, tmp_path):
    _, corpus, config, _, _ = finished
    other = replace(config, cache=str(tmp_path), workers=1)
    preprocess(other, corpus, lambda line: None)
    here = tree_bytes(corpus_folder(other.cache, corpus.name))
    assert here == tree_bytes(corpus_folder(config.cache, corpus.name))


def test_a_changed_parameter_gives_another_stage_folder(finished):
    _, corpus, config, _, _ = finished
    other = replace(config, logmel=replace(config.logmel, n_mels=40))
    assert stage_keys(other) != stage_keys(config)
    with pytest.raises(CacheError, match="deiii preprocess"):
        read_index(stage_folder(config.cache, corpus.name, "logmel", stage_keys(other)["logmel"]))


def test_only_shards_with_changed_files_are_computed_again(tmp_path):
    corpus = audio_corpus(tmp_path / "raw", speakers=2)
    config = settings(tmp_path, f"scheduler={address()}")
    preprocess(config, corpus, lambda line: None)
    write_audio(tmp_path / "raw/s0/c1.flac", 0.9)
    (tmp_path / "raw/s1/c3.flac").unlink()
    summary = preprocess(config, corpus, lambda line: None)
    assert (summary.computed, summary.reused) == (2, 2)
    assert summary.counts["logmel"] == {"ok": 7, "missing": 1}
    with open(summary.failures, newline="") as file:
        (row,) = list(csv.DictReader(file))
    assert (row["clip"], row["status"]) == ("s1/c3", "missing")


def test_a_shard_with_a_flipped_byte_is_computed_again_unless_only_sizes_are_checked(tmp_path):
    corpus = audio_corpus(tmp_path / "raw", speakers=1)
    config = settings(tmp_path, f"scheduler={address()}")
    preprocess(config, corpus, lambda line: None)
    folder = stage_folder(config.cache, corpus.name, "logmel", stage_keys(config)["logmel"])
    victim = sorted(folder.glob("*.h5"))[1]
    whole = victim.read_bytes()
    victim.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert preprocess(replace(config, check="sizes"), corpus, lambda line: None).computed == 0
    lines: list[str] = []
    assert preprocess(config, corpus, lines.append).computed == 1
    assert any(f"{victim.name} is damaged" in line for line in lines)
    assert victim.read_bytes() == whole and verify(config.cache) == (2, [])


def test_read_only_cache_is_a_clear_error(tmp_path):
    corpus = audio_corpus(tmp_path / "raw", speakers=1, clips=1)
    config = settings(tmp_path)
    Path(config.cache).write_text("a file where the folder should be")
    with pytest.raises(PreprocessError, match="must be writable"):
        preprocess(config, corpus, lambda line: None)


def test_an_error_of_the_output_does_not_name_the_cache(tmp_path):
    corpus = audio_corpus(tmp_path / "raw", speakers=1, clips=1)

    def report(line: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", STDOUT)

    with pytest.raises(OSError, match=f"No space.*{STDOUT}"):
        preprocess(settings(tmp_path), corpus, report)


def test_corrupted_recordings_have_a_folder_of_their_own_with_their_features(tmp_path):
    corpus = audio_corpus(tmp_path / "raw", speakers=1, clips=2)
    config = settings(tmp_path, "workers=1", "corpus.corrupt=speed=1.25")
    name = cache_name(replace(config.corpus, name="tones"))
    assert name == "tones-speed-1_25"
    preprocess(config, replace(corpus, name=name), lambda line: None)
    folder = stage_folder(config.cache, name, "logmel", stage_keys(config)["logmel"])
    (record,) = read_index(folder).shards
    shard = record.open(folder)
    for clip in corpus.clips:
        with corrupted_copy(str(tmp_path / "raw" / clip.path), "speed=1.25") as copy:
            wanted = run_clip("logmel", copy, config).arrays
        found = shard.clip(clip.id)
        plain = run_clip("logmel", str(tmp_path / "raw" / clip.path), config).arrays
        assert all(np.array_equal(found[field], wanted[field]) for field in wanted)
        assert len(found["time"]) == pytest.approx(len(plain["time"]) / 1.25, abs=1)


def test_a_corruption_outside_its_limits_is_refused_before_work(tmp_path):
    config = settings(tmp_path, "corpus.corrupt=speed=9")
    with pytest.raises(CorruptionError, match=r"'speed=9' is outside 0\.5 to 2"):
        preprocess(config, audio_corpus(tmp_path / "raw", speakers=1, clips=1), lambda line: None)


def test_copies_are_preprocessed_with_the_corpus_and_trained_on_without_test_speakers(tmp_path):
    corpus = audio_corpus(tmp_path / "raw", speakers=4, clips=2)
    rows = [f"{clip.path},{clip.speaker},{clip.label}" for clip in corpus.clips]
    (tmp_path / "raw/clips.csv").write_text("\n".join(["path,speaker,label", *rows]))
    words = [
        "corpus.name=table", f"corpus.root={tmp_path / 'raw'}", f"cache={tmp_path / 'cache'}", "workers=1",
        "stages=[logmel]", "model.video=[]", "copies=[speed=0.8]", "split.protocol=one-speaker-out",
    ]  # fmt: skip
    assert main(["preprocess", *words]) == 0
    features = open_features(*words)
    assert len(features) == 16 and features.corpus.root == str(tmp_path / "raw")
    split = make_split(features.corpus, read_settings(words).split)
    held = {features.clips[row].speaker for row in features.rows([*split.val, *split.test])}
    assert len(held) == 2 and len(split.train) == 8
    alone = [word for word in words if not word.startswith("copies=")]
    plain = open_split(*alone)
    assert (split.val, split.test) == (plain.val, plain.test)
    copies = [name for name in split.train if name not in plain.train]
    assert sorted(copies) == sorted(f"table-clips-speed-0_8:{name}" for name in plain.train)
    assert held.isdisjoint(features.clips[row].speaker for row in features.rows(split.train))
    for name in plain.train:
        lengths = [
            len(features.clip(head + name)["logmel"]["time"]) for head in ("", "table-clips-speed-0_8:")
        ]
        assert lengths[1] == pytest.approx(lengths[0] / 0.8, abs=1.5)
    findings = [list(audit("speakers", read_settings(own), fold=0)) for own in (words, alone)]
    assert findings[0] == findings[1]


@pytest.mark.slow  # two trainings
def test_a_run_with_copies_is_compared_and_scored_elsewhere_like_one_without(tmp_path, capsys):
    corpus = audio_corpus(tmp_path / "raw", speakers=4, clips=2)
    rows = [f"{clip.path},{clip.speaker},{clip.label}" for clip in corpus.clips]
    (tmp_path / "raw/clips.csv").write_text("\n".join(["path,speaker,label", *rows]))
    others = [f"{clip.path},other-{clip.speaker},{clip.label}" for clip in corpus.clips]
    (tmp_path / "raw/others.csv").write_text("\n".join(["path,speaker,label", *others]))
    words = [
        "table", "tiny", f"corpus.root={tmp_path / 'raw'}", f"cache={tmp_path / 'cache'}", "workers=1",
        "stages=[logmel]", "model.video=[]", "split.protocol=one-speaker-out", "train.epochs=1",
    ]  # fmt: skip
    runs = {"with": ["copies=[speed=0.8]"], "without": []}
    assert main(["preprocess", *words, *runs["with"]]) == 0
    for name, own in runs.items():
        assert main(["train", *words, *own, f"train.run={tmp_path / name}"]) == 0
        assert main(["evaluate", str(tmp_path / name)]) == 0
    out = tmp_path / "compared"
    assert main(["compare", str(tmp_path / "with"), str(tmp_path / "without"), f"--out={out}"]) == 0
    second = ["table", f"corpus.root={tmp_path / 'raw'}", "corpus.table=others.csv"]
    assert main(["preprocess", *words, "corpus.table=others.csv"]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "with"), "--on", *second]) == 0
    assert "2 of 8 clips of table-others, 1 speaker" in capsys.readouterr().out
