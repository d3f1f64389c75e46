"""Medians, spreads and ratios with their confidence."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence

RESAMPLES = 1_000
"""Of the bootstrap (B. Efron, Bootstrap Methods: Another Look at the Jackknife, Annals of Statistics 7, 1979)."""


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest of the ordered values that so great a share of them does not exceed (nearest rank)."""
    if not ordered:
        raise ValueError("no values")
    rank = -int(-share * len(ordered) // 1)
    return ordered[min(len(ordered), max(1, rank)) - 1]


def spread(samples: Sequence[float]) -> dict[str, float]:
    """Return the median with the 10th and 90th percentile."""
    ordered = sorted(samples)
    return {
        "median": statistics.median(ordered),
        "low": percentile(ordered, 0.1),
        "high": percentile(ordered, 0.9),
        "samples": len(ordered),
    }


def ratio(slow: Sequence[float], fast: Sequence[float], seed: int = 1) -> dict[str, float]:
    """Return how many times `slow` is `fast`: the median over the rounds that both ran in, with a 95 % interval by bootstrap.

    Rounds are paired: what the machine did in one met both.
    """
    pairs = [left / right for left, right in zip(slow, fast, strict=True) if right > 0]
    if not pairs:
        raise ValueError("no rounds to compare")
    rng = random.Random(seed)
    medians = sorted(statistics.median(rng.choices(pairs, k=len(pairs))) for _ in range(RESAMPLES))
    return {
        "ratio": statistics.median(pairs),
        "ci_low": percentile(medians, 0.025),
        "ci_high": percentile(medians, 0.975),
    }
