"""Trying again: what others' work made fail, and what only time can tell."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

from ._exceptions import OutcomeUnknown, TransactionConflict

_T = TypeVar("_T")


class Backoff:
    """Rests between looks: a millisecond at first, then longer, and never shorter than several looks take.

    So a waiter on a network drive, whose look is a round trip, spends most of its time resting, and many waiters do not add up.
    """

    def __init__(self, ceiling: float = 0.05) -> None:
        self._pause, self._ceiling = 0.001, ceiling
        self._woke = time.monotonic()

    def rest(self) -> None:
        """Sleep."""
        look = time.monotonic() - self._woke
        pause = max(self._pause, 4 * look)
        time.sleep(pause * random.uniform(0.5, 1.0))
        self._pause = min(max(self._ceiling, 8 * look), self._pause * 1.5)
        self._woke = time.monotonic()


def atomically(cache: Any, step: Callable[[], _T]) -> _T:
    """Run `step` in a transaction, again if that lost its hold to another host."""
    backoff = Backoff()
    while True:
        try:
            with cache.transact(retry=True):
                return step()
        except TransactionConflict:
            backoff.rest()


def settled(cache: Any, step: Callable[[], _T]) -> _T:
    """As `atomically`, and again if the outcome is unknown, for a `step` that finds out what it did before."""
    backoff = Backoff()
    while True:
        try:
            return atomically(cache, step)
        except OutcomeUnknown:
            backoff.rest()
