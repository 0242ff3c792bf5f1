"""Run a command: print its errors in one line, and end it in the same way after Ctrl-C, SIGTERM and SIGHUP.

This module imports little: the program begins here, so that Ctrl-C is handled while the rest is imported.
"""

from __future__ import annotations

import io
import os
import re
import select
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TextIO

from deiii.data.command_line.missing import broken_package, missing_package
from deiii.data.tools.os_errors import STDOUT, explain, library_words, require_current_folder
from deiii.data.tools.processes.home_folder import replace_missing_home
from deiii.data.tools.processes.left_threads import end_at_once
from deiii.data.tools.processes.made_folders import forget_made_folders, remove_empty_folders
from deiii.data.tools.processes.signals import INTERRUPTED, StopHandler
from deiii.data.tools.text.printable import PrintableOutput, printable, unescaped_stderr
from deiii.data.tools.text.sizes import memory_size

NOTHING_DONE = "nothing was changed"
RED = "1;31"  # ANSI: bold, red
YELLOW = "33"
GO_ON = "finished work is kept: run the same command again to continue"
NO_UNICODE = (
    "this environment writes file names in {}, so files with other letters in their names are not found; set "
    "LC_ALL=C.UTF-8 or PYTHONUTF8=1"
)
DEFECT = "this is a defect of deiii: please report it with the command and the text above"


# PyTorch's message that memory ran out, with the size of the allocation that failed.
NO_MEMORY = re.compile(
    "(can't|cannot|not enough memory to) allocate memory|out of memory|not enough memory"
    # Messages of cuBLAS and cuDNN, CUDA's libraries, which allocate memory themselves.
    "|_STATUS_ALLOC_FAILED",
    re.I,
)
OF_GPU = re.compile("CUDA|HIP|CUBLAS|CUDNN")
TRIED = re.compile(r"[Tt]ried to allocate ([\d.]+) (bytes|[KMGT]iB)")


@dataclass(frozen=True)
class Command:
    """A command line that was parsed.

    Attributes:
        action: runs the command and returns its exit status.
        when_stopped: what to print after Ctrl-C, SIGTERM or SIGHUP: what is kept, and how to continue.
        debug: show the traceback of an error.
    """

    action: Callable[[], int]
    when_stopped: str = GO_ON
    debug: bool = False


def run(parse: Callable[[], Command], ends_program: bool = True) -> int:
    """Parse a command line and run its command.

    Args:
        parse: returns the command; may end the program with SystemExit, as `argparse` does.
        ends_program: whether the program ends with the command. Ctrl-C and SIGTERM then have no effect for
            a few seconds, so that they do not interrupt Python's own end. Otherwise the program that called
            this gets its own handlers of these signals back.

    Returns:
        The exit status: the command's own; 1 for an error, which is printed in one line (`explain` for errors
        of the operating system, `missing_package` for packages that are not installed); 130 after Ctrl-C,
        SIGTERM or SIGHUP. Plain ValueError and RuntimeError, and all other exceptions, are defects of the
        program and are raised. If the status is not 0, empty folders that the command made are removed.

    >>> run(lambda: Command(lambda: 0))
    0
    """
    forget_made_folders()
    replace_missing_home()
    status = 1
    handler = StopHandler()
    handler.install()
    _open_closed_streams()
    before = sys.stdout, sys.stderr
    sys.stdout = _named(sys.stdout)
    if isinstance(sys.stderr, io.TextIOWrapper) and sys.stderr is sys.__stderr__:
        sys.stderr = _escaping(sys.stderr, io.FileIO(sys.stderr.fileno(), "wb", closefd=False))
    try:
        status = _run(parse, handler, ends_program)
    finally:
        if not ends_program:
            handler.restore()
            sys.stdout.flush()
            sys.stderr.flush()
            sys.stdout, sys.stderr = before
        if status:
            remove_empty_folders()
    if ends_program:
        end_at_once(status)
    return status


def _run(parse: Callable[[], Command], handler: StopHandler, ends_program: bool) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        # File names of other systems, and terminals without Unicode, must not end a command.
        sys.stdout.reconfigure(errors="backslashreplace")
    encoding = sys.getfilesystemencoding()
    if encoding.lower() not in ("utf-8", "utf8"):
        _report("note:", YELLOW, NO_UNICODE.format(encoding))
    command = Command(lambda: 0, NOTHING_DONE)
    try:
        require_current_folder()
        try:
            command = parse()
            status = command.action()
        except SystemExit:  # `argparse` printed a help text, for example
            _flush_output()
            raise
        _flush_output()  # here, so that the error of a closed pipe or a full disk is handled below
    except SystemExit:
        raise
    except BaseException as error:
        # Code that is interrupted while it is imported may raise an error of its own.
        if isinstance(error, KeyboardInterrupt) or handler.first is not None:
            if ends_program:
                handler.end()
            return _stopped(command)
        if _is_broken_pipe(error) and _stdout_is_closed():
            # A command such as `deiii settings | head` loses no work, so it ends without a message.
            if command.when_stopped != NOTHING_DONE:
                _say_stopped(command, "nothing reads the output any more; ")
            return 1
        if isinstance(error, ModuleNotFoundError) and not command.debug and (words := missing_package(error)):
            _report("error:", RED, words)
            return 1
        memory = memory_words(error)
        if (
            isinstance(error, ImportError)
            and not memory
            and not command.debug
            and (words := broken_package(error))
        ):
            _report("error:", RED, words)
            return 1
        known = isinstance(error, (ValueError, OSError, RuntimeError))
        if not memory and (not known or type(error) in (ValueError, RuntimeError)):
            error.add_note(DEFECT)
            raise
        if isinstance(error, OSError) and error.filename == STDOUT:
            _discard_output()  # what is left in the buffer would fail again when the program ends
        if command.debug:
            raise
        message = memory or _name_words(error) or (explain(error) if isinstance(error, OSError) else error)
        if isinstance(error, OSError) and error.filename == STDOUT and command.when_stopped != NOTHING_DONE:
            message = f"{message}; {command.when_stopped}"
        _report("error:", RED, str(message))
        return 1
    if ends_program:
        handler.end()
    return status


def _name_words(error: BaseException) -> str:
    """Return the message for a file whose name this environment cannot write; empty for another error."""
    encoding = sys.getfilesystemencoding()
    if not isinstance(error, UnicodeEncodeError) or error.encoding != encoding or encoding == "utf-8":
        return ""
    return (
        f"{error.object}: file names are written in {encoding} here, which lacks letters of this name; "
        "set LC_ALL=C.UTF-8 or PYTHONUTF8=1"
    )


def memory_words(error: BaseException) -> str:
    """Return the message for an error by which memory ran out; empty for another error.

    PyTorch raises a plain RuntimeError on a CPU, and one of its own on a GPU. A library for which there is
    no memory cannot be imported.

    >>> memory_words(MemoryError())[:26]
    'there is not enough memory'
    """
    text = str(error)
    if words := library_words(error):
        return words
    if not isinstance(error, MemoryError):
        of_torch = isinstance(error, RuntimeError) and NO_MEMORY.search(text)
        if not of_torch:
            return ""
    found = TRIED.search(text)
    size = f" ({found[1]} {found[2]} more were needed)" if found else ""
    if found and found[2] == "bytes":
        size = f" ({memory_size(int(found[1]))} more were needed)"
    if not isinstance(error, MemoryError) and OF_GPU.search(text):
        return (
            f"there is not enough memory on the GPU for this{size}; lower loader.batch (in preprocessing "
            "flow.batch), use a smaller network, compute each batch of a training in parts with "
            "train.accumulate=4, keep the data in the machine's memory with loader.residency=stream, or end "
            "other programs that use the GPU, which nvidia-smi lists"
        )
    return (
        f"there is not enough memory for this{size}; use smaller batches or sizes of inputs and network, or "
        "fewer workers"
    )


def coloured(text: str, colour: str, stream: TextIO) -> str:
    """Return the text in a colour where a stream is a terminal that shows colours; else the text as it is.

    ``NO_COLOR`` with any value (https://no-color.org) and ``TERM=dumb`` turn colours off.

    Args:
        text: text to show.
        colour: number of an ANSI attribute, such as `RED`.
        stream: stream to which it is written.
    """
    shows = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
    return f"\x1b[{colour}m{text}\x1b[0m" if shows else text


def _report(word: str, colour: str, text: str) -> None:
    """Print a line on stderr that begins with a coloured word."""
    stream = unescaped_stderr()
    print(f"{coloured(word, colour, stream)} {printable(text)}", file=stream)


def _stopped(command: Command) -> int:
    _say_stopped(command)
    # If Ctrl-C arrives while CPython compiles source text (each dataclass does this), CPython ends by that
    # signal later, although the exception was caught. Compiling another text prevents this.
    exec("pass")
    return INTERRUPTED


def _say_stopped(command: Command, why: str = "") -> None:
    print(file=sys.stderr)
    _report("stopped;", YELLOW, f"{why}{command.when_stopped}")


class _NamedOutput(io.FileIO):
    """Standard output whose errors name it; otherwise they would seem to be about a file of the command.

    Attributes:
        failed: the last error of writing, ``None`` if there was none. `argparse` ignores such an error.
    """

    failed: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write bytes."""
        try:
            return super().write(data)
        except OSError as error:
            error.filename = STDOUT
            self.failed = error
            raise


def _named(stream: TextIO) -> TextIO:
    """Return a stream to the file of stdout whose errors name it; another stream is returned as it is."""
    if not isinstance(stream, io.TextIOWrapper) or stream is not sys.__stdout__:
        return stream
    stream.flush()
    return _escaping(stream, _NamedOutput(stream.fileno(), "wb", closefd=False))


def _escaping(stream: io.TextIOWrapper, file: io.FileIO) -> TextIO:
    """Return a stream that writes as another one does, but into ``file`` and with escapes in names."""
    return PrintableOutput(
        # ``python -u`` writes without a buffer.
        file if stream.write_through else io.BufferedWriter(file),
        encoding=stream.encoding,
        errors=stream.errors,
        newline="\n",
        # The log file of a batch job gets each line when it is printed, and not when the training ends.
        line_buffering=True,
        write_through=stream.write_through,
    )


def _flush_output() -> None:
    """Write what stdout still buffers; raise the error of an earlier write, too, that a library ignored."""
    sys.stdout.flush()
    buffer = getattr(sys.stdout, "buffer", None)
    file = getattr(buffer, "raw", buffer)  # ``python -u`` writes without a buffer
    if isinstance(file, _NamedOutput) and file.failed is not None:
        raise file.failed


def _open_closed_streams() -> None:
    """Discard output where stdout or stderr was closed before the start (``>&-``) and is None therefore."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # open until the end


def _is_broken_pipe(error: BaseException | None) -> bool:
    """Return whether an error, or one that caused it, means that the reader of the output has ended."""
    while error is not None and not isinstance(error, BrokenPipeError):
        error = error.__cause__ or error.__context__
    return error is not None


def _stdout_is_closed() -> bool:
    """Return whether the reader of stdout has closed it, as ``head`` does; then discard further output."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    closed = any(event & select.POLLERR for _, event in poll.poll(0))
    if closed:
        _discard_output()
    return closed


def _discard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
