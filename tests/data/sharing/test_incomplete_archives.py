"""Incomplete archives are not unpacked, and downloads go on where they stopped."""

from __future__ import annotations

import json
import shutil

import pytest

from deiii.__main__ import main
from deiii.data.sharing import archive as module
from deiii.data.sharing.archive import check_complete, fetch_archive
from deiii.data.tools.fetch import DownloadError
from tests.helpers.clips import tree_bytes


def test_what_a_stopped_fetch_left_is_not_unpacked(server, published, tmp_path, monkeypatch, capsys):
    """The stages that were there were restored, and the others were missing without a word."""
    real, got = module._get, []

    def stop(base, path, name, wanted):
        if got and name.endswith("packed.json"):
            raise OSError("the connection is gone")
        got.append(name)
        real(base, path, name, wanted)

    monkeypatch.setattr(module, "_get", stop)
    with pytest.raises(DownloadError, match="run the same command again"):
        fetch_archive(server.url, tmp_path / "got", progress=False)
    assert main(["unpack", str(tmp_path / "got"), str(tmp_path / "cache")]) == 1
    assert "was stopped; run the same fetch-cache command again" in capsys.readouterr().err
    monkeypatch.undo()
    fetch_archive(server.url, tmp_path / "got", progress=False)
    assert main(["unpack", str(tmp_path / "got"), str(tmp_path / "cache")]) == 0


def test_a_list_that_does_not_arrive_leaves_a_whole_archive_whole(published, tmp_path, monkeypatch):
    monkeypatch.setattr("deiii.data.tools.fetch.PAUSE_S", 0.0)
    shutil.copytree(published[0] / "archive", tmp_path / "got")
    monkeypatch.setattr(module, "stream", _half_a_list)
    with pytest.raises(DownloadError, match="run the same command again"):
        fetch_archive("http://127.0.0.1:9/x", tmp_path / "got", progress=False)
    check_complete(tmp_path / "got")


def _half_a_list(url, part, *_, **__):
    part.write_bytes(b"{")
    raise OSError("the connection is gone")


@pytest.mark.parametrize("what", ["stage", "shard", "short", "table"])
def test_an_incomplete_copy_is_not_unpacked(published, tmp_path, what, capsys):
    shutil.copytree(published[0] / "archive", tmp_path / "copy")
    stage = sorted((tmp_path / "copy").glob("*/logmel-*"))[0]
    if what == "stage":
        shutil.rmtree(stage)
    elif what == "shard":
        sorted(stage.glob("*.h5"))[-1].unlink()
    elif what == "short":
        path = sorted(stage.glob("*.h5"))[-1]
        path.write_bytes(path.read_bytes()[:-1])
    else:
        (stage.parent / "clips.json").unlink()
    assert main(["unpack", str(tmp_path / "copy"), str(tmp_path / "cache")]) == 1
    assert "files that archive.json names" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_an_archive_with_another_card_or_without_its_list_is_unpacked(published, tmp_path, capsys):
    shutil.copytree(published[0] / "archive", tmp_path / "copy")
    (tmp_path / "copy/README.md").write_text("# Ours\n")
    assert main(["unpack", str(tmp_path / "copy"), str(tmp_path / "cache")]) == 0
    assert "note" not in capsys.readouterr().err
    (tmp_path / "copy/archive.json").unlink()
    assert main(["unpack", str(tmp_path / "copy"), str(tmp_path / "cache")]) == 0
    assert "has no archive.json, so it is not known whether it is complete" in capsys.readouterr().err
    assert main(["unpack", str(tmp_path / "nothing"), str(tmp_path / "cache")]) == 1
    assert "note" not in capsys.readouterr().err


def test_what_was_downloaded_needs_no_more_room(server, published, tmp_path, monkeypatch):
    """A stopped download could not go on where the disk has room for the rest alone."""
    listed = json.loads((published[0] / "archive/archive.json").read_text())["files"]
    largest = max(listed, key=lambda file: file["bytes"])
    part = tmp_path / "got" / largest["path"]
    part = part.with_name(f".{part.name}.tmp")
    part.parent.mkdir(parents=True)
    part.write_bytes((published[0] / "archive" / largest["path"]).read_bytes()[:-1])
    rest = sum(file["bytes"] for file in listed) - largest["bytes"] + 1
    free = type("Usage", (), {"free": rest - 1})
    monkeypatch.setattr("deiii.data.tools.fetch.shutil.disk_usage", lambda _: free)
    with pytest.raises(DownloadError, match=r"kB are needed \(1 byte more\); name a folder on another disk"):
        fetch_archive(server.url, tmp_path / "got", progress=False)
    free.free = rest
    fetch_archive(server.url, tmp_path / "got", progress=False)
    assert tree_bytes(tmp_path / "got") == tree_bytes(published[0] / "archive")
