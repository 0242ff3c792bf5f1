"""A complete cache that cannot be written: there is nothing to do. An incomplete one is refused."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from deiii.__main__ import main
from deiii.data.cache.index import INDEX, corpus_folder
from deiii.data.config.load import load_config
from deiii.data.corpora.scan import scan_corpus
from deiii.pipeline.preprocess import claim
from deiii.pipeline.preprocess.graph import PreprocessError
from deiii.pipeline.preprocess.graph import preprocess as run
from deiii.pipeline.preprocess.read_only import require_cache
from tests.helpers.clips import audio_corpus, tree_bytes
from tests.helpers.shared_worker import preprocess


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Folder with a corpus and its cache."""
    folder = tmp_path_factory.mktemp("finished")
    rows = "".join(f"{c.path},{c.speaker},{c.label}\n" for c in audio_corpus(folder / "clips").clips)
    (folder / "clips/clips.csv").write_text(f"path,speaker,label\n{rows}")
    assert preprocess(*words(folder)) == 0
    return folder


@pytest.fixture
def copy(finished, tmp_path, monkeypatch):
    """A copy of the corpus and its cache at another place; nothing can be written into the cache."""
    shutil.copytree(finished, tmp_path / "copy")
    forbid_writing(monkeypatch)
    return tmp_path / "copy"


def forbid_writing(monkeypatch) -> None:
    def refused(folder, *rest, **more):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(folder))

    monkeypatch.setattr(claim, "writer_lock", refused)
    monkeypatch.setattr("deiii.pipeline.preprocess.read_only.writable_folder", refused)


def words(folder: Path) -> list[str]:
    return [
        "corpus.name=table", f"corpus.root={folder / 'clips'}", "corpus.table=clips.csv", "stages=[logmel]",
        f"cache={folder / 'cache'}", "corpus.clips_per_shard=2",
    ]  # fmt: skip


def settings(folder: Path, *more: str):
    return load_config(overrides=[*words(folder), *more])


def test_the_command_says_that_there_is_nothing_to_do(copy, capsys):
    before = tree_bytes(copy)
    assert main(["preprocess", *words(copy)]) == 0
    out, errors = capsys.readouterr()
    assert "cannot be written; all features of clips are in it" in out + errors
    assert "nothing to do: 6 shards were finished before" in out + errors
    assert "overview" not in out + errors and tree_bytes(copy) == before


def test_the_outcomes_are_those_of_the_index(copy):
    config = settings(copy)
    summary = run(config, scan_corpus(config), lambda line: None)
    assert summary.counts == {"logmel": {"ok": 12}}
    assert (summary.computed, summary.reused, summary.failed, summary.written) == (0, 6, 0, False)


def no_index(folder: Path) -> None:
    next(folder.glob(f"cache/*/*/{INDEX}")).unlink()


def damaged_shard(folder: Path) -> None:
    path = min(folder.glob("cache/*/*/*.h5"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def missing_shard(folder: Path) -> None:
    min(folder.glob("cache/*/*/*.h5")).unlink()


def other_media(folder: Path) -> None:
    path = min(path for path in folder.glob("clips/**/*") if path.is_file() and path.suffix != ".csv")
    path.write_bytes(path.read_bytes()[:-100])


def other_label(folder: Path) -> None:
    path = folder / "clips/clips.csv"
    rows = path.read_text().splitlines()
    labels = sorted({row.split(",")[2] for row in rows[1:]})
    clip, speaker, label = rows[1].split(",")
    rows[1] = ",".join([clip, speaker, next(other for other in labels if other != label)])
    path.write_text("\n".join(rows))


@pytest.mark.parametrize("change", [no_index, damaged_shard, missing_shard, other_media, other_label])
def test_a_cache_in_which_something_must_be_written_is_refused(change, copy):
    change(copy)
    config = settings(copy)
    before = tree_bytes(copy)
    with pytest.raises(PreprocessError, match=r"its file system is read-only.* must be writable"):
        run(config, scan_corpus(config), lambda line: None)
    assert tree_bytes(copy) == before


def test_a_recording_that_was_exchanged_where_it_is_must_be_computed_again(finished, tmp_path, monkeypatch):
    shutil.copytree(finished / "clips", tmp_path / "clips")
    assert preprocess(*words(tmp_path)) == 0
    forbid_writing(monkeypatch)
    config = settings(tmp_path)
    assert run(config, scan_corpus(config), lambda line: None).reused == 6
    other_media(tmp_path)
    with pytest.raises(PreprocessError, match="must be writable"):
        run(config, scan_corpus(config), lambda line: None)


def test_other_settings_are_refused(copy):
    config = settings(copy)
    config = replace(config, logmel=replace(config.logmel, n_mels=40))
    with pytest.raises(PreprocessError, match="must be writable"):
        run(config, scan_corpus(config), lambda line: None)


def test_another_error_than_that_of_rights_is_reported(copy, monkeypatch):
    def full(folder, *rest, **more):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

    monkeypatch.setattr(claim, "writer_lock", full)
    config = settings(copy)
    with pytest.raises(PreprocessError, match="no space left"):
        run(config, scan_corpus(config), lambda line: None)


def test_a_cache_without_any_corpus_is_refused_before_the_work(copy, tmp_path):
    require_cache(copy / "cache")
    with pytest.raises(OSError, match="Read-only"):
        require_cache(tmp_path / "new")
    assert corpus_folder(copy / "cache", "table-clips").is_dir()
