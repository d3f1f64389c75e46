"""Calls of a cache from coroutines: inline where they cannot wait, in a thread where they could."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")

THREADS = 16
BLOCKED = object()


_pools: list[Executor] = []
# A forked child has none of its parent's threads.
os.register_at_fork(after_in_child=_pools.clear)


def pool() -> Executor:
    """Return the threads that all caches of this process share; the loop's own are left to others."""
    if not _pools:
        _pools.append(ThreadPoolExecutor(THREADS, thread_name_prefix="diskcache_rs"))
    return _pools[0]


async def awaited(call: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Make a call in a thread. If the awaiting task is cancelled, the call goes on and its result is dropped."""
    return await asyncio.get_running_loop().run_in_executor(pool(), functools.partial(call, *args, **kwargs))


def inline_get(cache: Any) -> Callable[[Any, Any, Any], Any] | None:
    """Return the look-up of `cache` that never waits, if it has one: of key, default, and what to return if it had to wait."""
    own: Callable[[Any, Any, Any], Any] | None = getattr(cache, "_try_get", None)
    shard_of = getattr(cache, "_shard", None)
    if own is not None or shard_of is None:
        return own

    def of_shard(key: Any, default: Any, blocked: Any) -> Any:
        return shard_of(key)._try_get(key, default, blocked)

    return of_shard


async def got(cache: Any, key: Any, default: Any) -> Any:
    """Return the value of `key`: at once if it is in memory, else from a thread."""
    try_get = inline_get(cache)
    if try_get is not None:
        value = try_get(key, default, BLOCKED)
        if value is not BLOCKED:
            return value
    return await awaited(cache.get, key, default, retry=True)
