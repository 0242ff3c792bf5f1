"""The labels of each task of the synthetic corpus, and the parts of a plan that only one task has.

``cues`` and ``sync`` are planned in `plan`; this module plans the events of three tasks of two classes each.
Each was made for one part of the network; docs/science-tasks.md lists the parts that they were found to need:

``order``
    A clip has two syllables, one with each of two vowels; the label is their order. Their onsets
    are a multiple of `ORDER_GRID` apart, and between them lie at least 0.28 s, more than the plain audio
    encoder reads at once. The set of all windows of that length is then the same in both classes; only their
    order differs (the proof is in docs/science-tasks.md).
``binding``
    4 x 4 cells of freckles of two colours lie on the face. The freckles of one colour tremble; the label is
    this colour. Frames show where each colour is, flow shows which cells move.
``told``
    Two cues show the label: the vowel of all syllables, and, faintly, the colour of the cheeks.

>>> CLASSES["order"]
('a-i', 'i-a')
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from deiii.data.config.schema import SyntheticConfig

APPEARANCE = ("narrow", "wide")
MOTION = ("still", "tremor")
VOICE = ("rising", "falling")
SYNC = ("matched", "unmatched")
ORDER = ("a-i", "i-a")
BINDING = ("red", "green")  # the colour whose freckles tremble
TOLD = ("flushed", "pale")
CLASSES = {
    "cues": tuple("-".join(bits) for bits in itertools.product(APPEARANCE, MOTION, VOICE)),
    "sync": SYNC,
    "order": ORDER,
    "binding": BINDING,
    "told": TOLD,
}

VOWEL_A, VOWEL_I = 2, 0  # rows of `voice.VOWELS`
SYLLABLE = (0.16, 0.22)  # s, shortest and longest
ORDER_EDGE = 0.20  # s before the first and after the last syllable, so that no window has a border and one
# The least common multiple of four log-mel hops (a step of the audio encoders) and a frame of AAC, s.
ORDER_GRID = 0.32
ORDER_STEPS = (2, 3, 4, 5)  # distances of onsets, in units of `ORDER_GRID`
SHORTEST_ORDER = 2 * ORDER_EDGE + ORDER_STEPS[0] * ORDER_GRID + SYLLABLE[1] + 0.02  # s

CELLS = 4  # rows and columns of cells
CELL_SIZE = 0.5  # face units
CELLS_LEFT, CELLS_TOP = -1.0, -1.09  # face units; the cells cover what a tight crop shows
FEWEST_CELLS = 3  # least number of cells of each colour
SPOTS = 4  # freckles in a cell
SPOT_RADIUS = (0.055, 0.075)  # face units
TREMBLE = 0.05  # amplitude of a trembling freckle, face units


@dataclass(frozen=True, eq=False)
class Freckles:
    """Freckles in `CELLS` x `CELLS` cells; K cells row by row, S freckles each.

    Attributes:
        colour: int64 [K], index into `BINDING`; a fair coin decides for each cell.
        middle: float64 [K,S,2], places at rest (x, y), face units.
        radius: float64 [K,S], face units.
        shift: float64 [n,K,2], displacement of all freckles of a cell in each frame, face units.
    """

    colour: np.ndarray
    middle: np.ndarray
    radius: np.ndarray
    shift: np.ndarray


def class_of(config: SyntheticConfig, person: int, number: int) -> int:
    """Return the index of the class of a speaker's clip.

    A speaker shows every class equally often, in a random order.

    Args:
        config: settings of the corpus.
        person: the speaker's number, counted from 0.
        number: the clip's number among those of the speaker, counted from 0.
    """
    order = np.repeat(np.arange(len(CLASSES[config.task])), config.clips_per_class)
    np.random.default_rng([config.seed, 2, person]).shuffle(order)
    return int(order[number])


def two_syllables(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Return start and end in s of two syllables, float64 [2,2], without their vowels."""
    last = seconds - ORDER_EDGE - SYLLABLE[1]
    distances = [k * ORDER_GRID for k in ORDER_STEPS if ORDER_EDGE + k * ORDER_GRID < last]
    distance = float(rng.choice(distances))
    first = rng.uniform(ORDER_EDGE, last - distance)
    start = np.array([first, first + distance])
    return np.stack([start, start + rng.uniform(*SYLLABLE, 2)], axis=1)


def draw_freckles(rng: np.random.Generator, frames: int, moving: int) -> Freckles:
    """Return freckles of which those of colour ``moving`` tremble.

    A still cell is displaced by ``s * TREMBLE`` in every frame, with a fair coin ``s`` and in a random
    direction; a trembling one alternates between that place and its opposite. A frame therefore shows cells
    of both kinds at places with the same distribution, and so do frames at an even stride.
    """
    cells = CELLS * CELLS
    colour = rng.integers(0, 2, cells)
    while not FEWEST_CELLS <= colour.sum() <= cells - FEWEST_CELLS:
        colour = rng.integers(0, 2, cells)
    row, column = np.divmod(np.arange(cells), CELLS)
    centre = np.stack([CELLS_LEFT + (column + 0.5) * CELL_SIZE, CELLS_TOP + (row + 0.5) * CELL_SIZE], axis=1)
    corners = 0.115 * np.array(list(itertools.product((-1, 1), (-1, 1))), float)
    middle = centre[:, None] + corners + rng.uniform(-0.04, 0.04, (cells, SPOTS, 2))
    angle = rng.uniform(0, 2 * np.pi, cells)
    side = rng.choice([-1.0, 1.0], cells)
    alternation = (-1.0) ** np.arange(frames)[:, None]
    sign = side * np.where(colour == moving, alternation, 1.0)  # [n,K]
    shift = TREMBLE * sign[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return Freckles(colour, middle, rng.uniform(*SPOT_RADIUS, (cells, SPOTS)), shift)


def vowels_of(task: str, label: int, drawn: np.ndarray) -> np.ndarray:
    """Return the vowel of each syllable, int64 [k]: as ``drawn`` where the label does not decide it."""
    pair = np.array([VOWEL_A, VOWEL_I])
    if task == "order":
        return pair[::-1] if label else pair
    if task == "told":
        return np.full(len(drawn), pair[label])
    return drawn


def blush_of(task: str, label: int) -> float:
    """Return the colour of the cheeks, -1 (pale) to 1 (flushed); 0 where the label does not decide it."""
    return (1.0 - 2.0 * label) if task == "told" else 0.0
