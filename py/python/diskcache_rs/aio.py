"""Caches for asyncio: the methods of `Cache`, to be awaited.

A lookup that memory can answer (a cache on a local disk, a value that has no file of its own) is answered at once, without a
thread. Everything that may wait for a drive, a lock or another process runs in a thread, so the loop is never blocked.

>>> import asyncio
>>> async def main():
...     async with AsyncCache() as cache:
...         await cache.set('key', 'value', expire=60)
...         return await cache.get('key')
>>> asyncio.run(main())
'value'
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import itertools
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, ClassVar, ParamSpec, Self, TypeVar

from ._cache import Cache
from ._calls import BLOCKED, inline_get, pool
from ._constants import ENOVAL
from ._memoize import Results, memoizer
from .fanout import FanoutCache

__all__ = ["AsyncCache", "AsyncFanoutCache"]

_P = ParamSpec("_P")
_R = TypeVar("_R")

# How many keys an iteration fetches in one visit of a thread.
_BATCH = 256


class AsyncCache:
    """A `Cache` whose methods are awaited. Its arguments are those of `Cache`, or a cache that is open already.

    It is opened by ``async with``, or by the first call. Any other method or attribute that the cache has is there too:
    methods are awaited, attributes are those of the open cache.

    - If a task is cancelled while it waits for a call, the call goes on in its thread: it may take effect.
    - What `get` and `read` return with ``read=True`` is an ordinary file, whose reading blocks: read it in a thread.
    - A lookup that is answered at once does not give other tasks a turn.

    >>> async def main():
    ...     async with AsyncCache() as cache:
    ...         async with cache.transact():
    ...             await cache.push('job', prefix='queue')
    ...             await cache.incr('jobs')
    ...         return await cache.pull('queue'), [key async for key in cache]
    >>> asyncio.run(main())
    (('queue-500000000000000', 'job'), ['jobs'])
    """

    # What it opens; a subclass for another kind of cache sets this, and nothing else.
    sync_type: ClassVar[Callable[..., Any]] = Cache

    def __init__(self, directory: Any = None, *args: Any, **options: Any) -> None:
        is_cache = directory is not None and not isinstance(directory, (str, os.PathLike))
        self._sync: Any = directory if is_cache else None
        if is_cache and (args or options):
            raise TypeError("a cache that is open already takes no further arguments")
        self._open = functools.partial(self.sync_type, directory, *args, **options)
        self._try_get = inline_get(self._sync)
        # With the process that made it: a forked child must not wait for a thread of its parent.
        self._opening = (os.getpid(), threading.Lock())
        # A transaction belongs to a thread, so each has one of its own, and with it the calls of its task.
        self._transactions: dict[asyncio.Task[Any] | None, Executor] = {}

    @property
    def cache(self) -> Any:
        """The cache itself, whose methods block; opened if it was not.

        >>> AsyncCache().cache.set('key', 'value')
        True
        """
        if self._sync is None:
            if self._opening[0] != os.getpid():
                self._opening = (os.getpid(), threading.Lock())
            with self._opening[1]:
                if self._sync is None:
                    opened = self._open()
                    self._try_get = inline_get(opened)
                    self._sync = opened
        return self._sync

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._sync!r})"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        found = getattr(self.sync_type if self._sync is None else type(self._sync), name, None)
        if callable(found):
            return functools.partial(self._call, name)
        return getattr(self.cache, name)

    async def __aenter__(self) -> Self:
        await self._run(lambda: self.cache)
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._walk(lambda: iter(self.cache))

    async def _run(self, call: Callable[[], _R]) -> _R:
        executor = pool()
        if self._transactions:
            executor = self._transactions.get(asyncio.current_task(), executor)
        return await asyncio.get_running_loop().run_in_executor(executor, call)

    async def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return await self._run(lambda: getattr(self.cache, name)(*args, **kwargs))

    def _at_once(self, key: Any, default: Any) -> Any:
        """Return what is in memory, or `BLOCKED`."""
        if self._try_get is None or (self._transactions and asyncio.current_task() in self._transactions):
            return BLOCKED
        return self._try_get(key, default, BLOCKED)

    async def _walk(self, start: Callable[[], Iterator[Any]]) -> AsyncIterator[Any]:
        iterator = await self._run(start)
        while batch := await self._run(lambda: list(itertools.islice(iterator, _BATCH))):
            for key in batch:
                yield key

    async def get(
        self,
        key: Any,
        default: Any = None,
        read: bool = False,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Return the value of `key`, or `default`; see `Cache.get`.

        >>> asyncio.run(AsyncCache().get('a', 'nothing'))
        'nothing'
        """
        if not (read or expire_time or tag):
            value = self._at_once(key, default)
            if value is not BLOCKED:
                return value
        return await self._call("get", key, default, read, expire_time, tag, retry)

    async def getitem(self, key: Any) -> Any:
        """Return the value of `key`, as ``cache[key]``; raise `KeyError` if it is missing.

        >>> cache = AsyncCache()
        >>> asyncio.run(cache.set('a', 1))
        True
        >>> asyncio.run(cache.getitem('a'))
        1
        """
        value = self._at_once(key, ENOVAL)
        if value is BLOCKED:
            value = await self._call("get", key, ENOVAL, retry=True)
        if value is ENOVAL:
            raise KeyError(key)
        return value

    async def contains(self, key: Any) -> bool:
        """Return whether `key` has a value, as ``key in cache``.

        >>> asyncio.run(AsyncCache().contains('a'))
        False
        """
        return bool(await self._run(lambda: key in self.cache))

    async def count(self) -> int:
        """Return how many items there are, as ``len(cache)``.

        >>> asyncio.run(AsyncCache().count())
        0
        """
        return await self._run(lambda: len(self.cache))

    async def set(
        self,
        key: Any,
        value: Any,
        expire: float | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = False,
    ) -> bool:
        """Store `value` under `key`; see `Cache.set`.

        >>> asyncio.run(AsyncCache().set('a', [1, 2], expire=60, tag='lists'))
        True
        """
        return bool(await self._call("set", key, value, expire, read, tag, retry))

    async def add(
        self,
        key: Any,
        value: Any,
        expire: float | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = False,
    ) -> bool:
        """Store `value` under `key` unless it has one; see `Cache.add`.

        >>> cache = AsyncCache()
        >>> asyncio.run(cache.add('a', 1)), asyncio.run(cache.add('a', 2))
        (True, False)
        """
        return bool(await self._call("add", key, value, expire, read, tag, retry))

    async def incr(self, key: Any, delta: float = 1, default: float | None = 0, retry: bool = False) -> Any:
        """Add to a number; see `Cache.incr`.

        >>> asyncio.run(AsyncCache().incr('a', 2))
        2
        """
        return await self._call("incr", key, delta, default, retry)

    async def decr(self, key: Any, delta: float = 1, default: float | None = 0, retry: bool = False) -> Any:
        """Subtract from a number; see `Cache.decr`.

        >>> asyncio.run(AsyncCache().decr('a', 2, default=10))
        8
        """
        return await self._call("decr", key, delta, default, retry)

    async def touch(self, key: Any, expire: float | None = None, retry: bool = False) -> bool:
        """Change when `key` expires; see `Cache.touch`.

        >>> asyncio.run(AsyncCache().touch('a', expire=60))
        False
        """
        return bool(await self._call("touch", key, expire, retry))

    async def delete(self, key: Any, retry: bool = False) -> bool:
        """Remove `key`; see `Cache.delete`.

        >>> asyncio.run(AsyncCache().delete('a'))
        False
        """
        return bool(await self._call("delete", key, retry))

    async def pop(self, key: Any, default: Any = None, expire_time: bool = False, tag: bool = False, retry: bool = False) -> Any:
        """Remove `key` and return its value; see `Cache.pop`.

        >>> asyncio.run(AsyncCache().pop('a', 'nothing'))
        'nothing'
        """
        return await self._call("pop", key, default, expire_time, tag, retry)

    async def close(self) -> None:
        """Close the cache; the next call opens it again.

        >>> async def main():
        ...     cache = AsyncCache()
        ...     await cache.set('a', 1)
        ...     await cache.close()
        ...     return await cache.get('a')
        >>> asyncio.run(main())
        1
        """
        if self._sync is not None:
            await self._call("close")

    def iterkeys(self, reverse: bool = False) -> AsyncIterator[Any]:
        """Iterate the keys in key order, with ``async for``; see `Cache.iterkeys`.

        >>> async def main():
        ...     cache = AsyncCache()
        ...     await cache.set_many({'b': 1, 'a': 2})
        ...     return [key async for key in cache.iterkeys()]
        >>> asyncio.run(main())
        ['a', 'b']
        """
        return self._walk(lambda: self.cache.iterkeys(reverse))

    @contextlib.asynccontextmanager
    async def transact(self, retry: bool = False) -> AsyncIterator[None]:
        """Make what this task awaits in the block happen at once, or not at all; see `Cache.transact`.

        It has a thread of its own until its end. Calls of other tasks, also of those that the block starts, are not part of it.

        >>> async def main():
        ...     async with AsyncCache() as cache:
        ...         async with cache.transact():
        ...             await cache.incr('total', 10)
        ...             await cache.incr('count')
        ...         return await cache.get('total')
        >>> asyncio.run(main())
        10
        """
        task = asyncio.current_task()
        if task in self._transactions:
            yield
            return
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, thread_name_prefix="diskcache_rs transaction")
        try:
            transaction = await loop.run_in_executor(thread, lambda: self.cache.transact(retry))
            await _entered(loop, thread, transaction)
            self._transactions[task] = thread
            try:
                yield
            except BaseException as error:
                del self._transactions[task]
                await loop.run_in_executor(thread, transaction.__exit__, type(error), error, error.__traceback__)
                raise
            del self._transactions[task]
            await loop.run_in_executor(thread, transaction.__exit__, None, None, None)
        finally:
            # What is still to be done in it is done; the loop does not wait for it.
            thread.shutdown(wait=False)

    def memoize(
        self,
        name: str | None = None,
        typed: bool = False,
        expire: float | None = None,
        tag: Any = None,
        ignore: Collection[int | str] = (),
        *,
        key: Callable[..., Any] | None = None,
    ) -> Callable[[Callable[_P, Awaitable[_R]]], Callable[_P, Awaitable[_R]]]:
        """Return a decorator that keeps what a coroutine function returns; see `Cache.memoize`.

        >>> cache = AsyncCache()
        >>> @cache.memoize(expire=60)
        ... async def double(number):
        ...     return 2 * number
        >>> asyncio.run(double(2))
        4
        >>> asyncio.run(cache.get(double.__cache_key__(2)))
        4
        """
        memoize = memoizer(_Results(self, expire, tag), name, typed, ignore, key)

        def decorator(func: Callable[_P, Awaitable[_R]]) -> Callable[_P, Awaitable[_R]]:
            if not inspect.iscoroutinefunction(func):
                raise TypeError(f"memoize of an AsyncCache is for coroutine functions, which {func!r} is not: use that of a Cache")
            return memoize(func)

        return decorator


class _Results(Results):
    """Where coroutine functions keep results: in an `AsyncCache`, as a part of its transaction if the task has one."""

    async def find_async(self, key: Any) -> Any:
        return await self.cache.get(key, ENOVAL, retry=True)

    async def keep_async(self, key: Any, result: Any) -> None:
        await self.cache.set(key, result, self.expire, tag=self.tag, retry=True)


async def _entered(loop: asyncio.AbstractEventLoop, thread: Executor, transaction: Any) -> None:
    """Begin a transaction in its thread; if the task is cancelled meanwhile, end it again."""
    entering = loop.run_in_executor(thread, transaction.__enter__)
    try:
        await asyncio.shield(entering)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            await entering
            error = asyncio.CancelledError()
            await loop.run_in_executor(thread, transaction.__exit__, type(error), error, None)
        raise


class AsyncFanoutCache(AsyncCache):
    """A `FanoutCache` whose methods are awaited. Its arguments are those of `FanoutCache`, or one that is open already.

    >>> async def main():
    ...     async with AsyncFanoutCache(shards=2) as cache:
    ...         await cache.set('key', 'value')
    ...         return await cache.get('key')
    >>> asyncio.run(main())
    'value'
    """

    sync_type = FanoutCache
