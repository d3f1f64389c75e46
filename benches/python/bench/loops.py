"""One operation, many times, timed: the loops that criterion and `./ci/bench` measure.

Each loop counts the successes of what it calls, and raises `Failed` when one is missing: a fast number for an operation that failed is
the oldest mistake of benchmarks. What an operation needs (entries to delete, items to pull) is made outside the time.
"""

from __future__ import annotations

import random
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from .engines import Durability, Engine, open_engine

CELL = 64 << 20
"""How many bytes of values one store of a benchmark holds at most, and how many are made ahead at a time."""
ENTRIES = 10_000
BULK = 1_000
COUNTERS = 100

OPERATIONS = (
    "get hit",
    "get miss",
    "set new",
    "overwrite",
    "delete",
    "incr",
    "push",
    "pull",
    "iterate",
    "bulk set",
    "open",
)
"""`iterate` counts keys and `bulk set` items, so that their figures are those of one key and one item."""


class Failed(Exception):
    """An operation did not do what it was asked for: what was measured means nothing."""


class Bench:
    """One engine with values of one size, filled, and ready for every operation in any order."""

    def __init__(
        self,
        name: str,
        directory: Path | str,
        size: int,
        *,
        entries: int = 0,
        durability: Durability = "process",
        seed: int = 1,
    ) -> None:
        self.name = name
        self.directory = Path(directory)
        self.durability: Durability = durability
        self.size = size
        self.entries = entries or max(64, min(ENTRIES, CELL // size))
        self.ahead = max(16, min(20_000, CELL // size))
        self.random = random.Random(seed)
        self.value = self.random.randbytes(size)
        self.fresh = 100_000_000  # keys that were never used: above those of the entries
        self.engine: Engine = open_engine(name, self.directory, durability)
        self.fill()

    def fill(self) -> None:
        key, value, step = self.engine.key, self.value, max(1, self.ahead // 8)
        for first in range(0, self.entries, step):
            last = min(first + step, self.entries)
            done = self.engine.set_many([(key(number), value) for number in range(first, last)])
            self.expect(done, last - first, "fill")

    def expect(self, done: int, wanted: int, operation: str) -> None:
        if done != wanted:
            raise Failed(f"{self.name}: {wanted - done} of {wanted} x {operation} failed")

    def has(self, operation: str) -> bool:
        """Return whether the engine has the operation at all."""
        if operation in ("incr", "push", "pull"):
            return getattr(self.engine, operation) is not None
        return operation != "open" or self.name != "floor"

    def run(self, operation: str, times: int) -> int:
        """Do it that often; return nanoseconds in all. `iterate` and `bulk set` do at least so many keys: see `measured`."""
        return self.measured(operation, times)[0]

    def measured(self, operation: str, times: int) -> tuple[int, int]:
        """Do it at least that often; return nanoseconds in all and how often it was done."""
        step = {"iterate": 1 << 62, "bulk set": BULK, "open": 1 << 62}.get(operation, self.ahead)
        took = done = 0
        while done < times:
            more, ran = self.part(operation, min(step, times - done))
            took += more
            done += ran
        return took, done

    def part(self, operation: str, times: int) -> tuple[int, int]:
        match operation:
            case "get hit":
                return self.get([self.engine.key(self.random.randrange(self.entries)) for _ in range(times)]), times
            case "get miss":
                return self.miss([self.engine.key(number) for number in self.unused(times)]), times
            case "set new":
                return self.set([self.engine.key(number) for number in self.unused(times)], clean=True), times
            case "overwrite":
                return self.set([self.engine.key(self.random.randrange(self.entries)) for _ in range(times)], clean=False), times
            case "delete":
                return self.delete(times), times
            case "incr":
                return self.incr(times), times
            case "push" | "pull":
                return self.queue(operation, times), times
            case "iterate":
                return self.iterate()
            case "bulk set":
                return self.bulk()
            case "open":
                return self.reopen(times), times
        raise ValueError(f"no operation is called {operation!r}; there are {', '.join(OPERATIONS)}")

    def unused(self, many: int) -> range:
        self.fresh += many
        return range(self.fresh - many, self.fresh)

    def get(self, keys: list[Any]) -> int:
        get, done = self.engine.get, 0
        start = perf_counter_ns()
        for key in keys:
            done += get(key) is not None
        took = perf_counter_ns() - start
        self.expect(done, len(keys), "get hit")
        if self.name != "floor" and get(keys[0]) != self.value:
            raise Failed(f"{self.name}: {keys[0]!r} does not hold what was set")
        return took

    def miss(self, keys: list[Any]) -> int:
        get, done = self.engine.get, 0
        start = perf_counter_ns()
        for key in keys:
            done += get(key) is None
        took = perf_counter_ns() - start
        if self.name != "floor":
            self.expect(done, len(keys), "get miss")
        return took

    def set(self, keys: list[Any], *, clean: bool) -> int:
        set_, value, done = self.engine.set, self.value, 0
        start = perf_counter_ns()
        for key in keys:
            done += set_(key, value)
        took = perf_counter_ns() - start
        self.expect(done, len(keys), "set")
        if self.name != "floor" and self.engine.get(keys[-1]) != value:
            raise Failed(f"{self.name}: {keys[-1]!r} does not hold what was set")
        if clean:
            for key in keys:
                self.engine.delete(key)
        return took

    def delete(self, times: int) -> int:
        keys = [self.engine.key(number) for number in self.unused(times)]
        self.expect(self.engine.set_many([(key, self.value) for key in keys]), times, "set many")
        delete, done = self.engine.delete, 0
        start = perf_counter_ns()
        for key in keys:
            done += delete(key)
        took = perf_counter_ns() - start
        self.expect(done, times, "delete")
        if self.name != "floor" and self.engine.get(keys[0]) is not None:
            raise Failed(f"{self.name}: {keys[0]!r} was deleted and is there")
        return took

    def incr(self, times: int) -> int:
        incr = self.engine.incr
        if incr is None:
            raise Failed(f"{self.name} has no incr")
        keys = [self.engine.key(900_000_000 + number % COUNTERS) for number in range(times)]
        before = incr(keys[0])
        done = 0
        start = perf_counter_ns()
        for key in keys:
            done += incr(key) > 0
        took = perf_counter_ns() - start
        self.expect(done, times, "incr")
        if self.name != "floor" and incr(keys[0]) != before + 1 + -(-times // COUNTERS):
            raise Failed(f"{self.name}: a counter is wrong")
        return took

    def queue(self, operation: str, times: int) -> int:
        """Push, then pull the same: one of the two is what is timed."""
        push, pull, value, done = self.engine.push, self.engine.pull, self.value, 0
        if push is None or pull is None:
            raise Failed(f"{self.name} has no queue")
        start = perf_counter_ns()
        for _ in range(times):
            push(value)
        pushed = perf_counter_ns() - start
        start = perf_counter_ns()
        for _ in range(times):
            done += pull() is not None
        pulled = perf_counter_ns() - start
        self.expect(done, times, "pull")
        return pushed if operation == "push" else pulled

    def iterate(self) -> tuple[int, int]:
        start = perf_counter_ns()
        found = self.engine.keys()
        took = perf_counter_ns() - start
        if self.name == "floor":
            return took, self.entries
        if found < self.entries:
            raise Failed(f"{self.name}: iterated over {found} keys of {self.entries}")
        return took, found

    def bulk(self) -> tuple[int, int]:
        many = max(1, min(BULK, self.ahead))
        keys = [self.engine.key(number) for number in self.unused(many)]
        items = [(key, self.value) for key in keys]
        start = perf_counter_ns()
        done = self.engine.set_many(items)
        took = perf_counter_ns() - start
        self.expect(done, many, "bulk set")
        for key in keys:
            self.engine.delete(key)
        return took, many

    def reopen(self, times: int) -> int:
        """Open and look one key up, as a program does that was just started."""
        took = 0
        for _ in range(times):
            self.engine.close()
            start = perf_counter_ns()
            self.engine = open_engine(self.name, self.directory, self.durability)
            found = self.engine.get(self.engine.key(self.random.randrange(self.entries)))
            took += perf_counter_ns() - start
            self.expect(int(found is not None), 1, "open and get")
        return took

    def close(self) -> None:
        self.engine.close()
