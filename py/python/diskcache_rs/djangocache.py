"""`DjangoCache`: a cache backend for Django. Nothing else here needs Django.

In the settings of a project::

    CACHES = {
        'default': {
            'BACKEND': 'diskcache_rs.DjangoCache',
            'LOCATION': '/path/to/cache/directory',
            'TIMEOUT': 300,
            'SHARDS': 8,                # as `FanoutCache` takes them, these four
            'DATABASE_TIMEOUT': 0.010,
            'OPTIONS': {'size_limit': 2 ** 30},
        },
    }
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache

from ._cache import Cache
from ._calls import awaited
from ._constants import ENOVAL
from ._memoize import Results, memoizer
from .fanout import FanoutCache, FanoutStats
from .persistent import Deque, Index

_P = ParamSpec("_P")
_R = TypeVar("_R")


class DjangoCache(BaseCache):  # type: ignore[misc,unused-ignore]
    """A `FanoutCache` with the interface of Django's caches: keys have versions, and values a time-out.

    >>> import tempfile
    >>> cache = DjangoCache(tempfile.mkdtemp(), {'TIMEOUT': 300})
    >>> cache.set('key', 'value')
    True
    >>> cache.get('key')
    'value'
    >>> cache.get('key', version=2)

    Args:
        directory: where it lives.
        params: the settings of the cache in the project.

    """

    def __init__(self, directory: str | os.PathLike[str], params: dict[str, Any]) -> None:
        super().__init__(params)
        self._cache = FanoutCache(
            directory,
            params.get("SHARDS", 8),
            params.get("DATABASE_TIMEOUT", 0.010),
            **params.get("OPTIONS", {}),
        )

    @property
    def directory(self) -> str:
        """The directory of the cache.

        >>> import os, tempfile
        >>> os.path.isdir(DjangoCache(tempfile.mkdtemp(), {}).directory)
        True
        """
        return self._cache.directory

    def cache(self, name: str) -> Cache:
        """Return the cache called `name` in a sub-directory.

        >>> import tempfile
        >>> len(DjangoCache(tempfile.mkdtemp(), {}).cache('test'))
        0
        """
        return self._cache.cache(name)

    def deque(self, name: str, maxlen: float | None = None) -> Deque:
        """Return the deque called `name` in a sub-directory.

        >>> import tempfile
        >>> len(DjangoCache(tempfile.mkdtemp(), {}).deque('test'))
        0
        """
        return self._cache.deque(name, maxlen=maxlen)

    def index(self, name: str) -> Index:
        """Return the index called `name` in a sub-directory.

        >>> import tempfile
        >>> len(DjangoCache(tempfile.mkdtemp(), {}).index('test'))
        0
        """
        return self._cache.index(name)

    def add(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = True,
    ) -> bool:
        """Store `value` unless the key has one. Return whether it was stored.

        >>> import tempfile
        >>> cache = DjangoCache(tempfile.mkdtemp(), {})
        >>> cache.add('a', 1), cache.add('a', 2)
        (True, False)
        """
        return self._cache.add(self.make_key(key, version), value, self.get_backend_timeout(timeout), read, tag, retry)

    def get(
        self,
        key: Any,
        default: Any = None,
        version: int | None = None,
        read: bool = False,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Return the value of `key`, or `default` if it is missing or expired; see `FanoutCache.get`.

        >>> import tempfile
        >>> DjangoCache(tempfile.mkdtemp(), {}).get('a', 'nothing')
        'nothing'
        """
        return self._cache.get(self.make_key(key, version), default, read, expire_time, tag, retry)

    def read(self, key: Any, version: int | None = None) -> Any:
        """Return the value of `key` as a binary file; raise `KeyError` if it is missing.

        >>> import tempfile
        >>> cache = DjangoCache(tempfile.mkdtemp(), {})
        >>> cache.set('a', b'some bytes')
        True
        >>> with cache.read('a') as file:
        ...     file.read(4)
        b'some'
        """
        return self._cache.read(self.make_key(key, version))

    def set(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = True,
    ) -> bool:
        """Store `value` for `timeout` seconds (for ever if None; the cache's own time-out by default). Return whether it was stored.

        >>> import tempfile
        >>> DjangoCache(tempfile.mkdtemp(), {}).set('a', 1, timeout=60, tag='numbers')
        True
        """
        return self._cache.set(self.make_key(key, version), value, self.get_backend_timeout(timeout), read, tag, retry)

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None, retry: bool = True) -> bool:
        """Let `key` expire in `timeout` seconds. Return whether there was such a key.

        >>> import tempfile
        >>> DjangoCache(tempfile.mkdtemp(), {}).touch('a', 60)
        False
        """
        return self._cache.touch(self.make_key(key, version), self.get_backend_timeout(timeout), retry)

    def pop(
        self,
        key: Any,
        default: Any = None,
        version: int | None = None,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = True,
    ) -> Any:
        """Remove `key` and return its value, or `default` if it is missing.

        >>> import tempfile
        >>> DjangoCache(tempfile.mkdtemp(), {}).pop('a', 'nothing')
        'nothing'
        """
        return self._cache.pop(self.make_key(key, version), default, expire_time, tag, retry)

    def delete(self, key: Any, version: int | None = None, retry: bool = True) -> bool:
        """Remove `key`. Return whether there was such a key.

        >>> import tempfile
        >>> DjangoCache(tempfile.mkdtemp(), {}).delete('a')
        False
        """
        return self._cache.delete(self.make_key(key, version), retry)

    def incr(self, key: Any, delta: int = 1, version: int | None = None, default: int | None = None, retry: bool = True) -> Any:
        """Add `delta` to the number under `key` and return the sum. A missing key counts from `default`; without, it is a `ValueError`.

        >>> import tempfile
        >>> DjangoCache(tempfile.mkdtemp(), {}).incr('a', default=0)
        1
        """
        name = self.make_key(key, version)
        try:
            return self._cache.incr(name, delta, default, retry)
        except KeyError:
            raise ValueError(f"Key '{name}' not found") from None

    def decr(self, key: Any, delta: int = 1, version: int | None = None, default: int | None = None, retry: bool = True) -> Any:
        """Subtract `delta` from the number under `key`, as `incr` does with the opposite sign.

        >>> import tempfile
        >>> DjangoCache(tempfile.mkdtemp(), {}).decr('a', default=10)
        9
        """
        return self.incr(key, -delta, version, default, retry)

    def has_key(self, key: Any, version: int | None = None) -> bool:
        """Return whether `key` has a value.

        >>> import tempfile
        >>> DjangoCache(tempfile.mkdtemp(), {}).has_key('a')
        False
        """
        return self.make_key(key, version) in self._cache

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """Return a dictionary of the keys that have values, with these.

        >>> import tempfile
        >>> cache = DjangoCache(tempfile.mkdtemp(), {})
        >>> cache.set('a', 1)
        True
        >>> cache.get_many(['a', 'b'])
        {'a': 1}
        """
        names = {self.make_key(key, version): key for key in keys}
        return {names[name]: value for name, value in self._cache.get_many(names).items()}

    def set_many(
        self,
        data: Mapping[Any, Any],
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        tag: Any = None,
        retry: bool = True,
    ) -> list[Any]:
        """Store many values, by few commits a shard. Return the keys of those that were not stored.

        >>> import tempfile
        >>> DjangoCache(tempfile.mkdtemp(), {}).set_many({'a': 1, 'b': 2})
        []
        """
        names = {self.make_key(key, version): key for key in data}
        pairs = [(name, data[key]) for name, key in names.items()]
        lost = self._cache._set_many(pairs, self.get_backend_timeout(timeout), tag, retry, whole=False)
        return [names[name] for name in lost]

    def delete_many(self, keys: Iterable[Any], version: int | None = None, retry: bool = True) -> None:
        """Remove many keys, by one commit a shard.

        >>> import tempfile
        >>> DjangoCache(tempfile.mkdtemp(), {}).delete_many(['a', 'b'])
        """
        self._cache.delete_many([self.make_key(key, version) for key in keys], retry)

    def expire(self) -> int:
        """Remove what has expired and return how many items.

        >>> import tempfile
        >>> DjangoCache(tempfile.mkdtemp(), {}).expire()
        0
        """
        return self._cache.expire()

    def stats(self, enable: bool = True, reset: bool = False) -> FanoutStats:
        """Return hits and misses, see `FanoutCache.stats`.

        >>> import tempfile
        >>> DjangoCache(tempfile.mkdtemp(), {}).stats()
        (0, 0)
        """
        return self._cache.stats(enable=enable, reset=reset)

    def create_tag_index(self) -> None:
        """Note that tags are looked for; here they have an index always.

        >>> import tempfile
        >>> DjangoCache(tempfile.mkdtemp(), {}).create_tag_index()
        """
        self._cache.create_tag_index()

    def drop_tag_index(self) -> None:
        """Take back `create_tag_index`.

        >>> import tempfile
        >>> DjangoCache(tempfile.mkdtemp(), {}).drop_tag_index()
        """
        self._cache.drop_tag_index()

    def evict(self, tag: Any) -> int:
        """Remove what is tagged with `tag` and return how many items.

        >>> import tempfile
        >>> DjangoCache(tempfile.mkdtemp(), {}).evict('numbers')
        0
        """
        return self._cache.evict(tag)

    def cull(self) -> int:
        """Remove expired items, then items by the eviction policy until the size limit is kept; return how many.

        >>> import tempfile
        >>> DjangoCache(tempfile.mkdtemp(), {}).cull()
        0
        """
        return self._cache.cull()

    def clear(self) -> int:
        """Remove everything, of all versions, and return how many items.

        >>> import tempfile
        >>> DjangoCache(tempfile.mkdtemp(), {}).clear()
        0
        """
        return self._cache.clear()

    def close(self, **kwargs: Any) -> None:  # noqa: ARG002
        """Close the cache, as Django does after each request. It may be used again: the next call opens it.

        >>> import tempfile
        >>> DjangoCache(tempfile.mkdtemp(), {}).close()
        """
        self._cache.close()

    def get_backend_timeout(self, timeout: Any = DEFAULT_TIMEOUT) -> float | None:
        """Return the seconds that `timeout` stands for; None for ever.

        >>> import tempfile
        >>> cache = DjangoCache(tempfile.mkdtemp(), {'TIMEOUT': 60})
        >>> cache.get_backend_timeout(), cache.get_backend_timeout(0), cache.get_backend_timeout(None)
        (60, -1, None)
        """
        if timeout == DEFAULT_TIMEOUT:
            timeout = self.default_timeout
        elif timeout == 0:
            # Expired at once.
            timeout = -1
        seconds: float | None = timeout
        return seconds

    def memoize(
        self,
        name: str | None = None,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        typed: bool = False,
        tag: Any = None,
        ignore: Collection[int | str] = (),
        *,
        key: Callable[..., Any] | None = None,
    ) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
        """Return a decorator that keeps what a function, or a coroutine function, returns for `timeout` seconds; see `Cache.memoize`.

        >>> import tempfile
        >>> cache = DjangoCache(tempfile.mkdtemp(), {})
        >>> @cache.memoize(timeout=60)
        ... def double(number):
        ...     return 2 * number
        >>> double(2)
        4
        """
        return memoizer(_Results(self, timeout, version, tag), name, typed, ignore, key)


class _Results(Results):
    """Where results are kept: under versioned keys, for a time-out as Django understands it."""

    def __init__(self, cache: DjangoCache, timeout: Any, version: int | None, tag: Any) -> None:
        super().__init__(cache, timeout, tag)
        self.version = version

    @property
    def keeps(self) -> bool:
        return self.expire is None or self.expire == DEFAULT_TIMEOUT or self.expire > 0

    def find(self, key: Any) -> Any:
        return self.cache.get(key, ENOVAL, self.version, retry=True)

    def keep(self, key: Any, result: Any) -> None:
        self.cache.set(key, result, self.expire, self.version, tag=self.tag, retry=True)

    async def find_async(self, key: Any) -> Any:
        return await awaited(self.find, key)
