"""The packed form: smaller, refused for training, and exactly what was packed when it comes out."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import h5py
import numpy as np
import pytest

from deiii.__main__ import main
from deiii.data.cache.identity import SOURCES, recorded_media
from deiii.data.cache.index import CacheError, read_index, stage_folder
from deiii.data.cache.packed import pack, unpack
from deiii.data.cache.shards import ShardError, read_info
from deiii.data.loader.feature_set import FeatureSet
from deiii.data.tools.atomic_files import write_json
from deiii.data.tools.writer_lock import writer_lock
from tests.helpers.caches import CORPUS, KEYS, make_cache

FRAMES, HOPS = [30, 20, 0, 3], [40, 15, 30, 0]


@pytest.fixture
def packed(tmp_path):
    config = make_cache(tmp_path / "cache", FRAMES, HOPS, bad_flow=(1,))
    pack(tmp_path / "cache", tmp_path / "archive", progress=False)
    return config, tmp_path


def shards(root):
    return {p.relative_to(root): p.read_bytes() for p in sorted(root.rglob("*.h5"))}


def test_unpacking_gives_the_same_bytes(packed):
    _, root = packed
    unpack(root / "archive", root / "back", progress=False)
    assert shards(root / "back") == shards(root / "cache")
    for stage, key in KEYS.items():
        one, two = (read_index(stage_folder(root / r, CORPUS, stage, key)) for r in ("cache", "back"))
        assert one == two
    assert main(["verify", f"cache={root / 'back'}"]) == 0


def test_what_is_recorded_of_the_media_comes_out_too(packed):
    """By it, trainings are refused that start from a network that has seen a test recording."""
    _, root = packed
    media = {"c000.mp4": [7, 1, "ab" * 32]}
    write_json(root / "cache" / CORPUS / SOURCES, media)
    pack(root / "cache", root / "archive", progress=False)
    unpack(root / "archive", root / "back", progress=False)
    assert recorded_media(root / "back", CORPUS) == media


@pytest.mark.parametrize("other", ["another/faces-1/a.h5", f"{CORPUS}/gone-1/packed.json", f"{CORPUS}/x.csv"])
def test_an_archive_of_another_cache_is_not_added_to(packed, other):
    """It is published as a whole, with clips of a corpus that may not be given to others."""
    _, root = packed
    path = root / "archive" / other
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    with pytest.raises(CacheError, match=f"archive holds 1 file that .* does not have, such as {other}"):
        pack(root / "cache", root / "archive", progress=False)
    path.unlink()
    (root / "archive/.git/refs").mkdir(parents=True)
    (root / "archive/.git/refs/HEAD").touch()  # the archive is published by git
    pack(root / "cache", root / "archive", progress=False)


def test_constant_content_comes_out_again(tmp_path):
    """The flow of a still image, and black frames, are compressed to a few bytes for each chunk."""
    from deiii.data.cache.index import StageIndex, record_shard, write_index
    from deiii.data.cache.outcomes import Outcome, Status
    from deiii.data.cache.shard_writer import ShardWriter

    folder = tmp_path / "cache" / "c" / "flow-1"
    folder.mkdir(parents=True)
    arrays = {"flow": np.zeros((202, 72, 72, 2), np.int8), "time": np.arange(202) / 25}
    with ShardWriter(folder / "a.h5", "flow", "1", {}) as shard:
        shard.add("x", Outcome(Status.OK), arrays, "")
    write_index(folder, StageIndex("flow", "1", {}, [record_shard(folder / "a.h5")]))
    pack(tmp_path / "cache", tmp_path / "archive", progress=False)
    unpack(tmp_path / "archive", tmp_path / "back", progress=False)
    assert shards(tmp_path / "back") == shards(tmp_path / "cache")


def test_smooth_content_becomes_smaller(tmp_path):
    from deiii.data.cache.index import StageIndex, record_shard, write_index
    from deiii.data.cache.outcomes import Outcome, Status
    from deiii.data.cache.shard_writer import ShardWriter

    folder = tmp_path / "cache" / "c" / "logmel-1"
    folder.mkdir(parents=True)
    smooth = np.add.outer(np.arange(4000), np.arange(80)).astype(np.float16)
    with ShardWriter(folder / "a.h5", "logmel", "1", {}) as shard:
        shard.add("x", Outcome(Status.OK), {"logmel": smooth, "time": np.arange(4000) / 100}, "")
    write_index(folder, StageIndex("logmel", "1", {}, [record_shard(folder / "a.h5")]))
    before, after = pack(tmp_path / "cache", tmp_path / "archive", progress=False)
    assert after < 0.3 * before


def test_training_on_it_is_refused_with_the_command(packed):
    config, root = packed
    config.cache = str(root / "archive")
    with pytest.raises(CacheError, match=r"packed form.*deiii unpack .*archive CACHE"):
        FeatureSet.open(config, KEYS)
    path = next((root / "archive").rglob("*.h5"))
    with pytest.raises(ShardError, match="unpack"):
        read_info(path)


def test_a_stopped_run_goes_on(packed):
    _, root = packed
    victim = sorted((root / "archive").rglob("*.h5"))[0]
    kept = {p: p.stat().st_mtime_ns for p in (root / "archive").rglob("*.h5") if p != victim}
    victim.unlink()
    pack(root / "cache", root / "archive", progress=False)
    assert victim.is_file() and kept == {p: p.stat().st_mtime_ns for p in kept}


LIMITED = """
import resource, sys
from deiii.data.cache.packed import pack, unpack
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]),) * 2)
try:
    {"pack": pack, "unpack": unpack}[sys.argv[1]](sys.argv[2], sys.argv[3], progress=False)
except OSError as error:
    print(error.errno, error.filename)
"""


@pytest.mark.parametrize("what", ["pack", "unpack"])
def test_a_disk_that_takes_no_more_bytes_is_reported_with_the_file_and_the_command_goes_on(packed, what):
    """HDF5 ends the process by a signal if it cannot flush a file that h5py closes."""
    _, root = packed
    source, function = {"pack": ("cache", pack), "unpack": ("archive", unpack)}[what]
    words = [what, str(root / source), str(root / "out"), "2500"]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *words], capture_output=True, text=True, timeout=120
    )
    number, _, name = done.stdout.strip().partition(" ")
    assert (done.returncode, done.stderr) == (0, ""), done
    assert int(number) == errno.EFBIG and str(root / "out") in name and name.endswith(".h5"), done
    assert not list((root / "out").rglob("*.tmp"))
    function(root / source, root / "out", progress=False)
    assert shards(root / "out") == shards(root / {"pack": "archive", "unpack": "cache"}[what])


def test_a_cache_is_packed_where_hdf5_gets_no_file_lock(packed):
    """Network file systems without locks answer an error, as the kernel does to a second lock of a file."""
    _, root = packed
    with ExitStack() as held:
        for path in [*(root / "cache").rglob("*.h5"), *(root / "archive").rglob("*.h5")]:
            fcntl.flock(held.enter_context(open(path, "rb")), fcntl.LOCK_EX)
        pack(root / "cache", root / "second", progress=False)
        unpack(root / "archive", root / "third", progress=False)
    assert shards(root / "third") == shards(root / "cache")
    assert shards(root / "second") == shards(root / "archive")


@pytest.mark.parametrize("what", ["pack", "unpack"])
def test_a_folder_into_which_another_process_writes_is_waited_for(packed, what, capsys):
    """For the cache of a corpus, by the lock that preprocessing holds."""
    _, root = packed
    folder, work = {
        "pack": (root / "archive", lambda: pack(root / "cache", root / "archive", progress=False)),
        "unpack": (root / "back" / CORPUS, lambda: unpack(root / "archive", root / "back", progress=False)),
    }[what]
    with ThreadPoolExecutor(1) as pool:
        with writer_lock(folder):
            waits = pool.submit(work)
            with pytest.raises(TimeoutError):
                waits.result(timeout=0.3)
        waits.result(timeout=60)
    assert f"another run is writing to {folder} (process {os.getpid()}" in capsys.readouterr().out


def test_changed_content_is_refused(packed):
    _, root = packed
    path = sorted((root / "archive").rglob("*.h5"))[0]
    with h5py.File(path, "r+") as file:
        name = next(n for n in ("frames", "flow", "logmel") if n in file)
        file[name][0] = np.zeros(file[name].shape[1:]) + 1
    with pytest.raises(ShardError, match="not what was packed"):
        unpack(root / "archive", root / "back", progress=False)
    assert not list((root / "back").rglob("index.json")) and not list((root / "back").rglob(path.name))


def test_a_field_that_claims_terabytes_is_refused_before_it_is_read(packed):
    _, root = packed
    path = sorted((root / "archive").rglob("*.h5"))[0]
    with h5py.File(path, "r+") as file:
        del file["time"]
        file.create_dataset("time", (1 << 40,), np.float64, chunks=(1 << 16,))
    with pytest.raises(ShardError, match="claims"):
        unpack(root / "archive", root / "back", progress=False)


def _damaged_columns(file, case):
    """Change the columns of a packed shard as in a file that was damaged or made to do harm."""
    if case == "few offsets":
        del file["offsets"]
        file["offsets"] = np.array([0])
    elif case == "numbers for names":
        count = len(file["clip_id"])
        del file["clip_id"]
        file["clip_id"] = np.arange(count)
    elif case == "a group":
        del file["time"]
        file.create_group("time")
    else:
        del file["clip_id"]
        file.create_dataset("clip_id", (1 << 36,), "S64", chunks=(1 << 16,))


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("few offsets", "not a readable packed shard"),
        ("numbers for names", "not a readable packed shard"),
        ("a group", "'time' is not an array"),
        ("terabytes of names", "'clip_id' claims 4398046511104 bytes"),
    ],
)
def test_columns_that_are_none_are_errors_that_name_the_file(packed, case, says):
    _, root = packed
    path = sorted((root / "archive").rglob("*.h5"))[0]
    with h5py.File(path, "r+") as file:
        _damaged_columns(file, case)
    with pytest.raises(ShardError, match=f"{path.name}: .*{says}|{path.name}: {says}"):
        unpack(root / "archive", root / "back", progress=False)


@pytest.mark.parametrize(
    "text", ['{"shards": []}', '{"shards": [{"name": "", "digest": ""}]}', "[" * 100_000]
)
def test_a_list_without_shards_is_damaged(packed, text):
    """A stage was left out without a word where its list was empty."""
    _, root = packed
    path = sorted((root / "archive").rglob("packed.json"))[0]
    whole = json.loads(path.read_text())
    path.write_text(json.dumps(whole | json.loads(text)) if text.startswith("{") else text)
    with pytest.raises(CacheError, match="packed.json is damaged"):
        unpack(root / "archive", root / "back", progress=False)


def _flip_a_bit(folder):
    """Change one bit of an array in the first shard of a cache, as a failing disk does; returns its path."""
    index = read_index(sorted(folder.glob("*/faces-*"))[0])
    shard = index.shards[0]
    path = next(folder.glob(f"*/faces-*/{shard.name}.h5"))
    data = bytearray(path.read_bytes())
    data[shard.fields["frames"].offset] ^= 1
    path.write_bytes(data)
    return path


def test_damaged_shards_are_not_packed(packed):
    """They were packed without a word; only `unpack` noticed it, when the cache may have been removed."""
    _, root = packed
    path = _flip_a_bit(root / "cache")
    with pytest.raises(ShardError, match=f"{path.name}: its bytes have changed .*`deiii preprocess`"):
        pack(root / "cache", root / "second", progress=False)
    assert not list((root / "second").rglob("packed.json"))


def test_damaged_shards_are_restored(packed):
    """The digest that the file states was compared, not its content, and the shard was kept as it was."""
    _, root = packed
    before = shards(root / "cache")
    _flip_a_bit(root / "cache")
    unpack(root / "archive", root / "cache", progress=False)
    assert shards(root / "cache") == before


def test_whole_shards_are_kept_as_they_are(packed):
    _, root = packed
    times = {path: path.stat().st_mtime_ns for path in (root / "cache").rglob("*.h5")}
    unpack(root / "archive", root / "cache", progress=False)
    assert times == {path: path.stat().st_mtime_ns for path in (root / "cache").rglob("*.h5")}


def test_a_missing_shard_is_named_in_one_short_line(packed):
    _, root = packed
    path = sorted((root / "archive").rglob("*.h5"))[0]
    path.unlink()
    with pytest.raises(ShardError) as told:
        unpack(root / "archive", root / "back", progress=False)
    assert str(told.value) == f"{path} is missing; copy or fetch the archive again"


@pytest.mark.parametrize("linked", [False, True])
def test_a_folder_is_not_packed_or_unpacked_into_itself(packed, linked):
    _, root = packed
    before = shards(root)
    names = {"cache": root / "cache", "archive": root / "archive"}
    if linked:
        for name in names:
            (root / f"to-{name}").symlink_to(root / name)
            names[name] = root / f"to-{name}"
    with pytest.raises(CacheError, match="read and written at once"):
        pack(root / "cache", names["cache"], progress=False)
    with pytest.raises(CacheError, match="read and written at once"):
        unpack(root / "archive", names["archive"], progress=False)
    assert shards(root) == before


def test_shards_of_other_content_are_packed_and_restored_again(tmp_path):
    """A media file was replaced: the shard has the same name and other bytes."""
    for name, flaw in (("old", ()), ("new", (1,))):
        make_cache(tmp_path / name, FRAMES, HOPS, bad_flow=flaw)
        pack(tmp_path / name, tmp_path / "archive", progress=False)
        unpack(tmp_path / "archive", tmp_path / "back", progress=False)
        assert shards(tmp_path / "back") == shards(tmp_path / name)
        assert main(["verify", f"cache={tmp_path / 'back'}"]) == 0
    assert shards(tmp_path / "old") != shards(tmp_path / "new")


def test_the_command_line(packed, capsys):
    _, root = packed
    assert main(["pack", str(root / "cache"), str(root / "second")]) == 0
    assert main(["unpack", str(root / "second"), str(root / "third")]) == 0
    assert shards(root / "third") == shards(root / "cache")
    (root / "neither").mkdir()
    for words, told in (
        (["unpack", root / "cache"], f"is a cache, which needs no unpacking: use it as cache={root}/cache"),
        (["unpack", root / "neither"], "neither holds no packed cache; `deiii pack` writes one"),
        (["unpack", root / "gone"], f"there is no folder {root}/gone; check the path of the archive"),
        (["pack", root / "second"], f"second is an archive, which is packed already; copy it as it is, or "
                                    f"restore it: deiii unpack {root}/second CACHE"),
        (["pack", root / "neither"], "neither holds no finished stage to pack; run `deiii preprocess` first"),
        (["pack", root / "gone"], f"there is no folder {root}/gone; check the path of the cache"),
    ):  # fmt: skip
        assert main([*map(str, words), str(root / "fourth")]) == 1
        assert told in capsys.readouterr().err
        assert not (root / "fourth").exists()
