"""The content of each synthetic clip: labels, cues and nuisances, all from the seed.

A plan is pure data. Equal settings and clip numbers give equal plans, whichever other clips are generated.
A plan is also the ground truth: the position of the face in each frame, the opening of the mouth, the
position of the brows and the course of the pitch.

Lengths in a face are in *face units*: half the face's width is 1, x points right in the frame, y points
down, and the origin lies between eyes and mouth.

Why sampled frames cannot distinguish tremor from rest
    Let ``c`` be a clip's resting position and ``a`` its tremor amplitude, with the same distribution for
    both values of the motion bit, and ``s`` a fair coin (-1 or 1). A still clip has the position
    ``c + s*a`` in every frame; a clip with tremor alternates between ``c + s*a`` and ``c - s*a``. Frames at
    an even stride show one constant position, whose distribution is the same in both cases. Only
    neighbouring frames differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deiii.data.config.schema import SyntheticConfig
from deiii.data.corpora.clips import CorpusError
from deiii.data.corpora.synthetic.tasks import (
    CLASSES,
    SHORTEST_ORDER,
    Freckles,
    blush_of,
    class_of,
    draw_freckles,
    two_syllables,
    vowels_of,
)
from deiii.data.tools.counts import counted

ENVELOPE_RATE = 100  # Hz, at which two timings are compared
MAX_TIMING_CORRELATION = 0.1


def classes(task: str) -> tuple[str, ...]:
    """Return class names of a task, in order.

    >>> classes("cues")[0]
    'narrow-still-rising'
    """
    return CLASSES[task]


@dataclass(frozen=True)
class Speaker:
    """The properties of one synthetic speaker, equal in all clips. Colours are RGB, 0-255."""

    name: str
    skin: tuple[float, float, float]
    hair: tuple[float, float, float]
    iris: tuple[float, float, float]
    lips: tuple[float, float, float]
    shirt: tuple[float, float, float]
    background: tuple[float, float, float]
    hair_style: int
    face_height: float
    jaw: float
    eye_distance: float
    eye_width: float
    brow_height: float
    brow_thickness: float
    nose_length: float
    mouth_y: float
    mouth_width: float
    openness: float
    position: tuple[float, float]  # position of the face's origin, as a share of the frame
    scale: float  # half the face's width, as a share of the frame
    light_angle: float
    pitch: float  # Hz
    formant_scale: float
    tilt: float  # slope of the voice's spectrum


@dataclass(frozen=True, eq=False)
class ClipPlan:
    """Everything that a clip shows and plays; the ground truth for tests.

    Attributes:
        index: the clip's number in the corpus.
        id: clip id, ``<speaker>/<speaker>-<number>``.
        speaker: the speaker of the clip.
        label: class name.
        valence, arousal: attributes in [-1, 1].
        appearance, motion, voice: indices into `APPEARANCE`, `MOTION`, `VOICE`.
        size, fps: the frame's height and width in px, frames per second.
        seconds: length of the clip in s, a whole number of frames.
        centre: float64 [n,2], the face's origin in px (x, y; pixel centres at whole numbers).
        scale: float64 [n], px per face unit.
        roll: float64 [n], rad, clockwise in the frame.
        brow, quiver: float64 [n], vertical displacement of brows and of the lips' middle, face units.
        opening: float64 [n], mouth opening in [0,1].
        bursts: float64 [k,2], start and end in s of the voice's bursts.
        pitch: float64 [k], Hz at the middle of each burst (geometric mean over the burst).
        slope: float64 [k], octaves from a burst's start to its end; the sign is the voice bit.
        vowels: int64 [k], row of `voice.VOWELS`.
        gain_db, hum_db: level of the voice and of the background noise, dB of full scale (RMS).
        noise: camera noise, standard deviation in grey levels.
        light: brightness factor.
        quantiser: H.264's constant quantiser.
        seed: seed of the noise and the background texture.
        blush: colour of the cheeks, -1 (pale) to 1 (flushed); 0 except in the task ``told``.
        freckles: freckles of the task ``binding``.
    """

    index: int
    id: str
    speaker: Speaker
    label: str
    valence: float
    arousal: float
    appearance: int
    motion: int
    voice: int
    size: int
    fps: float
    seconds: float
    centre: np.ndarray
    scale: np.ndarray
    roll: np.ndarray
    brow: np.ndarray
    quiver: np.ndarray
    opening: np.ndarray
    bursts: np.ndarray
    pitch: np.ndarray
    slope: np.ndarray
    vowels: np.ndarray
    gain_db: float
    hum_db: float
    noise: float
    light: float
    quantiser: int
    seed: tuple[int, ...]
    blush: float = 0.0
    freckles: Freckles | None = None


def check(config: SyntheticConfig) -> None:
    """Check the settings of a synthetic corpus.

    Raises:
        CorpusError: for a value out of range; the message names the setting and its allowed values.
    """
    if config.size % 2 or not 64 <= config.size <= 2048:
        raise CorpusError(f"corpus.synthetic.size is even and in 64..2048, not {config.size}")
    shortest = SHORTEST_ORDER if config.task == "order" else 0.8
    if not shortest <= config.seconds <= 60:
        raise CorpusError(
            f"corpus.synthetic.seconds is in {shortest:g}..60 for corpus.synthetic.task={config.task}, "
            f"not {config.seconds}"
        )
    if not 10 <= config.fps <= 120:
        raise CorpusError(f"corpus.synthetic.fps is in 10..120, not {config.fps}")
    for name in ("speakers", "clips_per_class"):
        if not 1 <= getattr(config, name) <= 9999:
            raise CorpusError(f"corpus.synthetic.{name} is in 1..9999, not {getattr(config, name)}")
    if config.seed < 0:
        raise CorpusError(f"corpus.synthetic.seed is not negative, unlike {config.seed}")


def clip_count(config: SyntheticConfig) -> int:
    """Return the number of clips in the corpus."""
    return config.speakers * config.clips_per_class * len(classes(config.task))


def plan_speaker(config: SyntheticConfig, number: int) -> Speaker:
    """Return the ``number``-th speaker, counted from 0."""
    rng = np.random.default_rng([config.seed, 1, number])
    skin = _between(rng, [(242, 205, 182), (214, 164, 132), (176, 122, 92), (132, 90, 68)])
    hair = np.array(
        _between(rng, [(30, 24, 22), (78, 50, 34), (120, 84, 52), (168, 132, 84), (112, 106, 104)])
    )
    # Hair clearly darker than skin: OpenCV's Haar cascade looks for the forehead's upper edge.
    hair *= min(1.0, 0.58 * np.mean(skin) / hair.mean())
    return Speaker(
        name=f"s{number:02d}",
        skin=skin,
        hair=tuple(hair),
        iris=_between(rng, [(60, 38, 26), (84, 70, 40), (60, 84, 100)]),
        lips=tuple(np.array(skin) * [0.82, 0.55, 0.55] * rng.uniform(0.85, 1.0)),
        shirt=tuple(rng.uniform(30, 190, 3)),
        background=tuple(rng.uniform(90, 190) * rng.uniform(0.8, 1.1, 3)),
        hair_style=int(rng.integers(4)),
        face_height=rng.uniform(1.28, 1.42),
        jaw=rng.uniform(0.05, 0.25),
        eye_distance=rng.uniform(0.40, 0.45),
        eye_width=rng.uniform(0.20, 0.235),
        brow_height=rng.uniform(0.30, 0.36),
        brow_thickness=rng.uniform(0.045, 0.075),
        nose_length=rng.uniform(0.42, 0.52),
        mouth_y=rng.uniform(0.64, 0.72),
        mouth_width=rng.uniform(0.33, 0.42),
        openness=rng.uniform(0.8, 1.1),
        position=(rng.uniform(0.46, 0.54), rng.uniform(0.46, 0.52)),
        scale=rng.uniform(0.25, 0.285),
        light_angle=rng.uniform(-np.pi, np.pi),
        pitch=100.0 * 2.0 ** rng.uniform(0.15, 1.15),
        formant_scale=rng.uniform(0.88, 1.15),
        tilt=rng.uniform(0.8, 1.2),
    )


def plan_clip(config: SyntheticConfig, index: int) -> ClipPlan:
    """Return the ``index``-th clip's plan, counted from 0.

    >>> plan_clip(SyntheticConfig(), 0).id
    's00/s00-000'

    Raises:
        CorpusError: for settings out of range.
        IndexError: for a number past the last clip.
    """
    check(config)
    if not 0 <= index < clip_count(config):
        raise IndexError(f"the corpus has {counted(clip_count(config), 'clip')}; there is no number {index}")
    names = classes(config.task)
    person, number = divmod(index, config.clips_per_class * len(names))
    label = class_of(config, person, number)
    speaker = plan_speaker(config, person)

    seed = (config.seed, 3, person, number)
    # All three bits are drawn for every task, so that nothing else depends on the task.
    rng = np.random.default_rng(seed)
    coins = rng.integers(2, size=3)
    if config.task == "cues":
        appearance, motion, voice = (label >> 2) & 1, (label >> 1) & 1, label & 1
    else:
        appearance, motion, voice = int(coins[0]), 0, int(coins[2])
    valence, arousal = rng.uniform(-1, 1, 2)

    n = max(2, round(config.seconds * config.fps))
    time = np.arange(n) / config.fps
    heard, other = _two_timings(rng, config.seconds)
    own = np.random.default_rng([*seed, 13])  # random numbers for properties that only this task has
    if config.task == "order":
        heard = two_syllables(own, n / config.fps)
    seen = other if config.task == "sync" and label == 1 else heard
    k = len(heard)
    amplitude = 0.030 + 0.008 * arousal
    alternation = (-1.0) ** np.arange(n) if motion else np.ones(n)

    def held(spread: float, share: float) -> np.ndarray:
        rest, side = rng.uniform(-spread, spread), rng.choice([-1.0, 1.0])
        return rest + side * share * amplitude * alternation

    size = config.size
    x, y = speaker.position
    return ClipPlan(
        index=index,
        id=f"{speaker.name}/{speaker.name}-{number:03d}",
        speaker=speaker,
        label=names[label],
        valence=float(valence),
        arousal=float(arousal),
        appearance=appearance,
        motion=motion,
        voice=voice,
        size=size,
        fps=config.fps,
        seconds=n / config.fps,
        centre=size
        * np.stack(
            [
                x + rng.uniform(-0.03, 0.03) + 0.012 * _drift(rng, time),
                y + rng.uniform(-0.02, 0.02) + 0.010 * _drift(rng, time),
            ],
            axis=1,
        ),
        scale=size * speaker.scale * rng.uniform(0.94, 1.06) * (1 + 0.015 * _drift(rng, time)),
        roll=np.deg2rad(rng.uniform(-6, 6) + 2.0 * _drift(rng, time)),
        brow=held(0.03, 1.0),
        quiver=held(0.01, 0.4),
        opening=speaker.openness * rng.uniform(0.85, 1.0) * envelope(time, seen) / 1.1,
        bursts=heard,
        pitch=speaker.pitch * 2.0 ** (rng.uniform(-0.12, 0.12) + rng.uniform(-0.08, 0.08, k)),
        slope=(1 - 2 * voice) * rng.uniform(0.7, 0.95, k),
        vowels=vowels_of(config.task, label, rng.integers(5, size=k)),
        gain_db=-24.0 + 6.0 * arousal + rng.uniform(-1, 1),
        hum_db=rng.uniform(-58, -48),
        noise=rng.uniform(1.0, 3.0),
        light=rng.uniform(0.88, 1.1),
        quantiser=int(rng.integers(20, 27)),
        seed=seed,
        blush=blush_of(config.task, label),
        freckles=draw_freckles(own, n, label) if config.task == "binding" else None,
    )


def envelope(time: np.ndarray, bursts: np.ndarray) -> np.ndarray:
    """Return the opening of the mouth and the level of the voice at each time, 0 to 1.

    Args:
        time: [n] in s.
        bursts: [k,2], start and end in s; bursts do not overlap.
    """
    start, end = bursts[:, :1], bursts[:, 1:]
    phase = (time[None] - start) / (end - start)
    # A raised cosine with a flat middle; symmetric in time, so it does not show the pitch's direction.
    edge = np.clip(np.minimum(phase, 1 - phase) / 0.35, 0, 1)
    return np.where((phase > 0) & (phase < 1), 0.5 - 0.5 * np.cos(np.pi * edge), 0.0).sum(axis=0)


def _timing(rng: np.random.Generator, seconds: float) -> np.ndarray:
    bursts, at = [], rng.uniform(0.05, 0.3)
    while True:
        length = rng.uniform(0.24, 0.44)
        if at + length > seconds - 0.05:
            break
        bursts.append((at, at + length))
        at += length + rng.uniform(0.14, 0.40)
    return np.array(bursts).reshape(-1, 2)


def _two_timings(rng: np.random.Generator, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Return two timings that do not correlate, each with the same distribution.

    Pairs are sampled until one does not correlate. The rule is symmetric, so both members have the same
    distribution. Every clip samples a pair, even if it uses only the first.
    """
    grid = np.arange(0, seconds, 1 / ENVELOPE_RATE)
    while True:
        first = _timing(rng, seconds)
        second = _timing(rng, seconds)
        if not len(first) or not len(second):
            continue
        if np.corrcoef(envelope(grid, first), envelope(grid, second))[0, 1] <= MAX_TIMING_CORRELATION:
            return first, second


def _drift(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """Return a slow drift within [-1, 1]: two sines with periods of seconds."""
    periods, phases = rng.uniform(1.6, 4.0, 2), rng.uniform(0, 2 * np.pi, 2)
    return (np.sin(2 * np.pi * time[:, None] / periods + phases) * [0.65, 0.35]).sum(axis=1)


def _between(rng: np.random.Generator, stops: list[tuple]) -> tuple[float, float, float]:
    """Return a colour between two neighbouring ones of a list."""
    at = rng.uniform(0, len(stops) - 1)
    red, green, blue = (float(np.interp(at, np.arange(len(stops)), [s[c] for s in stops])) for c in range(3))
    return red, green, blue
