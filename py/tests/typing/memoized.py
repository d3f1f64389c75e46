"""Functions and coroutine functions keep their types when they are memoized."""

from collections.abc import Callable, Coroutine
from typing import Any, assert_type

from diskcache_rs import Cache, Lock, barrier, memoize_stampede, throttle

cache = Cache()


@cache.memoize(expire=60, tag="fib", ignore={"verbose"})
def fibonacci(number: int, *, verbose: bool = False) -> int:
    return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2, verbose=verbose)


@memoize_stampede(cache, expire=60, key=lambda user: user["id"])
def name_of(user: dict[str, str]) -> str:
    return user["name"]


@cache.memoize()
async def fetch(url: str) -> bytes:
    return url.encode()


@barrier(cache, Lock)
@throttle(cache, 10, 1)
def work(number: int) -> list[int]:
    return [number]


async def main() -> None:
    assert_type(fibonacci(3, verbose=True), int)
    assert_type(name_of({"id": "1", "name": "Ada"}), str)
    assert_type(await fetch("a"), bytes)
    assert_type(work(1), list[int])
    kept: Callable[[str], Coroutine[Any, Any, bytes]] = fetch
    print(kept)
