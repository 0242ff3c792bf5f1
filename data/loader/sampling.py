"""Choose the clips of an epoch, their random numbers, and the rows of each clip, for a whole batch at once.

The order of clips and their random numbers are pure functions of (seed, epoch, clip). Nothing here keeps
state, so threads, ranks and resumed runs get the same numbers. Video steps lie on a grid of every
``stride``-th frame, while flow is computed between neighbouring native frames; so flow shows motion that the
sampled frames do not. Axes: B clips, T video steps, L log-mel hops.

>>> epoch_order(5, seed=1, epoch=0).tolist() == epoch_order(5, seed=1, epoch=0).tolist()
True
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deiii.data.config.schema import LoaderConfig

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """Return a uniformly random permutation of ``range(count)``, int64."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch]))).permutation(count)


def evaluation_hops(settings: LoaderConfig) -> int:
    """Return the number of log-mel hops in the network's input in validation, test and prediction."""
    return settings.eval_audio_steps or settings.audio_steps


def flow_channels(settings: LoaderConfig) -> int:
    """Return the number of channels of the flow that the network reads at each step.

    >>> flow_channels(LoaderConfig()), flow_channels(LoaderConfig(flow_frames=5, flow_join="stack"))
    (2, 10)
    """
    return 2 * settings.flow_frames if settings.flow_join == "stack" else 2


def flow_rows(at: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of flow that steps read: that of each step's frame, and those of the frames after it.

    The rows may lie behind the end of the clip.

    Args:
        at: int64 [B,T], frame numbers of the steps.
        count: rows for each step, ``loader.flow_frames``.

    Returns:
        int64 [B,F] with F = T*count, step by step, and which of the F are the first of their step, bool [F].

    >>> rows, first = flow_rows(np.array([[0, 4]]), 3)
    >>> rows.tolist(), first.tolist()
    ([[0, 1, 2, 4, 5, 6]], [True, False, False, True, False, False])
    """
    rows = (at[:, :, None] + np.arange(count)).reshape(len(at), -1)
    return rows, np.arange(rows.shape[1]) % count == 0


def rank_share(order: np.ndarray, rank: int, world: int, batch: int) -> np.ndarray:
    """Return the items that one of ``world`` ranks reads in an epoch.

    Args:
        order: int64 [N], all items in the order of the epoch.
        rank: rank of this process, counted from 0.
        world: number of ranks.
        batch: clips in a batch of one rank.

    Returns:
        int64 [batches, batch]; -1 fills the last batch. Every rank has the same number of batches, and all
        ranks together have every item exactly once.

    Raises:
        ValueError: for a rank outside its world.
    """
    if not 0 <= rank < world:
        raise ValueError(f"rank {rank} is not among {world} ranks")
    batches = batch_count(len(order), world, batch)
    share = np.full(batches * batch, -1, np.int64)
    mine = order[rank::world]
    share[: len(mine)] = mine
    return share.reshape(batches, batch)


def batch_count(count: int, world: int, batch: int) -> int:
    """Return the number of batches in an epoch on each rank, for ``count`` clips in all."""
    longest = -(-count // world)
    return -(-longest // batch)


def uniforms(seed: int, epoch: int, rows: np.ndarray, count: int) -> np.ndarray:
    """Return uniform random numbers of clips.

    The numbers of a clip depend on (seed, epoch, row) only, never on its batch or rank. They come from
    SplitMix64 on a counter (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).

    Args:
        seed, epoch: seed and epoch of the training.
        rows: int64 [B], rows of the clips.
        count: numbers for each clip.

    Returns:
        float64 [B,count] in [0,1).
    """
    with np.errstate(over="ignore"):
        start = _mix(_mix(_mix(np.array([seed], np.int64).astype(np.uint64)) + np.uint64(epoch)))
        state = _mix(start + rows.astype(np.uint64) * _GAMMA)[:, None]
        bits = _mix(state + np.arange(1, count + 1, dtype=np.uint64) * _GAMMA)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(z: np.ndarray) -> np.ndarray:
    z = z + _GAMMA
    z = (z ^ (z >> np.uint64(30))) * _MIX1
    z = (z ^ (z >> np.uint64(27))) * _MIX2
    return z ^ (z >> np.uint64(31))


def video_steps(
    lengths: np.ndarray, steps: int, stride: int, how: str = "segments", draws: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return frame numbers of the sampled steps.

    Args:
        lengths: int [B], number of frames of each clip; 0 if it has none.
        steps: T.
        stride: the grid is every ``stride``-th frame from an offset below ``stride``.
        how: ``segments`` takes one grid frame from each of T equal segments, ``contiguous`` T
            neighbours on the grid.
        draws: float [B,1+T] in [0,1), random numbers in training; ``None`` takes offset 0 and the centres.

    Returns:
        Frame numbers, int64 [B,T], rising within a clip, and a mask, bool [B,T]. A clip with fewer than T
        frames on the grid gives all of them in order; the other steps are masked and have frame number 0.

    Raises:
        ValueError: for another ``how``.

    >>> video_steps(np.array([8, 3]), steps=4, stride=2)[0].tolist()
    [[0, 2, 4, 6], [0, 2, 0, 0]]
    """
    if how not in ("segments", "contiguous"):
        raise ValueError(f"sampling is segments or contiguous, not {how!r}")
    n = np.asarray(lengths, np.int64)[:, None]
    offset = np.zeros_like(n)
    if draws is not None:
        offset = (draws[:, :1] * np.minimum(stride, n)).astype(np.int64)
    grid = np.maximum(0, -(-(n - offset) // stride))
    k = np.arange(steps, dtype=np.int64)[None]
    if how == "segments":
        low, high = k * grid // steps, (k + 1) * grid // steps
        if draws is None:
            chosen = (low + np.maximum(low, high - 1) + 1) // 2
        else:
            chosen = low + (draws[:, 1:] * np.maximum(1, high - low)).astype(np.int64)
    else:
        slack = np.maximum(0, grid - steps)
        start = slack // 2 if draws is None else (draws[:, 1:2] * (slack + 1)).astype(np.int64)
        chosen = start + k
    mask = k < grid
    chosen = np.where(grid < steps, k, chosen)
    return np.where(mask, offset + chosen * stride, 0), mask


def audio_window(
    hops: np.ndarray,
    first: np.ndarray,
    period: np.ndarray,
    begin: np.ndarray,
    end: np.ndarray,
    steps: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose the log-mel hops that belong to the sampled frames.

    The window is centred on the middle of the time that the frames cover, and moved to lie within the clip. A
    clip of at most L hops is taken whole.

    Args:
        hops: int [B], number of hops of each clip; 0 if it has no audio.
        first: float [B], time of the first hop in s.
        period: float [B], distance between hops in s.
        begin, end: float [B], times of the first and the last sampled frame in s.
        steps: L.

    Returns:
        The first hop, int64 [B], and the number of hops, int64 [B], at most L.
    """
    hops = np.asarray(hops, np.int64)
    count = np.minimum(hops, steps)
    middle = ((begin + end) / 2 - first) / np.where(period > 0, period, 1.0)
    start = np.rint(middle - (count - 1) / 2).astype(np.int64)
    return np.clip(start, 0, hops - count), count


@dataclass(frozen=True)
class Window:
    """A run of an audio stage's rows of N clips.

    Attributes:
        start, count: int64 [N], the first row and how many.
        mask: bool [N,R], the first ``count`` of R.
        time: float64 [N,R], s; zero where masked.
        span: float64 [N,2], s; times of the first and the last row.
        period: float64 [N], s; distance of rows.
    """

    start: np.ndarray
    count: np.ndarray
    mask: np.ndarray
    time: np.ndarray
    span: np.ndarray
    period: np.ndarray

    def holds(self, time: np.ndarray) -> np.ndarray:
        """Return whether instants, s [N,R'], lie within the rows.

        Every instant does where a clip has no row, or a single one: its length is not known, and nothing of
        the clip lies beside it.
        """
        low, high = (self.span + self.period[:, None] * np.array([-0.5, 0.5]))[..., None].transpose(1, 0, 2)
        return (self.period == 0)[:, None] | ((time >= low) & (time < high))


def choose_rows(
    time: np.ndarray, begin: np.ndarray, hops: np.ndarray, around: np.ndarray, shift: np.ndarray, steps: int
) -> Window:
    """Return the rows of an audio stage that go with a stretch of time, at most ``steps`` of each clip.

    Args:
        time: float64 [rows of all clips], s.
        begin, hops: int64 [N], each clip's first row and how many it has.
        around: float64 [N,2], s; begin and end of the stretch, NaN where every stretch is accepted.
        shift: float64 [N], from -0.5 to 0.5; where in the clip such a window lies, 0 in the middle.
        steps: R.
    """
    first = np.where(hops > 0, pick(time, np.where(hops > 0, begin, 0)), 0.0)
    last = np.where(hops > 0, pick(time, np.where(hops > 0, begin + hops - 1, 0)), 0.0)
    period = (last - first) / np.maximum(1, hops - 1)
    room = np.maximum(0, hops - steps) * period
    anywhere = (first + last) / 2 + room * shift
    low, high = np.where(np.isnan(around[:, :1]), anywhere[:, None], around).T
    start, count = audio_window(hops, first, period, low, high, steps)
    k = np.arange(steps)[None]
    mask = k < count[:, None]
    shown = np.where(mask, pick(time, np.where(mask, (begin + start)[:, None] + k, 0)), 0.0)
    span = np.stack([shown[:, 0], shown[np.arange(len(begin)), np.maximum(0, count - 1)]], axis=1)
    return Window(start, count, mask, shown, span, period)


def pick(values: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return ``values[place]``; zeros where there are no values at all."""
    return values[place] if len(values) else np.zeros(place.shape, values.dtype)
