"""How many requests the eviction policies answer, on traces of shapes that real ones have.

Each policy runs in a real cache under its size limit. LRU and the optimum (which evicts what is wanted again last: L. A. Belady, A study of
replacement algorithms for a virtual-storage computer, IBM Systems Journal 5, 1966) are computed for as many entries as the cache held.
"""

from __future__ import annotations

import argparse
import bisect
import heapq
import itertools
import random
import shutil
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from .results import Results

POLICIES = (
    "least-recently-stored",
    "least-recently-used",
    "least-frequently-used",
    "time-to-live",
    "combined",
    "sieve",
)
VALUE = 2048
KEYS = 40_000
SHARES = (0.02, 0.05, 0.1, 0.2)
"""Of the bytes of all keys, how many the size limit allows."""


def zipf(rng: random.Random, length: int, keys: int, exponent: float = 0.9) -> list[int]:
    weights = list(itertools.accumulate(1 / rank**exponent for rank in range(1, keys + 1)))
    return [bisect.bisect_left(weights, rng.random() * weights[-1]) for _ in range(length)]


def drifting(rng: random.Random, length: int) -> list[int]:
    """Zipf, whose popular keys become others as time goes on: half of all over the length."""
    return [(key + number * KEYS // (2 * length)) % KEYS for number, key in enumerate(zipf(rng, length, KEYS))]


def scanned(rng: random.Random, length: int) -> list[int]:
    """Zipf, with a scan over keys that nobody wants again after every 20,000 requests."""
    trace: list[int] = []
    fresh = itertools.count(KEYS)
    while len(trace) < length:
        trace += zipf(rng, 20_000, KEYS)
        trace += itertools.islice(fresh, 4_000)
    return trace[:length]


def looping(rng: random.Random, length: int) -> list[int]:
    """A loop over a tenth of the keys, with Zipf between: what LRU is worst at."""
    loop = itertools.cycle(range(KEYS // 10))
    popular = iter(zipf(rng, length, KEYS))
    return [next(loop) if rng.random() < 0.5 else KEYS + next(popular) for _ in range(length)]


TRACES: dict[str, Callable[[random.Random, int], list[int]]] = {
    "Zipf with drift": drifting,
    "Zipf with scans": scanned,
    "loop and Zipf": looping,
}


def lru(trace: list[int], capacity: int) -> float:
    held: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for key in trace:
        if key in held:
            hits += 1
            held.move_to_end(key)
        else:
            held[key] = None
            if len(held) > capacity:
                held.popitem(last=False)
    return hits / len(trace)


def optimum(trace: list[int], capacity: int) -> float:
    never = len(trace)
    following = [never] * len(trace)
    seen: dict[int, int] = {}
    for position in range(len(trace) - 1, -1, -1):
        following[position] = seen.get(trace[position], never)
        seen[trace[position]] = position
    held: dict[int, int] = {}
    latest: list[tuple[int, int]] = []
    hits = 0
    for position, key in enumerate(trace):
        hits += key in held
        held[key] = following[position]
        heapq.heappush(latest, (-following[position], key))
        while len(held) > capacity:
            wanted, victim = heapq.heappop(latest)
            if held.get(victim) == -wanted:  # else it was wanted again since: an old note
                del held[victim]
    return hits / len(trace)


def cached(trace: list[int], policy: str, limit: int, directory: Path) -> tuple[float, int]:
    """Run a trace through a cache; return the share of hits, and how many entries it held in the middle of the second half."""
    import diskcache_rs

    value = bytes(VALUE)
    hits, held = 0, []
    with diskcache_rs.Cache(str(directory), size_limit=limit, eviction_policy=policy) as cache:
        for number, key in enumerate(trace):
            if cache.get(key) is not None:
                hits += 1
            else:
                cache.set(key, value)
            if number > len(trace) // 2 and number % 1000 == 0:
                held.append(len(cache))
    shutil.rmtree(directory, ignore_errors=True)
    return hits / len(trace), sorted(held)[len(held) // 2]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--length", type=int, default=120_000, help="requests of a trace (default: %(default)s)")


def run(options: argparse.Namespace, folder: Path, results: Results) -> None:
    for title, make in TRACES.items():
        trace = make(random.Random(options.seed), options.length)
        series: dict[str, list[tuple[float, float]]] = {}
        for share in results.progress(SHARES, f"hit ratio, {title}"):
            limit = int(share * KEYS * VALUE)
            counts = []
            for policy in POLICIES:
                ratio, held = cached(trace, policy, limit, folder / f"hits-{policy}-{share}")
                series.setdefault(policy, []).append((share, ratio))
                counts.append(held)
            capacity = sorted(counts)[len(counts) // 2]
            series.setdefault("LRU, exact", []).append((share, lru(trace, capacity)))
            series.setdefault("optimum (Belady)", []).append((share, optimum(trace, capacity)))
        results.curve(f"Hit ratio: {title}", "size limit, as a share of all values", "hits a request", series)
