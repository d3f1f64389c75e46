"""One worker process: mixed operations until it is told to stop or killed, and a log of what it asked and was answered.

The log is a file on a local disk, one JSON list a line, each written by one write(2), so that kill -9 leaves whole
lines:

    ["i", n, time, operation, key, name]    about to call
    ["r", n, time, result]                  it returned: a name (see engine.py), a number, True, False or None
    ["x", n, time, "Error: text"]           it raised: whether it took effect is unknown

A call without an answer (the process was killed in it) is unknown in the same way. Times are CLOCK_MONOTONIC, which
all hosts of one guest share: that is what makes "before" a fact in the verdict.
"""

import json
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

from engine import make_value, module_of, open_cache, read_value

PRIVATE_KEYS = 12
SHARED_KEYS = 6
COUNTERS = 2
SLOTS_A_SECOND = 4  # how often the keys that everybody adds and pops change


class Worker:
    """Calls one cache, and logs each call around it."""

    def __init__(self, cache: Any, me: str, everybody: list[str], log: int, began: float, seed: str) -> None:
        self.cache, self.me, self.everybody, self.log, self.began = cache, me, everybody, log, began
        self.rng = random.Random(seed)
        self.count = 0
        self.incarnation = seed

    def call(self, operation: str, key: str, act: Callable[[str], Any]) -> None:
        """Logs, acts, logs."""
        self.count += 1
        name = f"{self.incarnation}.{self.count}"
        self.write(["i", self.count, time.monotonic(), operation, key, name])
        try:
            result = act(name)
        except Exception as error:
            self.write(["x", self.count, time.monotonic(), f"{type(error).__name__}: {error}"[:200]])
            time.sleep(0.05)  # an engine that refuses everything must not fill the log
        else:
            self.write(["r", self.count, time.monotonic(), result])

    def write(self, row: list[Any]) -> None:
        os.write(self.log, json.dumps(row).encode() + b"\n")

    def value(self, key: str, name: str) -> bytes:
        """Most are small; some are larger than a page, few larger than what engines keep in their index."""
        length = self.rng.choices((100, 5_000, 70_000), (92, 6, 2))[0]
        return make_value(key, name, length)

    def key(self, kind: str) -> str:
        """Returns a key: my own, anybody's, or one of those that all write."""
        if kind == "mine":
            return f"{self.me}/{self.rng.randrange(PRIVATE_KEYS)}"
        if kind == "anybody":
            return f"{self.rng.choice(self.everybody)}/{self.rng.randrange(PRIVATE_KEYS)}"
        return f"shared/{self.rng.randrange(SHARED_KEYS)}"

    def slot(self, ago: int) -> int:
        """Returns the number of this moment, the same on all hosts, so that all try the same key."""
        return max(0, int((time.monotonic() - self.began) * SLOTS_A_SECOND) - ago)

    # --- the operations ---

    def set(self, kind: str) -> None:
        key = self.key(kind)
        self.call("set", key, lambda name: bool(self.cache.set(key, self.value(key, name))))

    def get(self, kind: str) -> None:
        key = self.key(kind)
        self.call("get", key, lambda _: read_value(key, self.cache.get(key)))

    def delete(self) -> None:
        key = self.key("mine")
        self.call("delete", key, lambda _: bool(self.cache.delete(key)))

    def incr(self) -> None:
        key = f"counter/{self.rng.randrange(COUNTERS)}"
        self.call("incr", key, lambda _: self.cache.incr(key, 1))

    def add(self, family: str) -> None:
        key = f"{family}/{self.slot(0)}"
        self.call("add", key, lambda name: bool(self.cache.add(key, self.value(key, name))))

    def pop(self) -> None:
        key = f"pop/{self.slot(2)}"
        self.call("pop", key, lambda _: read_value(key, self.cache.pop(key)))

    def push(self) -> None:
        self.call("push", "queue", lambda name: str(self.cache.push(self.value("queue", name), prefix="queue")))

    def pull(self) -> None:
        self.call("pull", "queue", lambda _: read_value("queue", self.cache.pull(prefix="queue")[1]))

    def run(self, until: float) -> None:
        """Operates at full speed until the given time."""
        acts: list[tuple[Callable[[], None], int]] = [
            (lambda: self.set("mine"), 22),
            (lambda: self.set("shared"), 10),
            (lambda: self.get("mine"), 10),
            (lambda: self.get("anybody"), 10),
            (lambda: self.get("shared"), 8),
            (self.delete, 4),
            (self.incr, 12),
            (lambda: self.add("add"), 5),
            (lambda: self.add("pop"), 6),
            (self.pop, 6),
            (self.push, 4),
            (self.pull, 4),
        ]
        choices, weights = [act for act, _ in acts], [weight for _, weight in acts]
        while time.monotonic() < until:
            self.rng.choices(choices, weights)[0]()


def work(engine: str, folder: str, me: str, everybody: list[str], log: str, seed: str) -> None:
    """Runs one incarnation of a worker. Opening is an operation too: it may fail, and is tried again until the end.

    Says `ready` once everything is imported, and begins when it is told the times.
    """
    module_of(engine)
    print("ready", flush=True)
    times = json.loads(sys.stdin.readline() or "null")
    if times is None:
        return  # nobody needs it: the host has gone
    began, until = times["began"], times["until"]
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    opened: list[Any] = []
    worker = Worker(None, me, everybody, descriptor, began, seed)

    def open_it(_: str) -> bool:
        opened.append(open_cache(engine, folder))
        return True

    while not opened and time.monotonic() < until:
        worker.call("open", "", open_it)
    if opened:
        worker.cache = opened[0]
        worker.run(until)
        worker.call("close", "", lambda _: bool(worker.cache.close()))
