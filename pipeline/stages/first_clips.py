"""Stop a worker if its first clips all fail with the same error.

An unexpected error is recorded as the outcome of its clip, because one strange file must not end a run.
If the same error meets every one of the first clips, the clips are not its cause, but the machine or the
installation: a folder that cannot be written, a library that is missing. Then the run ends with that
error, before it has recorded it for the whole corpus.
"""

from __future__ import annotations

from dataclasses import dataclass

from deiii.data.cache.outcomes import Outcome, Status, is_machine_trouble
from deiii.data.config.strict_yaml import ConfigError
from deiii.data.tools.devices import DeviceError
from deiii.data.tools.weights import WeightsError

FIRST = 5  # clips


class MachineFault(RuntimeError):
    """The machine or the installation keeps a stage from working; the message states what to do."""


def ends_command(error: BaseException) -> bool:
    """Return whether an error is one of the machine, the installation or the settings, not of a media file.

    It ends a command that goes through many files, because it is the same for each of them.

    >>> ends_command(WeightsError("no connection")), ends_command(ValueError("odd file"))
    (True, False)
    """
    kinds = (MachineFault, WeightsError, ImportError, ConfigError, DeviceError)
    return is_machine_trouble(error) or isinstance(error, kinds)


@dataclass
class FirstClips:
    """The errors of a stage's first clips in this process.

    Attributes:
        stage: name of the stage.
        error: kind and place of the error of all clips so far (`Outcome.error`); empty before the first.
        count: number of clips so far.
        over: whether some clip ended in another way, so that nothing is left to watch.

    >>> first = FirstClips("logmel")
    >>> first.add(Outcome(Status.OK))
    >>> first.over
    True
    """

    stage: str
    error: str = ""
    count: int = 0
    over: bool = False

    def add(self, outcome: Outcome) -> None:
        """Take note of a clip's outcome.

        Raises:
            MachineFault: if at least `FIRST` clips have ended, all with the same unexpected error.
        """
        if self.over:
            return
        self.count += 1
        self.error = self.error or outcome.error
        self.over = outcome.status is not Status.FAILED or not outcome.error or outcome.error != self.error
        if not self.over and self.count >= FIRST:
            raise MachineFault(
                f"the first {FIRST} clips of stage {self.stage} in a worker all failed with the same error: "
                f"{outcome.reason}. "
                "This is most likely a fault of the machine or the installation: see `deiii doctor`. "
                "If the clips themselves cause it, set max_failed=1 to continue and to record each failure"
            )


_first: dict[str, FirstClips] = {}


def watch_first_clips(stage: str, outcome: Outcome) -> None:
    """Take note of an outcome in this process; see `FirstClips.add`."""
    _first.setdefault(stage, FirstClips(stage)).add(outcome)
