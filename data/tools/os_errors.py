"""Errors of the operating system as a message that names the file, the reason and the remedy.

>>> explain(FileNotFoundError(2, "No such file or directory", "clips/a.mp4"))
'clips/a.mp4: no such file or folder; check the path'
"""

from __future__ import annotations

import errno
import os
import re
import resource
import sys
import traceback
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deiii.data.tools.text.printable import printable_name
from deiii.data.tools.text.sizes import memory_size

READ_OR_WRITE = "allow this user to use it (chmod, chown), or name another file or folder"
SPACE = "free some space, or name a folder on another disk"
DEVICE = "check the disk or the network connection, then run the command again"

STDOUT = "standard output"  # the file name in errors of writing to it

# Errors by which a disk refuses to take more bytes; calls such as ``write`` do not name the file.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})

# The dynamic linker's message about a library, which Python raises as an ImportError.
NOT_MAPPED = re.compile(
    r"([^\s:/]+): (?:failed to map segment|cannot (?:create|apply|allocate).*: Cannot allocate)"
)
# Its message about a library that is not installed.
NO_LIBRARY = re.compile(r"[^\s:/]+\.so[.\d]*(?=: cannot open shared object file)")

# Reason and remedy by number. An empty reason is replaced by that of the system.
EXPLAINED: dict[int, tuple[str, str]] = {
    errno.ENOENT: ("no such file or folder", "check the path"),
    errno.EACCES: ("permission denied", READ_OR_WRITE),
    errno.EPERM: ("permission denied", READ_OR_WRITE),
    errno.EROFS: ("its file system is read-only", "name a folder on a disk that can be written"),
    errno.ENOSPC: ("no space left on its disk", SPACE),
    errno.EDQUOT: ("the quota of this user is used up", SPACE),
    errno.EFBIG: (
        "the file is larger than its disk or this user's limits allow",
        f"allow larger files (ulimit -f), {SPACE}",
    ),
    errno.EISDIR: ("is a folder, where a file is needed", "name a file"),
    errno.ENOTDIR: ("is a file, where a folder is needed", "name another folder"),
    errno.EEXIST: ("exists already", "name another one, or remove it"),
    errno.ENOTEMPTY: ("the folder is not empty", "name another folder"),
    errno.ENAMETOOLONG: ("the name is too long", "use a shorter one"),
    errno.ELOOP: ("its links lead in a circle", "correct the links"),
    errno.EMFILE: ("too many open files in this process", "allow more (ulimit -n), or use fewer workers"),
    errno.ENFILE: ("this machine has too many open files", "end other programs"),
    errno.ENOMEM: ("memory ran out", "use fewer workers, or end other programs"),
    errno.EIO: ("the disk reports an error", DEVICE),
    errno.ESTALE: ("the network file system has lost it", DEVICE),
    errno.EADDRINUSE: (
        "the network port is used by another program",
        "end that program or name another port (dashboard=)",
    ),
    errno.ECONNREFUSED: ("nothing answers there", "check the address and that its program runs"),
}  # fmt: skip


def explain(error: OSError) -> str:
    """Return the message for an error of the operating system: ``file: reason; remedy``.

    An error that deiii or a library raised with a text of its own, without a number, keeps that text.

    >>> explain(OSError("the disk of cache/ is full; free some space"))
    'the disk of cache/ is full; free some space'
    """
    if error.errno is None or error.strerror is None:
        return str(error) or type(error).__name__
    number, path = error.errno, error.filename
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    if not isinstance(path, (str, os.PathLike)):  # some errors name no file, or a descriptor
        reason, remedy = EXPLAINED.get(number, ("", ""))
        return "; ".join(text for text in (reason or error.strerror, remedy) if text)
    place = Path(path)
    name = printable_name(place)
    if number in (errno.ENOTDIR, errno.EEXIST, errno.ENOENT):
        stop = file_on_the_way(place)
        if stop is not None and stop.is_symlink() and not stop.exists():
            target = printable_name(os.readlink(stop))
            words = f"{printable_name(stop)} is a link to {target}, which does not exist"
            return f"{f'{name}: ' if stop != place else ''}{words}; create that, or correct the link"
        if stop is not None and (stop != place or number == errno.ENOTDIR):
            return f"{name}: {printable_name(stop)} is a file, not a folder; name another folder"
    if number in (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS) and (holder := pseudo_folder(place)):
        return f"{name}: {holder} belongs to the system and holds no files of users; name another folder"
    reason, remedy = EXPLAINED.get(number, ("", ""))
    return "; ".join(text for text in (f"{name}: {reason or error.strerror}", remedy) if text)


def library_words(error: BaseException) -> str:
    """Return the message for a library that cannot be loaded into memory; empty for another error.

    >>> library_words(ImportError("/lib/libtorch.so: failed to map segment from shared object"))[:29]
    'libtorch.so cannot be loaded:'
    """
    found = NOT_MAPPED.search(str(error)) if isinstance(error, (ImportError, OSError)) else None
    if not found:
        return ""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return (
            f"{found[1]} cannot be loaded: memory is short, so end other programs; or the file system of the "
            "Python packages forbids programs (noexec), so install them on another one"
        )
    return (
        f"{found[1]} cannot be loaded: this process may use {memory_size(limit)} of address space; "
        "allow more (ulimit -v unlimited), and in a batch system ask for more memory"
    )


def imported_package(error: ImportError) -> str:
    """Return the package that could not be imported, or whose own import failed.

    >>> imported_package(ModuleNotFoundError("No module named 'a.b'", name="a.b"))
    'a'
    """
    named = (error.name or "").partition(".")[0]
    if named not in ("", "deiii"):
        return named
    found = "deiii"  # the package that its modules import last
    for frame, _ in traceback.walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package == "deiii" or (found == "deiii" and package != "importlib"):
            found = package
    return found


def import_remedy(error: ImportError) -> str:
    """Return what to do about a package that cannot be imported.

    >>> import_remedy(ImportError("libGL.so.1: cannot open shared object file"))[:39]
    'install the library libGL.so.1 of the s'
    """
    if found := NO_LIBRARY.search(str(error)):
        packages = " (Debian and Ubuntu: apt-get install libgl1)" if found[0].startswith("libGL.") else ""
        return f"install the library {found[0]} of the system{packages}, or reinstall the package"
    if isinstance(error, ModuleNotFoundError):
        return "install deiii with the packages that it needs; `deiii doctor` names them"
    return "reinstall the package, or see `deiii doctor`"


def require_current_folder() -> None:
    """Refuse to work in a folder that was deleted: no relative path and no new process works there.

    Raises:
        FileNotFoundError: with a text that names the remedy.

    >>> require_current_folder()
    """
    try:
        os.getcwd()
    except FileNotFoundError:
        raise FileNotFoundError(
            "the current folder was deleted, or replaced by another one of its name; go to a folder that "
            "exists (cd), then run the command again"
        ) from None


def is_missing(path: str | os.PathLike[str]) -> bool:
    """Return whether there is no file of this name; false if the file system cannot tell.

    >>> is_missing("/nothing/here"), is_missing(__file__)
    (True, False)
    """
    try:
        os.stat(path)
    except FileNotFoundError:
        return True
    except (OSError, ValueError):  # it does not answer, refuses access, or has no such names
        return False
    return False


def is_file(path: str | os.PathLike[str]) -> bool:
    """Return whether a word of a command names a file; false for a word that is too long to be a name.

    Raises:
        OSError: the file system does not answer, or refuses access.

    >>> is_file(__file__), is_file("train.lr" * 99)
    (True, False)
    """
    try:
        return Path(path).is_file()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False


def file_on_the_way(path: Path) -> Path | None:
    """Return the first part of a path that exists and is not a folder; ``None`` if there is none.

    >>> file_on_the_way(Path(__file__) / "x") == Path(__file__)
    True
    """
    for part in [*reversed(path.parents), path]:
        try:
            if os.path.lexists(part) and not part.is_dir():
                return part
        except OSError:
            return None
    return None


def other_case(path: str) -> str:
    """Return the end of a message on a missing file: what differs from its path in spelling alone.

    That is case, blanks, or backslashes in place of folders.

    Empty if there is no such file. Tables from Windows and macOS often have another case than Linux needs.

    >>> other_case("/nothing/here")
    ''
    """
    place = Path(path)
    for part in [*reversed(place.parents), place]:
        if os.path.lexists(part):
            continue
        try:
            wanted = _plain(part.name)
            found = [name for name in sorted(os.listdir(part.parent)) if _plain(name) == wanted]
        except OSError:
            return ""
        rest = place.relative_to(part.parent)
        unpacked = part.parent / "\\".join(rest.parts)
        if unpacked != place and os.path.lexists(unpacked):
            # Some programs unpack archives from Windows so: the backslashes of a path become part of a name.
            return f"; {unpacked} has backslashes in its name, where {rest} has folders: rename it"
        if not found:
            return ""
        return f"; {part.parent / found[0]} has another spelling than {part.name}"
    return ""


def _plain(name: str) -> str:
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())


def pseudo_folder(path: Path) -> Path | None:
    """Return the nearest existing folder of a path if it is the kernel's, such as ``/proc``; else ``None``.

    File systems of the kernel have no blocks; those of a disk, of memory and of a network have some.
    """
    place = path.absolute()
    # `Path.is_dir` raises an error where a folder may not be searched, or for a name that is too long.
    while not os.path.isdir(place) and place != place.parent:
        place = place.parent
    try:
        return place if os.statvfs(place).f_blocks == 0 and place.parent != place else None
    except OSError:
        return None


@contextmanager
def name_written_file(path: str | os.PathLike[str], *temporary: str | os.PathLike[str]) -> Iterator[None]:
    """Name the file in errors of a full or read-only disk that name none, as those of ``write`` do.

    Args:
        path: the file that is written, or the folder of a file without a name.
        temporary: names under which it is written; an error that names one of them names ``path`` instead.

    >>> try:
    ...     with name_written_file("runs/a/report.html"):
    ...         raise OSError(errno.ENOSPC, "No space left on device")
    ... except OSError as error:
    ...     print(error.filename)
    runs/a/report.html
    """
    try:
        yield
    except OSError as error:
        unnamed = error.filename is None and error.errno in FULL
        if unnamed or str(error.filename) in [str(name) for name in temporary]:
            try:
                error.filename = os.fspath(path)
            except AttributeError:  # the errors of PyAV cannot be changed
                raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise


@contextmanager
def hdf5_errors(path: Path) -> Iterator[None]:
    """Turn HDF5's errors of a full or vanished disk into OSError with its number and path.

    HDF5 reports them as OSError or RuntimeError, with the number in the text only. Closing a file that could
    not be flushed raises a further error without the number, so the errors before it are searched, too.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        number = _number_in(error)
        if not number:
            raise
        _release_frames(error)
        raise OSError(number, os.strerror(number), str(path)) from None


def _number_in(error: BaseException | None) -> int:
    """Return the number in the text of an error of HDF5, or of one that it followed; 0 if there is none."""
    while error is not None:
        if found := re.search(r"errno = (\d+)", str(error)):
            return int(found[1])
        error = error.__context__
    return 0


def _release_frames(error: BaseException) -> None:
    """Drop the objects that an error's frames hold, without a message.

    HDF5 objects that could not be flushed print an error once more when they are collected; here nothing
    is printed. A KeyboardInterrupt is passed on, because the command must stop.
    """
    hook = sys.unraisablehook
    sys.unraisablehook = lambda dropped: hook(dropped) if dropped.exc_type is KeyboardInterrupt else None
    try:
        one: BaseException | None = error
        while one is not None:
            traceback.clear_frames(one.__traceback__)
            one = one.__context__
    finally:
        sys.unraisablehook = hook
