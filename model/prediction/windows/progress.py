"""Progress of the prediction for one file, in seconds of media.

>>> with seconds_bar(Path("talk.mp4"), progress=True) as advance:  # doctest: +SKIP
...     advance(12.5)  # the first 12.5 s are done
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deiii.data.tools.progress import BAR_AFTER_S, ProgressBar, progress_bar
from deiii.model.prediction.windows.units import LONG_S
from deiii.pipeline.media.lengths import declared_seconds

AUDIO, SPEECH = "reading the audio", "finding speech"  # each reads all audio, before the video is read


class SecondsBar:
    """A bar that is filled once by each reading of a file.

    Call it with the time in s up to which the file is done. `audio` and `speech` are called with the time up
    to which its audio is read, and `person` before the file is read for a person. The time that is left
    follows from the speed of the current reading.

    Args:
        bar: the bar, which counts seconds.
    """

    def __init__(self, bar: ProgressBar):
        self._bar = bar
        self._reading = 0
        self._person = ""
        self._words: str | None = None  # shown with the current reading; none has begun
        self._last_s = float("inf")

    def __call__(self, done_s: float) -> None:
        # At the end of a reading, windows may be moved back a little.
        if self._words in (None, AUDIO, SPEECH) or done_s < self._last_s / 2:
            self._reading += 1
            self._begin(self._person or (f"reading {self._reading}" if self._reading > 1 else ""))
        self._show(done_s)

    def person(self, number: int, count: int) -> None:
        """Name the person for whom the file is read from now on, such as 2 of 3."""
        self._person = f"person {number} of {count}"

    def audio(self, done_s: float) -> None:
        """Show up to which time in s the audio of the file is read."""
        self._of_audio(AUDIO, done_s)

    def speech(self, done_s: float) -> None:
        """Show up to which time in s the audio of the file is searched for speech."""
        self._of_audio(SPEECH, done_s)

    def _of_audio(self, words: str, done_s: float) -> None:
        if self._words != words or done_s < self._last_s / 2:
            self._begin(words)
        self._show(done_s)

    def _begin(self, words: str) -> None:
        self._words = words
        self._bar.set_postfix_str(words, refresh=False)
        self._bar.reset()

    def _show(self, done_s: float) -> None:
        self._last_s = done_s
        self._bar.update(max(0, round(done_s) - round(self._bar.n)))


@contextmanager
def seconds_bar(file: Path, progress: bool) -> Iterator[SecondsBar]:
    """Show a bar for each reading of a file; yields a function that takes the time in s that is done."""
    seconds = declared_seconds(file)
    shown = progress and LONG_S < seconds < float("inf")
    with progress_bar(desc=file.name, unit="s of media", total=round(max(1.0, seconds)) if shown else None,
                      delay=BAR_AFTER_S, leave=False, shown=shown) as bar:  # fmt: skip
        if shown:
            bar.set_postfix_str(AUDIO)  # of the whole file; it is read before the video
        yield SecondsBar(bar)
