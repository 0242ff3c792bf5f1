"""Simulate how often 95 % intervals over seeds and speakers contain the true value.

    python -m benchmarks.interval_coverage [--rounds 4000]

A round draws a table of pseudo-values, S seeds x P speakers, with the mean 0: a normal deviate for each seed,
one for each speaker, and one for each cell with the variance 1. Coverage is the share of the rounds in which
the t interval with the variance and the degrees of freedom of `deiii.model.intervals.mean_variance` contains
0. The alternative on the same tables has Satterthwaite's degrees of freedom with the term of the rest, which
deiii leaves out.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from scipy.stats import t as student

from benchmarks.machine import made_by
from deiii.model.intervals import LEVEL, mean_variance

SEEDS, PEOPLE = (2, 3, 5), (6, 10, 24, 91)
# Variances of seeds and of speakers; that of the rest is 1.
VARIANCES = ((0, 0), (0.3, 0), (0, 0.3), (0.1, 0.1), (0.3, 0.3), (0, 1), (0.05, 2), (1, 1), (3, 3))


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4000, help="tables of each kind")
    rounds = parser.parse_args().rounds
    rng = np.random.default_rng(0)
    found = {s: {p: {v: coverage(rng, s, p, v, rounds) for v in VARIANCES} for p in PEOPLE} for s in SEEDS}
    print("| seeds | speakers | variances of seeds and speakers | coverage | with the term of the rest |")
    print("|---|---|---|---|---|")
    for s, p, v in ((s, p, v) for s in SEEDS for p in PEOPLE for v in VARIANCES):
        without, with_term = found[s][p][v]
        print(f"| {s} | {p} | {v[0]:g}, {v[1]:g} | {without:.3f} | {with_term:.3f} |")
    result: dict[str, object] = {"bench": "interval_coverage", "rounds": rounds}
    for s in SEEDS:
        cells = [c for of_people in found[s].values() for c in of_people.values()]
        result[f"{s}_seeds"] = {
            "least": round(min(c[0] for c in cells), 3),
            "largest_rise": round(max(c[1] - c[0] for c in cells), 3),
        }
    differing = [found[2][p][v] for p in PEOPLE for v in VARIANCES if v[0] >= 1]
    result["2_seeds_that_differ"] = [round(f(c[0] for c in differing), 3) for f in (min, max)]
    print("RESULT " + json.dumps(result | made_by()))


def coverage(
    rng: np.random.Generator, seeds: int, people: int, variances: tuple[float, float], rounds: int
) -> tuple[float, float]:
    """Return the coverage of the intervals, and that of those with the term of the rest."""
    of_seeds, of_people = (variance**0.5 for variance in variances)
    covered = np.zeros(2)
    for _ in range(rounds):
        table = of_seeds * rng.normal(size=(seeds, 1)) + of_people * rng.normal(size=(1, people))
        table = table + rng.normal(size=(seeds, people))
        variance, freedom = mean_variance(table)
        quantiles = student.ppf((1 + LEVEL) / 2, [freedom, _with_rest(table, variance)])
        covered += abs(table.mean()) <= quantiles * variance**0.5
    return float(covered[0] / rounds), float(covered[1] / rounds)


def _with_rest(table: np.ndarray, variance: float) -> float:
    """Return Satterthwaite's degrees of freedom with the mean squares of seeds, speakers and rest."""
    seeds, people = table.shape
    of_seed, of_speaker = table.mean(axis=1, keepdims=True), table.mean(axis=0, keepdims=True)
    squares = [
        people * float(of_seed.var(ddof=1)),
        seeds * float(of_speaker.var(ddof=1)),
        float(((table - of_seed - of_speaker + table.mean()) ** 2).sum()) / ((seeds - 1) * (people - 1)),
    ]
    freedoms = [seeds - 1, people - 1, (seeds - 1) * (people - 1)]
    spread = sum(square**2 / freedom for square, freedom in zip(squares, freedoms, strict=True))
    return max(1.0, min((variance * seeds * people) ** 2 / spread, seeds * people - 1))


if __name__ == "__main__":
    main()
