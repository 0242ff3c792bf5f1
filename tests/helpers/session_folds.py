"""The check that a protocol leaves out one session after the other, and divides none.

>>> check_session_folds(corpus, lambda n: (f"F{n:02d}", f"M{n:02d}"), lambda name: name[1:])  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable

from deiii.data.config.schema import SplitConfig
from deiii.data.corpora.clips import Corpus
from deiii.data.corpora.splits import make_split, number_of_folds


def check_session_folds(
    corpus: Corpus, actors: Callable[[int], tuple[str, str]], session: Callable[[str], str]
) -> int:
    """Check every fold; returns their number.

    Args:
        corpus: clips of both actors of each session.
        actors: returns the two speakers of a session, which are numbered from 1.
        session: returns the session of a speaker.
    """
    folds = number_of_folds(corpus, SplitConfig())
    for fold in range(folds):
        split = make_split(corpus, SplitConfig(fold=fold))
        assert split.speakers("test") == actors(fold + 1)
        for part in ("train", "val"):
            sessions = [session(speaker) for speaker in split.speakers(part)]
            assert sessions and all(sessions.count(s) == 2 for s in sessions)
    return folds
