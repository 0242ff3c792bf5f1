"""Order of clips and random numbers, as pure functions of (seed, epoch, row).

Nothing here keeps state, so threads, ranks and resumed runs use the same numbers.

>>> epoch_order(5, seed=1, epoch=0).tolist() == epoch_order(5, seed=1, epoch=0).tolist()
True
"""

from __future__ import annotations

import numpy as np

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """A uniformly random permutation of ``range(count)``, int64."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch]))).permutation(count)


def rank_share(order: np.ndarray, rank: int, world: int, batch: int) -> np.ndarray:
    """The items that one of ``world`` ranks reads in an epoch.

    Args:
        order: int64 [N], all items in the order of the epoch.
        rank: of this process, counted from 0.
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
    """Number of batches in an epoch on each rank, for ``count`` clips in all."""
    longest = -(-count // world)
    return -(-longest // batch)


def uniforms(seed: int, epoch: int, rows: np.ndarray, count: int) -> np.ndarray:
    """Uniform random numbers of clips.

    The numbers of a clip depend on (seed, epoch, row) only, never on its batch or rank. They come from
    SplitMix64 on a counter (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).

    Args:
        seed, epoch: of the training.
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
