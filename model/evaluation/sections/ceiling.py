"""Scores of human raters on the test clips of a result, against the same labels.

Two figures, each over the clips that have a label and votes:

- ``majority``: the class that most raters chose, scored as a network is; a tie counts as wrong. It is left
  out where the label is this majority.
- ``one rater``: the expected score of one rater drawn at random. Where the label is the raters' majority, a
  rater is compared with the majority of the others (leave one out). It needs numbers of votes, not winners.

>>> from deiii.data.corpora.clips import Clip
>>> clip = Clip("a", "a.mp4", "s", "sad", votes={"voice": (1.0, 3.0)})
>>> human_ceilings([clip], ("happy", "sad"), "acted", "counts")["voice, one rater"]["war"]
0.75
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deiii.data.corpora.clips import Clip
from deiii.data.corpora.targets.classes import winner

OLD_NAMES = {"perceived": "multimodal"}  # old names of kinds of labels


def human_ceilings(
    clips: Sequence[Clip], classes: Sequence[str], labels: str, votes: str
) -> dict[str, dict[str, Any]]:
    """Return the raters' scores, by the channel that they saw or heard, and by the kind of figure.

    Args:
        clips: the clips that a network was scored on.
        classes: C class names, in the order of the votes.
        labels: kind of the labels (`Corpus.labels`).
        votes: kind of the votes (`Corpus.votes`).

    Returns:
        by name, ``uar``, ``war`` (0 to 1) and the number of ``clips``; empty without votes.
    """
    target = OLD_NAMES.get(labels, labels)
    found: dict[str, dict[str, Any]] = {}
    for channel in sorted({channel for clip in clips for channel in clip.votes}):
        rated = [
            (classes.index(clip.label), np.asarray(clip.votes[channel]))
            for clip in clips
            if clip.label in classes and sum(clip.votes.get(channel, ())) > 0
        ]
        if not rated:
            continue
        truth = np.array([label for label, _ in rated])
        if channel != target:
            right = [winner(tuple(classes), tuple(counts)) == classes[label] for label, counts in rated]
            found[f"{channel}, majority"] = _scores(truth, np.array(right, float))
        if votes == "counts":
            chance = [
                _leave_one_out(counts) if channel == target else counts[label] / counts.sum()
                for label, counts in rated
            ]
            found[f"{channel}, one rater"] = _scores(truth, np.array(chance, float))
    return found


def ceiling_lines(ceilings: dict[str, dict[str, Any]]) -> list[str]:
    """Return a line for each ceiling."""
    return [
        f"human raters ({name}): UAR {c['uar']:.3f}, WAR {c['war']:.3f} on {c['clips']} of these clips"
        for name, c in ceilings.items()
    ]


def _leave_one_out(counts: np.ndarray) -> float:
    """Return the chance that a rater agrees with the majority of the others; a tie counts as disagreement."""
    total = 0.0
    for chosen in np.flatnonzero(counts):
        others = counts.copy()
        others[chosen] -= 1
        best = np.flatnonzero(others == others.max()).tolist() if others.sum() else []
        total += counts[chosen] * (best == [chosen])
    return float(total / counts.sum())


def _scores(truth: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    recalls = [float(right[truth == label].mean()) for label in np.unique(truth)]
    return {"uar": float(np.mean(recalls)), "war": float(right.mean()), "clips": len(truth)}
