"""A user without a home folder gets one that is private, and no folder ``~`` is made."""

from __future__ import annotations

import os
import pwd
import stat
import tempfile
from pathlib import Path

import pytest

from deiii.data.command_line.entry import Command, run
from deiii.data.config.load import load_config
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.tools import weights
from deiii.data.tools.processes import home_folder
from deiii.data.tools.processes.home_folder import has_home, replace_missing_home


@pytest.fixture
def homeless(tmp_path, monkeypatch):
    """The temporary folder of a user who is in no list of users, as in ``docker run --user 12345``."""

    def unknown(number):
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(home_folder, "_replacements", [])
    for name in ("HOME", "XDG_CACHE_HOME", "DEIII_CACHE_DIR"):
        monkeypatch.setenv(name, "")  # so that what the function sets is removed after the test
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("home", [None, "", "relative"])
def test_downloads_have_a_folder_of_the_user(homeless, monkeypatch, home):
    if home is not None:
        monkeypatch.setenv("HOME", home)
    folder = homeless / f"deiii-home-{os.getuid()}"
    assert weights.cache_folder() == folder / ".cache/deiii"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and [*homeless.iterdir()] == [folder]


@pytest.mark.parametrize("writable", [False, True])
def test_the_top_folder_is_a_home_where_it_can_be_written(homeless, monkeypatch, writable):
    """Docker sets HOME=/ for users in no list: downloads ended with "Permission denied: '/.cache'"."""
    monkeypatch.setenv("HOME", "/")
    monkeypatch.setattr(os, "access", lambda path, mode: writable)
    replace_missing_home()
    assert os.environ["HOME"] == ("/" if writable else str(homeless / f"deiii-home-{os.getuid()}"))
    assert has_home() == writable


def test_a_command_and_its_workers_have_one(homeless):
    seen = []
    run(lambda: Command(lambda: seen.append((os.environ["HOME"], Path.home())) or 0), ends_program=False)
    folder = homeless / f"deiii-home-{os.getuid()}"
    assert seen == [(str(folder), folder)]


def test_a_folder_of_another_user_is_not_used(homeless):
    """It could hold machine code, which Numba would run."""
    (homeless / "theirs").mkdir()
    (homeless / f"deiii-home-{os.getuid()}").symlink_to(homeless / "theirs")
    replace_missing_home()
    assert Path.home().resolve() != homeless / "theirs" and Path.home().is_dir()


def test_a_home_folder_is_kept(homeless, monkeypatch):
    monkeypatch.setenv("HOME", "/home/anna")
    replace_missing_home()
    assert os.environ["HOME"] == "/home/anna" and has_home()
    assert load_config([], ["cache=~/cache"]).cache == "/home/anna/cache"


@pytest.mark.parametrize("path", ["~/cache", "~"])
@pytest.mark.parametrize("replaced", [False, True])
def test_a_path_at_home_is_refused(homeless, path, replaced):
    """A folder ``~`` would be made in the current folder, or the files would be in the temporary folder."""
    if replaced:
        replace_missing_home()
    with pytest.raises(ConfigError, match=r"^cache: ~.* is not expanded here; name a file or folder"):
        load_config([], [f"cache={path}"])
