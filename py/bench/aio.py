"""What a local hit costs from a coroutine: at once, as `AsyncCache` answers it, and through a thread.

python py/bench/aio.py [--count N] [--folder DIR] [--json]    microseconds a call, the median of 5 rounds
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

from diskcache_rs import AsyncCache, Cache

ROUNDS = 5


async def timed(call: Callable[[], Awaitable[Any]], count: int) -> float:
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(count):
            await call()
        rounds.append(time.perf_counter() - start)
    return statistics.median(rounds) / count * 1e6


async def measure(cache: Cache, count: int) -> dict[str, float]:
    cache["key"] = b"x" * 128
    shared = AsyncCache(cache)

    async def inline() -> Any:
        return cache.get("key")

    return {
        "get in a coroutine": await timed(inline, count),
        "await get": await timed(lambda: shared.get("key"), count),
        "await get (miss)": await timed(lambda: shared.get("missing"), count),
        "thread": await timed(lambda: asyncio.to_thread(cache.get, "key"), max(count // 20, 50)),
        "await set": await timed(lambda: shared.set("key", b"x" * 128), max(count // 20, 50)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--folder", help="where the cache is made (default: a temporary folder)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with Cache(options.folder) as cache:
        times = asyncio.run(measure(cache, options.count))
    if options.json:
        print(json.dumps(times))
    else:
        for name, microseconds in times.items():
            print(f"{name:20} {microseconds:8.2f} us")


if __name__ == "__main__":
    main()
