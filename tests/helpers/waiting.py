"""What tests of other processes expect of a busy machine: how long they wait, and what they may read."""

PATIENCE_S = 120  # not a limit of deiii: a busy machine may take this long to start or to end a process
LOADING = "loading libraries and data ..."  # the note of a command that loads for longer than 2 s


def without_note(stderr: str) -> str:
    """Return what a command wrote to standard error, without the note that it is loading.

    >>> without_note(LOADING + "\\nerror: no such file")
    'error: no such file'
    """
    return "".join(line for line in stderr.splitlines(keepends=True) if line.rstrip("\r\n") != LOADING)
