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


async def got(cache: Any, key: Any, default: Any) -> Any:
    """Return the value of `key`: at once if it is in memory, else from a thread."""
    try_get = getattr(cache, "_try_get", None)
    if try_get is not None:
        value = try_get(key, default, BLOCKED)
        if value is not BLOCKED:
            return value
    return await awaited(cache.get, key, default, retry=True)
