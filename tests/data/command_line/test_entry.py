"""Exit statuses and messages of all commands: errors in one line, defects with their traceback, Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from deiii.__main__ import main
from deiii.data.command_line.entry import DEFECT, GO_ON, NOTHING_DONE, Command, run
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.tools.processes.signals import INTERRUPTED, STOP_SIGNALS
from tests.helpers.waiting import without_note

pytestmark = pytest.mark.usefixtures("own_signals")


def ending(error: BaseException, **more) -> int:
    """The exit status of a command that raises an error."""

    def fail() -> int:
        raise error

    return run(lambda: Command(fail, **more))


@pytest.mark.parametrize("status", [0, 7])
def test_the_status_is_that_of_the_command(status):
    assert run(lambda: Command(lambda: status)) == status


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConfigError("faces.size is wrong"), "error: faces.size is wrong"),
        (OSError("the disk is full; free some space"), "error: the disk is full; free some space"),
        (PermissionError(13, "Permission denied", "/x"), "error: /x: permission denied; allow this user"),
        (
            FileNotFoundError(2, "No such file", "a.csv"),
            "error: a.csv: no such file or folder; check the path",
        ),
    ],
)
def test_an_error_is_one_line_without_a_traceback(error, line, capsys):
    assert ending(error) == 1
    printed = capsys.readouterr().err
    assert printed.startswith(line) and printed.count("\n") == 1


def test_debug_shows_the_traceback():
    with pytest.raises(PermissionError):
        ending(PermissionError(13, "Permission denied", "/x"), debug=True)


@pytest.mark.parametrize("defect", [ValueError("a"), RuntimeError("a"), KeyError("a"), TypeError("a")])
def test_a_defect_is_raised_with_a_request_to_report_it(defect):
    with pytest.raises(type(defect)) as caught:
        ending(defect)
    assert DEFECT in caught.value.__notes__


def test_ctrl_c_tells_what_the_command_keeps(capsys):
    assert ending(KeyboardInterrupt(), when_stopped="add --resume") == INTERRUPTED == 130
    assert capsys.readouterr().err == "\nstopped; add --resume\n"


def test_ctrl_c_before_the_command_is_known_changes_nothing(capsys):
    def interrupted() -> Command:
        raise KeyboardInterrupt

    assert run(interrupted) == INTERRUPTED
    assert NOTHING_DONE in capsys.readouterr().err


def test_an_import_that_turns_ctrl_c_into_another_error_is_stopped_as_well(capsys):
    def importing() -> int:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise ImportError("half a library") from None
        return 0

    assert run(lambda: Command(importing)) == INTERRUPTED
    assert "stopped" in capsys.readouterr().err


def test_ctrl_c_after_the_command_has_ended_does_nothing():
    assert run(lambda: Command(lambda: 0)) == 0
    for number in STOP_SIGNALS:
        signal.raise_signal(number)


def calls_of_a_program():
    """Ways in which a program calls a command as a function, with the status or the error of each."""
    yield "ends well", lambda: main(["settings"]), 0
    yield "ends with an error", lambda: main(["settings", "faces.sise=3"]), 1
    yield "is interrupted", lambda: run(lambda: Command(interrupt_myself), ends_program=False), INTERRUPTED
    yield "is not understood", lambda: main(["settings", "--nothing"]), SystemExit
    yield "has a defect", lambda: run(lambda: Command(lambda: 1 // 0), ends_program=False), ZeroDivisionError


def interrupt_myself() -> int:
    signal.raise_signal(signal.SIGTERM)
    return 0


@pytest.mark.parametrize(
    ("call", "ending"), [pytest.param(*rest, id=name) for name, *rest in calls_of_a_program()]
)
def test_a_program_that_calls_a_command_gets_its_own_handlers_back(call, ending, monkeypatch):
    registered = []
    monkeypatch.setattr("atexit.register", registered.append)

    def own(number, frame):
        received.append(number)

    received: list[int] = []
    for number in STOP_SIGNALS:
        signal.signal(number, own)
    if isinstance(ending, int):
        assert call() == ending
    else:
        with pytest.raises(ending):
            call()
    for number in STOP_SIGNALS:
        signal.raise_signal(number)
    assert received == list(STOP_SIGNALS)
    assert not registered, "what the program does at its own end may be interrupted"


def test_a_command_runs_in_another_thread_than_the_main_one():
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    found = []
    thread = threading.Thread(target=lambda: found.append(main(["settings"])))
    thread.start()
    thread.join()
    assert found == [0] and [signal.getsignal(number) for number in STOP_SIGNALS] == before


def test_argparse_may_end_the_program():
    with pytest.raises(SystemExit) as caught:
        ending(SystemExit(2))
    assert caught.value.code == 2


def in_terminal(words, **environment):
    """What a command shows in a pseudo-terminal."""
    main_end, other_end = pty.openpty()
    own = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "TERM")}
    process = subprocess.Popen(
        [sys.executable, "-m", "deiii", *words], stdin=subprocess.DEVNULL, stdout=other_end,
        stderr=other_end, env={**own, **environment},
    )  # fmt: skip
    os.close(other_end)
    shown = b""
    with contextlib.suppress(OSError):  # Linux reports an error when the other end is closed
        while data := os.read(main_end, 4096):
            shown += data
    os.close(main_end)
    assert process.wait() == 1
    return without_note(shown.decode())


def test_errors_are_coloured_in_a_terminal_that_shows_colours():
    shown = in_terminal(["settings", "faces.sise=3"], TERM="xterm")
    assert shown.startswith("\x1b[1;31merror:\x1b[0m ") and shown.count("\x1b") == 2


@pytest.mark.parametrize("environment", [{"TERM": "xterm", "NO_COLOR": "1"}, {"TERM": "dumb"}, {}])
def test_no_colour_where_none_is_wanted(environment):
    assert in_terminal(["settings", "faces.sise=3"], **environment).startswith("error: ")


@pytest.mark.parametrize(
    ("error", "needed"),
    [
        (MemoryError(), ""),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
                "you tried to allocate 20000000000 bytes. Error code 12 (Cannot allocate memory)"
            ),
            " (18.6 GiB more were needed)",
        ),
    ],
)
def test_too_little_memory_is_no_defect(error, needed, capsys):
    assert ending(error) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: there is not enough memory for this{needed}") and said.count("\n") == 1
    assert "smaller batches" in said


@pytest.mark.parametrize(("limit", "said"), [(3 << 30, "may use 3.0 GiB"), (-1, "noexec")])
def test_a_library_that_finds_no_memory_is_no_defect(limit, said, capsys, monkeypatch):
    """The dynamic linker's text under ``ulimit -v``, which batch systems set."""
    monkeypatch.setattr("resource.getrlimit", lambda _: (limit, limit))
    assert ending(ImportError("/v/libtorch_cpu.so: failed to map segment from shared object")) == 1
    line = capsys.readouterr().err
    assert line.startswith("error: libtorch_cpu.so cannot be loaded: ") and line.count("\n") == 1
    assert said in line


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has", " (2.50 GiB more were needed)"),
        ("HIP out of memory. Tried to allocate 20.00 MiB. GPU 0 has", " (20.00 MiB more were needed)"),
        ("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in", ""),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", ""),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", ""),
    ],
)
def test_too_little_memory_of_a_gpu_names_the_settings_that_need_less(text, needed, capsys):
    assert ending(RuntimeError(text)) == 1
    said = capsys.readouterr().err
    start = f"error: there is not enough memory on the GPU for this{needed}; lower loader.batch"
    assert said.startswith(start) and said.count("\n") == 1
    assert "loader.residency=stream" in said and "train.accumulate=4" in said


def test_memory_that_cannot_be_had_is_told_in_one_line(capsys):
    """What numpy and PyTorch raise indeed."""
    import torch

    for ask in (lambda: np.ones(1 << 52), lambda: torch.ones(1 << 52)):
        assert run(lambda ask=ask: Command(lambda: int(ask().sum()))) == 1
        assert capsys.readouterr().err.startswith("error: there is not enough memory for this")


@pytest.mark.parametrize("again", [False, True])  # whether another folder of that name is there
@pytest.mark.parametrize("words", [["preprocess"], ["train"], ["settings"], ["inspect", "a.mp4"]])
def test_a_current_folder_that_was_deleted_is_named(tmp_path, monkeypatch, capsys, words, again):
    """Relative paths, worker processes and PyTorch's libraries would fail there, with other messages."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    if again:
        folder.mkdir()
    assert main(words) == 1
    assert "the current folder was deleted" in capsys.readouterr().err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux")
@pytest.mark.parametrize("options", [[], ["-u"]])
@pytest.mark.parametrize(
    "call",
    ["print('text')", "print('text', flush=True)", "print('text' * 10**5)", "print('text') or sys.exit()"],
)
def test_a_full_disk_under_the_output_is_named(options, call):
    """Else the message would seem to be about the disk of the cache or of the run."""
    code = (
        "import sys; from deiii.data.command_line.entry import Command, run; "
        f"sys.exit(run(lambda: Command(lambda: {call} or 0)))"
    )
    with open("/dev/full", "w") as full:
        command = [sys.executable, *options, "-c", code]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: standard output: no space left on its disk; free some space")
    assert done.stderr.endswith(f"; {GO_ON}\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux")
@pytest.mark.parametrize("options", [[], ["-u"]])
@pytest.mark.parametrize("words", [["--version"], ["--help"], ["help", "train"], ["train", "--help"]])
def test_a_help_text_that_cannot_be_written_is_an_error(options, words):
    """`argparse` ignores the error of a write."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        command = [sys.executable, *options, "-m", "deiii", *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment)
    assert done.returncode == 1
    assert done.stderr.startswith("error: standard output: no space left on its disk")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("options", [[], ["-u"]])
def test_output_before_and_after_a_command_keeps_its_order(options):
    code = (
        "import sys; from deiii.data.command_line.entry import Command, run; print('before'); "
        "run(lambda: Command(lambda: print('\\udcff') or 0), ends_program=False); print('after')"
    )
    done = subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("before\n\\udcff\nafter\n", "")


@pytest.mark.parametrize("call", ["print('epoch 0')", "tqdm.write('epoch 0')"])
def test_a_line_is_in_the_log_as_soon_as_it_is_printed(call):
    """Without a terminal, Python keeps 8 KB; the log of a training would be empty until it ends."""
    code = (
        "import sys; from tqdm import tqdm; from deiii.data.command_line.entry import Command, run; "
        f"run(lambda: Command(lambda: ({call}, sys.stdin.read()) and 0))"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        shown, _, _ = select.select([process.stdout], [], [], 20)
        process.stdin.close()  # the command ends
        assert shown and process.stdout.read() == b"epoch 0\n"


NAMED = """
import os, sys
from deiii.data.command_line.entry import Command, run
sys.exit(run(lambda: Command(lambda: os.stat("clips/K\\xf6ln.mp4"))))
"""


def test_a_name_that_the_environment_cannot_write_is_named_with_the_remedy():
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", NAMED], env={**os.environ, **plain}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "error: clips/K\\xf6ln.mp4: file names are written in ascii here, which lacks letters of this "
        "name; set LC_ALL=C.UTF-8 or PYTHONUTF8=1"
    )
