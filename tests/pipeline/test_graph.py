"""The Dask graph on a real local cluster: nothing lost, nothing done twice."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from clips import sound_corpus, tree_bytes, write_sound

from data.cache import CacheError, corpus_folder, read_index, read_table, stage_folder
from data.clips import Clip
from data.config import load_config
from data.recipes import stage_keys
from data.shards import open_shard
from pipeline.graph import PreprocessError, preprocess
from pipeline.verify import verify


def settings(tmp_path: Path, *more: str):
    words = ["stages=[logmel]", f"cache={tmp_path / 'cache'}", "corpus.clips_per_shard=2", "workers=2"]
    return load_config(overrides=[*words, *more])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A corpus of tones, preprocessed once."""
    tmp_path = tmp_path_factory.mktemp("made")
    corpus = sound_corpus(tmp_path / "raw")
    config = settings(tmp_path)
    lines: list[str] = []
    summary = preprocess(config, corpus, lines.append)
    return tmp_path, corpus, config, summary, lines


def test_every_clip_has_arrays_of_its_own_length(made):
    tmp_path, corpus, config, summary, _ = made
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


def test_second_run_does_nothing(made):
    _, corpus, config, _, _ = made
    before = tree_bytes(corpus_folder(config.cache, corpus.name))
    summary = preprocess(config, corpus, lambda line: None)
    assert (summary.computed, summary.reused) == (0, 6)
    assert tree_bytes(corpus_folder(config.cache, corpus.name)) == before


def test_the_dashboards_address_is_told(made):
    assert any("dashboard at http://127.0.0.1" in line for line in made[4])


def test_one_and_two_workers_give_the_same_bytes(made, tmp_path):
    _, corpus, config, _, _ = made
    other = replace(config, cache=str(tmp_path), workers=1)
    preprocess(other, corpus, lambda line: None)
    here = tree_bytes(corpus_folder(other.cache, corpus.name))
    assert here == tree_bytes(corpus_folder(config.cache, corpus.name))


def test_changed_parameter_makes_another_stage_folder(made):
    _, corpus, config, _, _ = made
    other = replace(config, logmel=replace(config.logmel, n_mels=40))
    assert stage_keys(other) != stage_keys(config)
    with pytest.raises(CacheError, match="make preprocess"):
        read_index(stage_folder(config.cache, corpus.name, "logmel", stage_keys(other)["logmel"]))


def test_changed_and_new_files_alone_are_done_again(tmp_path):
    corpus = sound_corpus(tmp_path / "raw", speakers=2)
    config = settings(tmp_path)
    preprocess(config, corpus, lambda line: None)
    write_sound(tmp_path / "raw/s0/c1.flac", 0.9)
    (tmp_path / "raw/s1/c3.flac").unlink()
    summary = preprocess(config, corpus, lambda line: None)
    assert (summary.computed, summary.reused) == (2, 2)
    assert summary.counts["logmel"] == {"ok": 7, "missing": 1}
    with open(summary.failures, newline="") as file:
        (row,) = list(csv.DictReader(file))
    assert (row["clip"], row["status"]) == ("s1/c3", "missing")


def test_damaged_shard_is_named_set_aside_and_made_again(tmp_path):
    corpus = sound_corpus(tmp_path / "raw", speakers=2)
    config = settings(tmp_path)
    preprocess(config, corpus, lambda line: None)
    folder = stage_folder(config.cache, corpus.name, "logmel", stage_keys(config)["logmel"])
    before = tree_bytes(folder)
    victim = sorted(folder.glob("*.h5"))[1]
    content = bytearray(victim.read_bytes())
    content[open_shard(victim).info.fields["logmel"].offset + 7] ^= 1
    victim.write_bytes(content)
    checked, findings = verify(config.cache)
    assert checked == 4 and [f.path for f in findings] == [victim]
    (folder / "index.json").unlink()  # as after a cut-off run: the shards must speak for themselves
    lines: list[str] = []
    summary = preprocess(config, corpus, lines.append)
    assert summary.computed == 1 and any("damaged" in line for line in lines)
    victim.with_name(victim.name + ".damaged").unlink()
    assert tree_bytes(folder) == before
    assert verify(config.cache) == (4, [])


def test_read_only_cache_is_a_clear_error(tmp_path):
    corpus = sound_corpus(tmp_path / "raw", speakers=1, clips=1)
    config = settings(tmp_path)
    Path(config.cache).write_text("a file where the folder should be")
    with pytest.raises(PreprocessError, match="must be writable"):
        preprocess(config, corpus, lambda line: None)


POISON = """
import os, pipeline.logmel as m
real = m.extract_logmel
def extract(path, config):
    if path.endswith("poison.flac"): {act}
    return real(path, config)
m.extract_logmel = extract
"""


@pytest.mark.parametrize(
    ("act", "status"), [("os.abort()", "crashed_decoder"), ("__import__('time').sleep(60)", "timed_out")]
)
def test_poison_clip_costs_itself_alone(tmp_path, monkeypatch, act, status):
    """A decoder that crashes or hangs: a real file cannot be relied on to do so, so it is injected."""
    corpus = sound_corpus(tmp_path / "raw", speakers=1, clips=3)
    write_sound(tmp_path / "raw/s0/poison.flac")
    corpus = replace(corpus, clips=(*corpus.clips, Clip("s0/poison", "s0/poison.flac", "s0", "low")))
    (tmp_path / "sitecustomize.py").write_text(POISON.format(act=act))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    config = settings(tmp_path, "corpus.clips_per_shard=8", "workers=1", "clip_timeout=8")
    summary = preprocess(config, corpus, lambda line: None)
    assert summary.counts["logmel"] == {"ok": 3, status: 1}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """A corpus and its cache, made by the real command without trouble."""
    tmp_path = tmp_path_factory.mktemp("undisturbed")
    sound_corpus(tmp_path / "raw", speakers=4)
    assert run_door(tmp_path, f"cache={tmp_path / 'whole'}").wait(120) == 0, (
        tmp_path / "output.txt"
    ).read_text()
    return tmp_path


def run_door(tmp_path: Path, *more: str) -> subprocess.Popen:
    table = tmp_path / "raw/clips.csv"
    rows = [f"s{s}/c{n}.flac,s{s},{'low' if n % 2 else 'high'}" for s in range(4) for n in range(4)]
    table.write_text("path,speaker,label\n" + "\n".join(rows) + "\n")
    words = ["corpus.name=table", f"corpus.root={tmp_path / 'raw'}", f"corpus.table={table}"]
    words += ["stages=[logmel]", "corpus.clips_per_shard=1", "workers=2", *more]
    command = [sys.executable, "-m", "pipeline", "preprocess", *words]
    with open(tmp_path / "output.txt", "w") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_stopped_run_goes_on_to_the_same_bytes(undisturbed, sent):
    cache = undisturbed / f"cut-{sent}"
    run = run_door(undisturbed, f"cache={cache}")
    begun = time.monotonic()
    while not list(cache.glob("*/*/*.h5")) and time.monotonic() - begun < 60:
        time.sleep(0.01)
    os.kill(run.pid, sent)
    assert run.wait(20) == (-9 if sent == signal.SIGKILL else 130), (undisturbed / "output.txt").read_text()
    assert run_door(undisturbed, f"cache={cache}").wait(120) == 0, (undisturbed / "output.txt").read_text()
    assert tree_bytes(cache) == tree_bytes(undisturbed / "whole")
