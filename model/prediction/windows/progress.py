"""Progress of the prediction for one file, in seconds of media.

>>> with seconds_bar(Path("talk.mp4"), progress=True) as advance:  # doctest: +SKIP
...     advance(12.5)  # the first 12.5 s are done
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deiii.data.tools.progress import BAR_AFTER_S, progress_bar
from deiii.model.prediction.windows.units import LONG_S
from deiii.pipeline.media.lengths import declared_seconds


@contextmanager
def seconds_bar(file: Path, progress: bool) -> Iterator[Callable[[float], None]]:
    """Show a bar for each reading of a file; yields a function that takes the time in s that is done."""
    seconds = declared_seconds(file)
    shown = progress and LONG_S < seconds < float("inf")
    with progress_bar(desc=file.name, unit="s of media", total=round(max(1.0, seconds)) if shown else None,
                      delay=BAR_AFTER_S, leave=False, shown=shown) as bar:  # fmt: skip
        if shown:
            bar.set_postfix_str("reading the audio")  # of the whole file; it is read before the video
        reading, last_s = 0, float("inf")

        def advance(done_s: float) -> None:
            nonlocal reading, last_s
            if done_s < last_s / 2:  # a reading begins; at the end of one, windows may be moved back a little
                reading += 1
                bar.set_postfix_str(f"reading {reading}" if reading > 1 else "", refresh=False)
                bar.reset()  # the time that is left follows from the speed of this reading
            last_s = done_s
            bar.update(max(0, round(done_s) - round(bar.n)))

        yield advance
