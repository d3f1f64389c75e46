"""`Index`: an ordered dictionary on disk, shared as a `Cache` is."""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from collections.abc import (
    Callable,
    Collection,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    MutableMapping,
    ValuesView,
)
from itertools import islice
from typing import Any, ParamSpec, Self, TypeVar

from ._cache import Cache
from ._constants import ENOVAL

_P = ParamSpec("_P")
_R = TypeVar("_R")

# How many items are stored by one commit at most.
_CHUNK = 1024


class Index(MutableMapping[Any, Any]):
    """A dictionary on disk, in the order of insertion.

    >>> index = Index({'a': 1, 'b': 2})
    >>> index['c'] = 3
    >>> list(index.items())
    [('a', 1), ('b', 2), ('c', 3)]

    It is made as a dict is, with the directory before the other arguments: ``Index('/some/where', a=1)``. Without, or with None in
    its place, it lives in a new temporary directory.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        directory = None
        if args and (args[0] is None or isinstance(args[0], (bytes, str, os.PathLike))):
            directory = os.fsdecode(args[0]) if args[0] is not None else None
            args = args[1:]
        self._cache: Any = Cache(directory, eviction_policy="none")
        self._update(*args, **kwargs)

    @classmethod
    def fromcache(cls, cache: Cache, *args: Any, **kwargs: Any) -> Self:
        """Return an index of what `cache` holds, updated with the other arguments. The cache should evict nothing.

        >>> from diskcache_rs import Cache
        >>> index = Index.fromcache(Cache(eviction_policy='none'), {'a': 1}, b=2)
        >>> sorted(index)
        ['a', 'b']
        """
        self = cls.__new__(cls)
        self._cache = cache
        self._update(*args, **kwargs)
        return self

    @property
    def cache(self) -> Cache:
        """The cache that holds the items.

        >>> Index().cache.eviction_policy
        'none'
        """
        cache: Cache = self._cache
        return cache

    @property
    def directory(self) -> str:
        """The directory of the index.

        >>> index = Index(a=1)
        >>> Index(index.directory)['a']
        1
        """
        directory: str = self._cache.directory
        return directory

    def __getitem__(self, key: Any) -> Any:
        return self._cache[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._cache[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._cache[key]

    def __contains__(self, key: object) -> bool:
        return key in self._cache

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value of `key`, or `default` if it is missing.

        >>> Index(a=1).get('b', 0)
        0
        """
        return self._cache.get(key, default, retry=True)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Store items, as `dict.update` does. Many go together into one commit.

        >>> index = Index()
        >>> index.update({'a': 1}, b=2)
        >>> len(index)
        2
        """
        if len(args) > 1:
            raise TypeError(f"update expected at most 1 argument, got {len(args)}")
        for source in (*args, kwargs):
            pairs = iter(_pairs(source))
            while chunk := list(islice(pairs, _CHUNK)):
                self._cache._store_many(chunk, None, None, True, False)

    _update = update

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Return the value of `key`; store `default` first if there is none. Of many that do so at once, all return the same.

        >>> index = Index()
        >>> index.setdefault('a', 1), index.setdefault('a', 2)
        (1, 1)
        """
        cache = self._cache
        while True:
            try:
                return cache[key]
            except KeyError:
                cache.add(key, default, retry=True)

    def peekitem(self, last: bool = True) -> tuple[Any, Any]:
        """Return key and value of the item that was inserted last (or first); raise `KeyError` if there is none.

        >>> Index(a=1, b=2).peekitem()
        ('b', 2)
        """
        item: tuple[Any, Any] = self._cache.peekitem(last, retry=True)
        return item

    def pop(self, key: Any, default: Any = ENOVAL) -> Any:
        """Remove `key` and return its value, or `default` if it is missing; without one, raise `KeyError`.

        >>> index = Index(a=1)
        >>> index.pop('a'), index.pop('a', 0)
        (1, 0)
        """
        value = self._cache.pop(key, default=ENOVAL, retry=True)
        if value is not ENOVAL:
            return value
        if default is ENOVAL:
            raise KeyError(key)
        return default

    def popitem(self, last: bool = True) -> tuple[Any, Any]:
        """Take the item that was inserted last (or first); raise `KeyError` if there is none. Each is taken once.

        >>> index = Index(a=1, b=2)
        >>> index.popitem(), index.popitem(last=False)
        (('b', 2), ('a', 1))
        """
        taken = self._cache._popitem(last, True)
        if taken is None:
            raise KeyError("dictionary is empty")
        item: tuple[Any, Any] = taken[0]
        return item

    def push(self, value: Any, prefix: str | None = None, side: str = "back") -> Any:
        """Add `value` to the back or the front of a queue and return its key, as `Cache.push` does.

        >>> Index().push('first')
        500000000000000
        """
        return self._cache.push(value, prefix, side, retry=True)

    def pull(self, prefix: str | None = None, default: Any = (None, None), side: str = "front") -> Any:
        """Take key and value from an end of a queue, or return `default` if it is empty, as `Cache.pull` does.

        >>> index = Index()
        >>> index.push('first')
        500000000000000
        >>> index.pull()
        (500000000000000, 'first')
        """
        return self._cache.pull(prefix, default, side, retry=True)

    def clear(self) -> None:
        """Remove all items.

        >>> index = Index(a=1)
        >>> index.clear()
        >>> len(index)
        0
        """
        self._cache.clear(retry=True)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._cache)

    def __reversed__(self) -> Iterator[Any]:
        keys: Iterator[Any] = reversed(self._cache)
        return keys

    def __len__(self) -> int:
        return len(self._cache)

    def keys(self) -> KeysView[Any]:
        """Return a view of the keys.

        >>> list(Index(a=1, b=2).keys())
        ['a', 'b']
        """
        return KeysView(self)

    def values(self) -> ValuesView[Any]:
        """Return a view of the values.

        >>> list(Index(a=1, b=2).values())
        [1, 2]
        """
        return ValuesView(self)

    def items(self) -> ItemsView[Any, Any]:
        """Return a view of the items.

        >>> list(Index(a=1, b=2).items())
        [('a', 1), ('b', 2)]
        """
        return ItemsView(self)

    def __getstate__(self) -> str:
        return self.directory

    def __setstate__(self, state: str) -> None:
        self.__init__(state)  # type: ignore[misc]

    def __eq__(self, other: object) -> bool:
        """Return whether it has the same items, and in the same order if `other` has one."""
        if not isinstance(other, Mapping):
            return NotImplemented
        if len(self) != len(other):
            return False
        if isinstance(other, (Index, OrderedDict)):
            return all(mine == its for mine, its in zip(self.items(), other.items(), strict=False))
        return all(other.get(key, ENOVAL) == value for key, value in self.items())

    def memoize(
        self,
        name: str | None = None,
        typed: bool = False,
        ignore: Collection[int | str] = (),
        *,
        key: Callable[..., Any] | None = None,
    ) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
        """Return a decorator that keeps what a function, or a coroutine function, returns, as `Cache.memoize` does, for ever.

        >>> index = Index()
        >>> @index.memoize()
        ... def double(number):
        ...     return 2 * number
        >>> double(2), len(index)
        (4, 1)
        """
        decorator: Callable[[Callable[_P, _R]], Callable[_P, _R]] = self._cache.memoize(name, typed, ignore=ignore, key=key)
        return decorator

    @contextlib.contextmanager
    def transact(self) -> Iterator[None]:
        """Make everything in the `with` block happen at once, or not at all if it raises.

        >>> index = Index(a=1)
        >>> with index.transact():
        ...     index['b'] = index['a'] + 1
        >>> index['b']
        2
        """
        with self._cache.transact(retry=True):
            yield

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.directory!r})"


def _pairs(source: Any) -> Iterable[tuple[Any, Any]]:
    """Return the pairs of what `dict.update` takes."""
    if isinstance(source, Mapping):
        return source.items()
    if hasattr(source, "keys"):
        return ((key, source[key]) for key in source.keys())  # noqa: SIM118
    return ((key, value) for key, value in source)
