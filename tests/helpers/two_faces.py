"""Videos with two faces and one voice, synthetic ones and real ones."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from deiii.data.config.schema import SyntheticConfig
from deiii.data.corpora.synthetic.face import render_frames
from deiii.data.corpora.synthetic.plan import plan_clip
from deiii.data.corpora.synthetic.voice import SAMPLE_RATE, render_voice
from deiii.pipeline.media.audio import read_audio
from deiii.pipeline.media.video import read_video
from tests.helpers.clipmaker import write

# The vector code of x264 does not always write the same bytes. Without it, the usual preset is very slow.
REPEATABLE = {"x264-params": "asm=0", "preset": "ultrafast"}
DRAWN = SyntheticConfig(speakers=8, clips_per_class=1, seconds=2.4, size=160)


@lru_cache(maxsize=16)
def rendered(index):
    plan = plan_clip(DRAWN, index)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # with more, the noise of the images depends on what else runs
    try:
        return np.asarray(render_frames(plan)), np.asarray(render_voice(plan), np.float32).ravel()
    finally:
        cv2.setNumThreads(threads)


def scene(folder, number, mute=False):
    """Write two faces with one voice; return the file, who speaks (0 left, 1 right) and the width in px."""
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
    path = write(folder / f"{number}.mp4", frames, audio=sound, rate=SAMPLE_RATE, options=REPEATABLE)
    return path, who, frames[0].shape[1]


def pair_of_clips(path, speaking, silent, who):
    """Write two real clips side by side, with the audio of the first; return file, ``who``, border in px.

    Args:
        path: the file to write.
        speaking, silent: the clips; the pictures of both, the audio of the first.
        who: place of the speaking face, 0 (left) or 1 (right).
    """
    (own, times), (other, their_times) = (zip(*read_video(clip), strict=True) for clip in (speaking, silent))
    times, their_times = (np.array(values) - values[0] for values in (times, their_times))
    n = int(np.searchsorted(times, their_times[-1], "right"))
    beside = [other[int(np.abs(their_times - time).argmin())] for time in times[:n]]
    height, width = max(own[0].shape[0], other[0].shape[0]), max(own[0].shape[1], other[0].shape[1])
    sides = [
        [
            cv2.copyMakeBorder(f, 0, height - f.shape[0], 0, width - f.shape[1], cv2.BORDER_REPLICATE)
            for f in side
        ]
        for side in ([own[:n], beside] if who == 0 else [beside, own[:n]])
    ]
    frames = [np.concatenate(pair, axis=1)[: height // 2 * 2] for pair in zip(*sides, strict=True)]
    samples, start, _ = read_audio(speaking, 16000)
    late = start - next(read_video(speaking).frames())[1]
    samples = samples[max(0, round(-late * 16000)) : round((times[n - 1] - late) * 16000)]
    write(path, frames, times=times[:n], audio=samples, audio_at=max(0.0, late), options=REPEATABLE)
    return str(path), who, width
