"""Archives are fetched from a server whole and right, or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from deiii.__main__ import main
from deiii.data.cache.index import read_index, read_table, stage_folder
from deiii.data.config.load import load_config
from deiii.data.sharing import archive as module
from deiii.data.sharing.archive import describe_archive, fetch_archive
from deiii.data.sharing.card import card_text, corpus_facts
from deiii.data.sharing.licences import LICENCES, NOT_STATED, licence_of
from deiii.data.tools.fetch import DownloadError
from tests.helpers.archive_server import serving
from tests.helpers.caches import CORPUS, KEYS, make_cache
from tests.helpers.clips import tree_bytes

pytest.importorskip("hdf5plugin")


def test_fetched_and_unpacked_it_is_the_cache_that_was_packed(server, published, tmp_path, capsys):
    folder, digest = published
    words = ["fetch-cache", f"{server.url}/", str(tmp_path / "got"), "--sha256", digest]
    assert main(words) == 0
    assert tree_bytes(tmp_path / "got") == tree_bytes(folder / "archive")
    assert f"deiii unpack {tmp_path / 'got'} cache" in capsys.readouterr().out
    assert main(["unpack", str(tmp_path / "got"), str(tmp_path / "cache")]) == 0
    kept = {name: data for name, data in tree_bytes(folder / "cache").items()}
    assert tree_bytes(tmp_path / "cache") == kept
    server.asked.clear()
    assert main(words) == 0  # nothing but the list is asked for again
    assert [path for path, _ in server.asked] == ["/archive.json"]


def test_the_address_may_be_that_of_the_list(server, published, tmp_path):
    new, count = fetch_archive(f"{server.url}/archive.json", tmp_path / "got", progress=False)
    assert new == count == len(tree_bytes(published[0] / "archive")) - 1


def test_a_broken_connection_is_continued_within_the_file(server, published, tmp_path, monkeypatch):
    monkeypatch.setattr("deiii.data.tools.fetch.CHUNK", 512)  # what a broken connection loses at most
    server.breaks = max(path.stat().st_size for path in (published[0] / "archive").rglob("*.h5")) // 3 + 1
    fetch_archive(server.url, tmp_path / "got", progress=False)
    assert tree_bytes(tmp_path / "got") == tree_bytes(published[0] / "archive")
    assert any(span and span != "bytes=0-" for _, span in server.asked)


def test_a_stopped_fetch_keeps_whole_files_and_goes_on(server, published, tmp_path, monkeypatch):
    real = module._get
    got = []

    def stop(base, path, name, wanted):
        if len(got) == 3:
            raise KeyboardInterrupt
        got.append(name)
        real(base, path, name, wanted)

    monkeypatch.setattr(module, "_get", stop)
    with pytest.raises(KeyboardInterrupt):
        fetch_archive(server.url, tmp_path / "got", progress=False)
    assert not (tmp_path / "got/archive.json").exists()  # so that nobody takes it for whole
    monkeypatch.undo()
    server.asked.clear()
    fetch_archive(server.url, tmp_path / "got", progress=False)
    assert not {f"/{name}" for name in got} & {path for path, _ in server.asked}
    assert tree_bytes(tmp_path / "got") == tree_bytes(published[0] / "archive")


def test_two_fetches_of_one_archive_take_turns(server, published, tmp_path, monkeypatch):
    real, inside, most = module._get, [], []

    def get(*words):
        inside.append(words)
        most.append(len(inside))
        real(*words)
        inside.pop()

    monkeypatch.setattr(module, "_get", get)
    with ThreadPoolExecutor(2) as pool:  # flock keeps out every other open file, of this process too
        done = list(pool.map(lambda _: fetch_archive(server.url, tmp_path / "got", progress=False), "ab"))
    count = len(most)
    assert sorted(done) == [(0, count), (count, count)] and max(most) == 1
    assert tree_bytes(tmp_path / "got") == tree_bytes(published[0] / "archive")


def test_a_folder_with_files_of_another_archive_is_refused(server, published, tmp_path):
    """`unpack` would restore them beside those of the list."""
    shutil.copytree(published[0] / "archive", tmp_path / "got")
    faces = next((tmp_path / "got").glob("*/faces-*"))
    old = faces.rename(faces.with_name("faces-0123456789ab"))
    with pytest.raises(DownloadError, match=r"files that .* does not name, such as .*faces-0123456789ab/"):
        fetch_archive(server.url, tmp_path / "got", progress=False)
    assert not [path for path, _ in server.asked if path.endswith(".h5")]
    assert [path.name for path in (tmp_path / "got").glob(".*")] == [".lock"]  # nothing of the new list
    shutil.rmtree(old)
    fetch_archive(server.url, tmp_path / "got", progress=False)
    assert tree_bytes(tmp_path / "got") == tree_bytes(published[0] / "archive")


def test_a_changed_file_is_refused_and_not_kept(published, tmp_path, monkeypatch):
    shutil.copytree(published[0] / "archive", tmp_path / "bad")
    victim = sorted((tmp_path / "bad").rglob("*.h5"))[0]
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    with serving(tmp_path / "bad") as running:
        with pytest.raises(DownloadError, match="is not the file that archive.json lists"):
            fetch_archive(running.url, tmp_path / "got", progress=False)
    name = victim.relative_to(tmp_path / "bad")
    assert not (tmp_path / "got" / name).exists() and not (tmp_path / "got/archive.json").exists()


def test_another_list_than_the_publisher_states_is_refused(server, tmp_path):
    with pytest.raises(DownloadError, match="another archive, or a changed one"):
        fetch_archive(server.url, tmp_path / "got", "0" * 64, progress=False)
    assert [path for path, _ in server.asked] == ["/archive.json"]


@pytest.mark.parametrize(
    "entry", ['{"path": 3, "bytes": 0', '{"path": "a", "bytes": 1e999', '"a"', "[" * 100_000]
)
def test_a_list_with_other_values_is_refused(entry, tmp_path):
    text = f'{{"format": 1, "files": [{entry}, "sha256": ""}}]}}' if entry.startswith("{") else entry
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil/archive.json").write_text(text)
    with serving(tmp_path / "evil") as running:
        with pytest.raises(DownloadError, match="is not a (list|file) of an archive"):
            fetch_archive(running.url, tmp_path / "got", progress=False)


@pytest.mark.parametrize(
    "path",
    [
        "../x.h5",
        "/etc/x",
        "a/../../x",
        "a\\b",
        ".hidden",
        "a/.b/c.h5",
        "a/b/c/d.h5",
        "archive.json",
        "",
        "a//b",
    ],
)
def test_a_list_cannot_name_files_elsewhere(path, tmp_path):
    (tmp_path / "evil").mkdir()
    entry = {"path": path, "bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()}
    (tmp_path / "evil/archive.json").write_text(json.dumps({"format": 1, "files": [entry]}))
    with serving(tmp_path / "evil") as running:
        with pytest.raises(DownloadError, match="which is not a file of an archive"):
            fetch_archive(running.url, tmp_path / "got/deep", progress=False)
    assert [p.name for p in (tmp_path / "got").rglob("*") if p.is_file()] == [".lock"]


@pytest.mark.parametrize(("url", "says"), [("ftp://x/y", "begins with https"), ("data", "begins with https")])
def test_other_addresses_are_refused(url, says, tmp_path):
    with pytest.raises(DownloadError, match=says):
        fetch_archive(url, tmp_path / "got")


def test_an_archive_on_this_machine_is_unpacked_instead(published, tmp_path):
    """A shared folder needs no download; the message told to type an address."""
    folder = published[0] / "archive"
    for name in (folder, folder / "archive.json"):
        with pytest.raises(DownloadError, match=f"is on this machine: deiii unpack {folder} CACHE"):
            fetch_archive(str(name), tmp_path / "got")


@pytest.mark.parametrize("digest", ["abc", "0" * 63, "g" * 64, "sha256:" + "0" * 57])
def test_a_digest_of_another_form_is_refused_before_the_download(server, digest, tmp_path):
    """The message said that the archive was another one, or had changed."""
    with pytest.raises(DownloadError, match="a SHA-256 has 64 hexadecimal digits"):
        fetch_archive(server.url, tmp_path / "got", digest, progress=False)
    assert server.asked == []


def test_an_address_without_an_archive_says_what_is_expected(server, tmp_path):
    with pytest.raises(DownloadError, match="`deiii pack` writes"):
        fetch_archive(f"{server.url}/nothing", tmp_path / "got")


def test_a_server_that_cannot_be_reached_is_named_in_one_short_line(tmp_path, monkeypatch):
    monkeypatch.setattr("deiii.data.tools.fetch.PAUSE_S", 0.0)
    with pytest.raises(DownloadError) as told:
        fetch_archive("http://127.0.0.1:9/x", tmp_path / "got")
    words = str(told.value)
    assert words.startswith("127.0.0.1:9 cannot be reached (") and "check the address" in words
    assert "Pool" not in words and "Errno" not in words and len(words) < 200


def test_the_card_names_every_stage_with_its_outcomes(published):
    card = (published[0] / "archive/README.md").read_text()
    assert "deiii fetch-cache" in card and "import h5py, hdf5plugin" in card
    for stage in ("faces", "flow", "logmel"):
        assert f"| {stage} | `" in card
    assert describe_archive(published[0] / "cache", published[0] / "archive") == published[1]


def test_two_caches_of_one_stage_have_their_own_outcomes_and_recipes(tmp_path):
    """Both rows had the outcomes of the last one, and the recipes had no key."""
    tables = []
    for frames in ([9, 5, 0, 3], [9, 0, 0, 0]):  # clips with faces: three and one
        config = make_cache(tmp_path / f"cache{len(tables)}", frames, [40, 15, 30, 10])
        corpus = read_table(config.cache, CORPUS)
        index = read_index(stage_folder(config.cache, CORPUS, "faces", KEYS["faces"]))
        params = {"size": len(tables)}
        tables.append(replace(index, key=f"key{len(tables)}", provenance={"params": params}))
    text = card_text([corpus_facts(corpus, tables)], [CORPUS], "t", "a", "b", "c")
    lines = text.splitlines()
    head = next(line for line in lines if line.startswith("| stage | key | shards |"))
    names = [cell.strip() for cell in head.strip("|").split("|")]
    rows = [line for line in lines if line.startswith(("| faces | `key0` |", "| faces | `key1` |"))]
    counts = [dict(zip(names, map(str.strip, row.strip("|").split("|")), strict=True)) for row in rows[:2]]
    assert [row["ok"] for row in counts] == ["3", "1"]
    assert rows[2:] == ["| faces | `key0` | `size=0` |", "| faces | `key1` | `size=1` |"]


def test_the_lines_without_deiii_read_the_first_clip(published, monkeypatch):
    import h5py

    folder, _ = published
    code = (folder / "archive/README.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(folder / "archive")
    space: dict = {}
    exec(code, space)
    file = space["file"]
    with h5py.File(folder / "cache" / file.filename) as plain:
        end = plain["offsets"][1]
        name = next(n for n in plain if n in code)
        assert (space["first"] == plain[name][:end]).all()
    file.close()


def test_licences_by_the_name_in_a_cache():
    assert licence_of("crema_d-1a2b3c4d") == LICENCES["crema_d"]
    assert licence_of("ravdess-video-only-song") == LICENCES["ravdess"]
    assert licence_of("table-ravdess")[1] == "other" and licence_of("ravdessy")[1] == "other"


def test_the_licence_of_each_corpus_by_pattern_is_known():
    """That of CaFE was in its configuration alone, so exports and archives said that it is not stated."""
    titles = set()
    for path in sorted((Path(__file__).parents[3] / "configs").glob("*.yaml")):
        corpus = load_config(path.stem).corpus
        if corpus.name == "pattern":
            titles.add(corpus.title)
            stated = "Licence: not stated" not in path.read_text(encoding="utf-8")
            assert stated == (licence_of(f"pattern-{corpus.title}") != (NOT_STATED, "other")), path
    assert {"cafe", "java_sed"} <= titles
