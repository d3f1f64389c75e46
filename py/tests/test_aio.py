"""`AsyncCache`: what memory can answer costs no thread, and nothing blocks the loop."""

from __future__ import annotations

import asyncio
import inspect
import json
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from diskcache_rs import AsyncCache, AsyncFanoutCache, Cache, Disk, _calls, _native

BENCH = Path(__file__).parent.parent / "bench"


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(main, 60))


async def ticks_beside(slow: Awaitable[Any]) -> int:
    """Return how often another task could run while `slow` was awaited."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticker = asyncio.create_task(tick())
    await slow
    ticker.cancel()
    return ticks


@pytest.fixture
def held(make: Callable[..., Cache]) -> Iterator[threading.Event]:
    """Hold the cache in a transaction of another thread until the event is set."""
    begun, done = threading.Event(), threading.Event()
    other = make()
    other["key"] = "before"

    def hold() -> None:
        with other.transact():
            begun.set()
            done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert begun.wait(10)
    yield done
    done.set()
    thread.join()


SLOW: list[tuple[str, Callable[[AsyncCache], Awaitable[Any]]]] = [
    ("set", lambda cache: cache.set("a", 1, retry=True)),
    ("incr", lambda cache: cache.incr("b", retry=True)),
    ("clear", lambda cache: cache.clear(retry=True)),
    ("push", lambda cache: cache.push("item", retry=True)),
]


@pytest.mark.parametrize(("name", "call"), SLOW, ids=[name for name, _ in SLOW])
def test_a_call_that_waits_does_not_block_the_loop(cache: Cache, held: threading.Event, name: str, call: Any) -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_later(0.5, held.set)
        start = time.monotonic()
        assert await ticks_beside(call(AsyncCache(cache))) > 15
        assert time.monotonic() - start > 0.4

    run(main())


def test_a_transaction_that_waits_does_not_block_the_loop(cache: Cache, held: threading.Event) -> None:
    async def use(shared: AsyncCache) -> None:
        async with shared.transact(retry=True):
            await shared.incr("count")

    async def main() -> None:
        asyncio.get_running_loop().call_later(0.5, held.set)
        assert await ticks_beside(use(AsyncCache(cache))) > 15

    run(main())
    assert cache["count"] == 1


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise AssertionError("a thread was asked")

    monkeypatch.setattr("diskcache_rs.aio.pool", refuse)
    monkeypatch.setattr(_calls, "pool", refuse)


@pytest.mark.usefixtures("no_threads")
def test_a_local_hit_or_miss_needs_no_thread_even_while_others_hold_the_cache(cache: Cache, held: threading.Event) -> None:
    cache.get("key")
    shared = AsyncCache(cache)
    calls = 0

    @cache.memoize()
    async def work(number: int) -> int:
        nonlocal calls
        calls += 1
        return number

    async def main() -> None:
        assert await shared.get("key") == "before"
        assert await shared.get("missing", "default") == "default"
        assert await shared.getitem("key") == "before"
        with pytest.raises(KeyError, match="missing"):
            await shared.getitem("missing")
        with pytest.raises(AssertionError, match="a thread was asked"):
            await shared.set("key", "after")

    run(main())


@pytest.mark.usefixtures("no_threads")
def test_what_may_wait_is_never_answered_on_the_loop(make: Callable[..., Cache], tmp_path: Path) -> None:
    class Slow(Disk):
        def fetch(self, *args: Any) -> Any:
            time.sleep(0.1)
            return super().fetch(*args)

    large = make()
    large["key"] = b"x" * 2**20
    network = make(tmp_path / "network", profile="shared")
    own = make(tmp_path / "own", disk=Slow)
    closed = make(tmp_path / "closed")
    for cache in (network, own, closed):
        cache["key"] = "value"
    closed.close()

    async def main(cache: Cache) -> None:
        with pytest.raises(AssertionError, match="a thread was asked"):
            await AsyncCache(cache).get("key")

    for cache in (large, network, own, closed):
        run(main(cache))


def test_every_method_of_a_cache_is_there_with_the_same_arguments() -> None:
    for name, method in inspect.getmembers(Cache, callable):
        if name.startswith("_"):
            continue
        ours = getattr(AsyncCache, name, None)
        if ours is None:
            assert callable(getattr(AsyncCache(Cache.__new__(Cache)), name)), name
            continue
        theirs = inspect.signature(method)
        assert [(p.name, p.default) for p in inspect.signature(ours).parameters.values()] == [
            (p.name, p.default) for p in theirs.parameters.values()
        ], name


def test_the_verbs_mean_what_they_mean_in_a_cache(tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncCache(tmp_path / "cache", size_limit=10**7) as cache:
            assert cache.size_limit == 10**7
            assert cache.directory == str(tmp_path / "cache")
            assert await cache.set("a", 1, expire=60, tag="t")
            assert await cache.add("a", 2) is False
            assert (await cache.get("a", expire_time=True, tag=True))[::2] == (1, "t")
            assert (await cache.incr("a"), await cache.decr("a", 2)) == (2, 0)
            assert await cache.touch("a", expire=50)
            assert await cache.contains("a")
            assert await cache.push("item") == 500000000000000
            assert (await cache.peek(), await cache.pull()) == ((500000000000000, "item"),) * 2
            for number in range(600):
                await cache.set(number, number)
            assert await cache.count() == 601
            assert [key async for key in cache] == ["a", *range(600)]
            assert [key async for key in cache.iterkeys(reverse=True)] == ["a", *reversed(range(600))]
            assert await cache.pop("a", tag=True) == (0, "t")
            assert await cache.delete("a") is False
            with await cache.read(5) if await cache.set(5, b"bytes") else None as file:  # type: ignore[union-attr]
                assert file.read() == b"bytes"
            assert await cache.check() == []
            assert await cache.reset("cull_limit", 3) == 3
            assert await cache.clear() == 600
            with pytest.raises(AttributeError):
                cache.nonsense
        # As a cache, it may be used again after it was closed.
        assert await cache.get("a") is None
        await cache.close()

    run(main())


def test_a_transaction_is_of_its_task_alone_and_all_or_nothing(cache: Cache) -> None:
    shared = AsyncCache(cache)

    async def add(count: int) -> None:
        for _ in range(count):
            async with shared.transact(retry=True), shared.transact():
                total = await shared.get("total", 0)
                await asyncio.sleep(0)
                await shared.set("total", total + 1)

    async def main() -> None:
        await asyncio.gather(*(add(20) for _ in range(5)))
        assert await shared.get("total") == 100
        with pytest.raises(RuntimeError, match="stop"):
            async with shared.transact():
                await shared.set("total", 0)
                assert await shared.get("total") == 0
                # Another task sees and does nothing of it.
                assert await asyncio.create_task(shared.get("total")) == 100
                raise RuntimeError("stop")
        assert await shared.get("total") == 100
        assert shared._transactions == {}

    run(main())


def test_a_cancelled_transaction_takes_no_effect_and_blocks_nobody(cache: Cache) -> None:
    shared = AsyncCache(cache)

    async def use() -> None:
        async with shared.transact():
            await shared.set("a", 1)
            await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(use())
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await shared.set("b", 1)
        assert await shared.get("a") is None

    run(main())


def test_a_transaction_that_is_cancelled_while_it_waits_to_begin_blocks_nobody(cache: Cache, held: threading.Event) -> None:
    shared = AsyncCache(cache)

    async def use() -> None:
        async with shared.transact(retry=True):
            raise AssertionError("it began")

    async def main() -> None:
        task = asyncio.create_task(use())
        await asyncio.sleep(0.2)
        task.cancel()
        asyncio.get_running_loop().call_later(0.2, held.set)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await shared.set("b", 1)

    run(main())


def test_coroutine_functions_are_memoized_and_others_refused(cache: Cache) -> None:
    shared = AsyncCache(cache)
    calls: list[int] = []

    @shared.memoize(expire=60, tag="memo")
    async def work(number: int) -> int:
        calls.append(number)
        return number * 2

    async def main() -> list[int]:
        return [await work(1), await work(1), await work(2)]

    assert run(main()) == [2, 2, 4]
    assert calls == [1, 2]
    assert cache.get(work.__cache_key__(1), tag=True) == (2, "memo")  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="coroutine functions"):
        shared.memoize()(lambda: 1)  # type: ignore[arg-type, return-value]


def test_it_goes_over_any_class_with_the_methods_of_a_cache(cache: Cache) -> None:
    class Other:
        def __init__(self, directory: Any = None, shards: int = 8) -> None:
            self.shards = shards
            self.inner = cache

        def get(self, key: Any, default: Any = None, *args: Any, **kwargs: Any) -> Any:
            return self.inner.get(key, default)

        def set_many(self, items: dict[Any, Any]) -> int:
            return sum(self.inner.set(key, value) for key, value in items.items())

    class AsyncOther(AsyncCache):
        sync_type = Other

    async def main() -> None:
        other = AsyncOther(shards=3)
        assert await other.set_many({"a": 1, "b": 2}) == 2
        assert await other.get("b") == 2
        assert other.shards == 3

    run(main())


@pytest.mark.usefixtures("no_threads")
def test_a_hit_in_a_shard_needs_no_thread(tmp_path: Path) -> None:
    opened = AsyncFanoutCache(str(tmp_path / "fanout"), shards=3)
    for number in range(20):
        opened.cache[number] = number

    async def main() -> None:
        assert [await opened.get(number) for number in range(21)] == [*range(20), None]
        with pytest.raises(AssertionError, match="a thread was asked"):
            await opened.set("key", "value")

    run(main())
    opened.cache.close()


def test_a_cache_that_is_open_takes_no_arguments(cache: Cache) -> None:
    with pytest.raises(TypeError, match="no further"):
        AsyncCache(cache, timeout=1)


@pytest.mark.skipif(_native.DEBUG_BUILD, reason="a build without optimization is not measured")
def test_a_local_hit_is_many_times_faster_than_one_through_a_thread(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCH / "aio.py"), "--count=2000", "--folder", str(tmp_path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    times = json.loads(done.stdout)
    assert times["await get"] * 5 < times["thread"]
