"""Synthetic videos with two faces and one voice."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from deiii.data.config.schema import SyntheticConfig
from deiii.data.corpora.synthetic.face import render_frames
from deiii.data.corpora.synthetic.plan import plan_clip
from deiii.data.corpora.synthetic.voice import SAMPLE_RATE, render_voice
from tests.helpers.clipmaker import write

DRAWN = SyntheticConfig(speakers=8, clips_per_class=1, seconds=2.4, size=160)


@lru_cache(maxsize=16)
def rendered(index):
    plan = plan_clip(DRAWN, index)
    return np.asarray(render_frames(plan)), np.asarray(render_voice(plan), np.float32).ravel()


def scene(folder, number, mute=False):
    """Two faces side by side, one voice: the file, and which face speaks, 0 (left) or 1 (right)."""
    rng = np.random.default_rng(number)
    who = int(rng.integers(2))
    pair = rng.choice(14, 2, replace=False) * 2
    sides = [rendered(int(i)) for i in pair]
    frames = [np.concatenate([a, b], axis=1) for a, b in zip(sides[0][0], sides[1][0], strict=True)]
    if number % 2:  # the silent face is larger
        big = [cv2.resize(f, (200, 200)) for f in sides[1 - who][0]]
        room = [np.full((200, 160, 3), 90, np.uint8) for _ in big]
        for canvas, small in zip(room, sides[who][0], strict=True):
            canvas[20:180] = small
        pairs = zip(room, big, strict=True) if who == 0 else zip(big, room, strict=True)
        frames = [np.concatenate(both, axis=1) for both in pairs]
    sound = None if mute else sides[who][1]
    return write(folder / f"{number}.mp4", frames, audio=sound, rate=SAMPLE_RATE), who, frames[0].shape[1]
