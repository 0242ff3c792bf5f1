"""The commands of preprocessing: exit statuses and messages that say what to do."""

from __future__ import annotations

import shutil

import pytest

from deiii.__main__ import main
from deiii.data.corpora.protocol import load_protocol, protocol_names
from tests.helpers.caches import make_cache
from tests.helpers.clips import audio_corpus


def test_too_many_failures_make_the_exit_status_non_zero(tmp_path, capsys):
    audio_corpus(tmp_path / "raw", speakers=1, clips=2)
    (tmp_path / "raw/clips.csv").write_text("path,speaker,label\ns0/c0.flac,s0,a\ns0/gone.flac,s0,b\n")
    words = ["preprocess", "corpus.name=table", f"corpus.root={tmp_path / 'raw'}", "stages=[logmel]"]
    words += [f"cache={tmp_path / 'cache'}", "workers=1"]
    assert main([*words, "max_failed=0.4"]) == 1
    printed = capsys.readouterr()
    assert "1 of 2 clips failed" in printed.err and "failures.csv" in printed.err
    assert "features of the other clips are complete" in printed.err
    assert "2 clips of 1 speaker in 1 shard\n" in printed.out and "step" not in printed.out
    assert main([*words, "max_failed=0.6"]) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_a_corpus_without_video_names_the_stages_that_it_has(tmp_path, capsys):
    """RAVDESS's videos without sound failed on log-mel, all of them, and no remedy was named."""
    audio_corpus(tmp_path / "raw", speakers=1, clips=2)
    (tmp_path / "raw/clips.csv").write_text("path,speaker,label\ns0/c0.flac,s0,a\ns0/c1.flac,s0,b\n")
    words = ["preprocess", "corpus.name=table", f"corpus.root={tmp_path / 'raw'}", "stages=[faces,logmel]"]
    assert main([*words, f"cache={tmp_path / 'cache'}", "workers=1"]) == 1
    error = capsys.readouterr().err
    assert "2 of 2 clips failed" in error
    assert (
        "No clip has video: without it, set stages=[logmel], and for the network model.video=false" in error
    )


def test_the_list_of_protocols_has_the_whole_source_of_each(capsys):
    assert main(["splits", "list"]) == 0
    printed = capsys.readouterr().out
    for source in (load_protocol(name).source for name in protocol_names()):
        assert all(words in printed for words in source.values())


def test_a_quiet_command_prints_errors_and_where_its_results_are(tmp_path, capsys):
    pytest.importorskip("hdf5plugin")
    audio_corpus(tmp_path / "raw", speakers=1, clips=2)
    table = "path,speaker,label\ns0/c0.flac,s0,a\ns0/c1.flac,s0,b\n"
    (tmp_path / "raw/clips.csv").write_text(table)
    cache, archive = tmp_path / "cache", str(tmp_path / "archive")
    words = ["corpus.name=table", f"corpus.root={tmp_path / 'raw'}", "stages=[logmel]", f"cache={cache}"]
    features = str(tmp_path / "features")
    for command, path in (
        (["preprocess", *words, "workers=1", "--quiet"], f"{cache}/table-clips/overview.html"),
        (["preprocess", "--quiet", *words, "workers=1"], f"{cache}/table-clips/overview.html"),
        (["overview", *words, "--quiet"], f"{cache}/table-clips/overview.html"),
        (["verify", *words, "--quiet"], str(cache)),
        (["pack", str(cache), archive, "--quiet"], archive),
        (["unpack", archive, str(tmp_path / "again"), "--quiet"], str(tmp_path / "again")),
        (["inspect", str(tmp_path / "raw/s0/c0.flac"), "--no-video", "--out", features, "--quiet"], features),
    ):
        assert main(command) == 0
        printed = capsys.readouterr()
        assert printed.out.count("\n") == 1 and path in printed.out and printed.err == "", command
    (tmp_path / "raw/s0/c0.flac").unlink()
    assert main(["preprocess", *words, "workers=1", "max_failed=0.1", "--quiet"]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("error: 1 of 2 clips failed") and printed.out.count("\n") == 1


def test_errors_are_printed_in_one_line(tmp_path, capsys):
    cache = f"cache={tmp_path / 'cache'}"
    assert main(["preprocess", "corpus.name=table", f"corpus.root={tmp_path}", cache]) == 1
    assert "clips.csv" in capsys.readouterr().err
    assert main(["preprocess", "faces.sise=3"]) == 1
    assert "did you mean 'faces.size'" in capsys.readouterr().err
    words = ["flow.method=raft", "flow.weights=/gone/raft.pth", f"corpus.root={tmp_path}", "workers=1"]
    small = ["corpus.synthetic.speakers=1", "corpus.synthetic.clips_per_class=1"]
    assert main(["preprocess", *words, *small, cache]) == 1
    assert "no such weights file: /gone/raft.pth" in capsys.readouterr().err


def test_verifying_a_cache_that_does_not_exist_is_an_error(tmp_path, capsys):
    assert main(["verify", f"cache={tmp_path / 'none'}"]) == 1
    printed = capsys.readouterr()
    assert str(tmp_path / "none") in printed.err and "deiii preprocess" in printed.err
    assert "checked" not in printed.out


def test_settings_lists_every_key(capsys):
    assert main(["settings"]) == 0
    assert "logmel.n_mels=80" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["preprocess", "overview"])
def test_a_class_that_the_corpus_lacks_is_refused_before_any_work(tmp_path, capsys, command):
    (tmp_path / "clips").mkdir()
    for name in ("a.wav", "b.wav"):
        (tmp_path / "clips" / name).touch()
    (tmp_path / "clips/clips.csv").write_text("path,speaker,label\na.wav,1,anger\nb.wav,2,joy\n")
    words = [f"corpus.root={tmp_path}/clips", f"cache={tmp_path}/cache", "corpus.classes={angry: anger}"]
    assert main([command, "table", *words]) == 1
    assert "did you mean 'anger'?" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_verify_does_not_promise_that_preprocess_removes_shards_of_an_older_table(tmp_path, capsys):
    make_cache(tmp_path, [3, 4], [5, 6], clips_per_shard=1)
    shard = next(tmp_path.glob("*/*-*/*.h5"))
    shutil.copyfile(shard, shard.with_name("older-000-0123456789.h5"))
    assert main(["verify", f"cache={tmp_path}"]) == 1
    printed = capsys.readouterr().out
    assert "delete it" in printed and "computes damaged" not in printed
    shard.write_bytes(shard.read_bytes()[:-1])
    assert main(["verify", f"cache={tmp_path}"]) == 1
    assert "computes damaged and missing shards again" in capsys.readouterr().out
