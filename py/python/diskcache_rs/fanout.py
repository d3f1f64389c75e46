"""`FanoutCache`: keys spread over several caches, so that writers of different keys do not wait for each other."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

from ._cache import Cache
from ._constants import DEFAULT_SETTINGS, ENOVAL
from ._disk import KEYS_IN_PYTHON, Disk, parts_in_python
from ._exceptions import Timeout
from ._native import FanoutBase
from .persistent import Deque, Index

if TYPE_CHECKING:
    from typing_extensions import disjoint_base
else:
    # Known to Python from 3.15 on; until then it is for type checkers alone.
    def disjoint_base(cls: type) -> type:
        """Return `cls`."""
        return cls


_log = logging.getLogger("diskcache_rs")

# Held while what was dropped is counted. A child that is forked meanwhile must not find it held by a thread that it has not.
_counting = threading.Lock()
os.register_at_fork(before=_counting.acquire, after_in_parent=_counting.release, after_in_child=_counting.release)

# What `Cache` takes beside the settings, and so is pickled with the cache.
_OPTIONS = ("durability", "max_staleness", "profile", "read_only")


@disjoint_base
class FanoutStats(tuple[int, int]):
    """Hits and misses, as python-diskcache returns them, and what was dropped.

    >>> stats = FanoutStats((3, 1), {'set': 2})
    >>> hits, misses = stats
    >>> stats.dropped
    {'set': 2}
    """

    dropped: dict[str, int]

    def __new__(cls, counts: Iterable[int], dropped: Mapping[str, int]) -> Self:
        """Return the tuple of `counts` with `dropped`."""
        self = super().__new__(cls, counts)
        self.dropped = dict(dropped)
        return self


class FanoutCache(FanoutBase):
    """A cache of several caches, its shards; each key belongs to one of them, by its hash, in every process.

    A shard that cannot be written or read within `timeout` costs the call: it returns False, None or the default, as if there were
    no such key, unless it is made with ``retry=True``. How often that was is counted (``stats().dropped``), and the first time is
    logged as a warning.

    >>> cache = FanoutCache()
    >>> cache['key'] = 'value'
    >>> cache['key']
    'value'

    Args:
        directory: where it lives; a new temporary directory if None.
        shards: how many caches, in the sub-directories ``000``, ``001`` and so on. It must be the same whenever the directory is opened.
        timeout: seconds until a call gives up.
        disk: `Disk` or a subclass that converts keys and values.
        settings: what `Cache` takes; ``size_limit`` is that of all shards together.

    """

    _hash: Callable[[Any], int]

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        shards: int = 8,
        timeout: float = 0.010,
        disk: type[Disk] = Disk,
        **settings: Any,
    ) -> None:
        is_limit_chosen = "size_limit" in settings
        settings.setdefault("size_limit", DEFAULT_SETTINGS["size_limit"])
        self._start(directory, shards, timeout, disk, settings)
        if not is_limit_chosen:
            for shard in self._shards:
                shard._watch_limit(self._directory, (DEFAULT_SETTINGS["size_limit"], shard.size_limit))

    def _start(
        self, directory: str | os.PathLike[str] | None, shards: int, timeout: float, disk: type[Disk], settings: dict[str, Any]
    ) -> None:
        if shards < 1:
            raise ValueError(f"shards must be at least 1, not {shards}")
        if "size_limit" in settings:
            settings["size_limit"] = int(settings["size_limit"] / shards)
        path = tempfile.mkdtemp(prefix="diskcache-") if directory is None else str(directory)
        self._directory = os.path.expandvars(os.path.expanduser(path))
        self._count = shards
        self._disk = disk
        self._options = {name: settings[name] for name in _OPTIONS if name in settings}
        self._dropped: Counter[str] = Counter()
        self._caches: dict[str, Cache] = {}
        self._deques: dict[str, Deque] = {}
        self._indexes: dict[str, Index] = {}
        caches = (Cache(os.path.join(self._directory, f"{number:03d}"), timeout, disk, **settings) for number in range(shards))
        self._shards = tuple(caches)
        self._hash = self._shards[0].disk.hash

    @property
    def _shards(self) -> Any:
        try:
            return self.__dict__["_shards"]
        except KeyError:
            raise AttributeError("_shards") from None

    @_shards.setter
    def _shards(self, shards: Any) -> None:
        self.__dict__["_shards"] = shards
        is_plain = (
            type(shards) is tuple
            and all(type(shard) is Cache for shard in shards)
            and not parts_in_python(shards[0].disk) & KEYS_IN_PYTHON
            and type(shards[0].disk).hash is Disk.hash
        )
        self._route(list(shards) if is_plain else None)

    @_shards.deleter
    def _shards(self) -> None:
        self._route(None)
        del self.__dict__["_shards"]

    def _shard(self, key: Any) -> Any:
        return self._shards[self._hash(key) % self._count]

    def _note_dropped(self, verb: str, error: BaseException, count: int = 1) -> None:
        with _counting:
            is_first = not self._dropped
            self._dropped[verb] += count
        if is_first:
            _log.warning(
                "%s of the cache in %r timed out and was dropped: %s (further ones are only counted, see stats().dropped; "
                "retry=True waits instead, and so does a longer timeout)",
                verb,
                self._directory,
                error,
            )

    @property
    def directory(self) -> str:
        """The directory of the cache.

        >>> import os
        >>> sorted(os.listdir(FanoutCache(shards=2).directory))
        ['000', '001']
        """
        return self._directory

    def __getattr__(self, name: str) -> Any:
        if name not in DEFAULT_SETTINGS and name not in ("timeout", "disk"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._shards[0], name)

    @contextlib.contextmanager
    def transact(self, retry: bool = True) -> Iterator[None]:
        """Make everything in the `with` block happen at once in each shard, or not at all if it raises.

        The shards are held together; it waits for as long as that takes. Should the machine stop while the block ends, some shards may
        have taken part and others not.

        >>> cache = FanoutCache()
        >>> with cache.transact():
        ...     total, count = cache.incr('total', 10), cache.incr('count')
        >>> cache['total'] / cache['count']
        10.0
        """
        if not retry:
            raise ValueError("retry must be True: the shards are held one after the other")
        with contextlib.ExitStack() as stack:
            for shard in self._shards:
                stack.enter_context(shard.transact(retry=True))
            yield

    def read(self, key: Any) -> Any:
        """Return the value of `key` as a binary file; raise `KeyError` if it is missing.

        >>> cache = FanoutCache()
        >>> cache['a'] = b'some bytes'
        >>> with cache.read('a') as file:
        ...     file.read(4)
        b'some'
        """
        file = self.get(key, default=ENOVAL, read=True, retry=True)
        if file is ENOVAL:
            raise KeyError(key)
        return file

    def _by_shard(self, keys: Iterable[Any]) -> list[tuple[Any, list[Any]]]:
        """Return the shards that the keys of items belong to, with the items of each in their order."""
        found: dict[int, list[Any]] = {}
        for key in keys:
            found.setdefault(self._hash(key) % self._count, []).append(key)
        return [(self._shards[number], items) for number, items in found.items()]

    def get_many(self, keys: Iterable[Any], retry: bool = False) -> dict[Any, Any]:
        """Return a dictionary of the keys that have values, with these. A shard that does not answer in time is left out.

        >>> cache = FanoutCache()
        >>> cache['a'] = 1
        >>> cache.get_many(['a', 'b'])
        {'a': 1}
        """
        found: dict[Any, Any] = {}
        wanted = list(keys)
        for shard, items in self._by_shard(wanted):
            try:
                found.update(shard.get_many(items, retry))
            except Timeout as error:
                self._note_dropped("get_many", error, len(items))
        return {key: found[key] for key in wanted if key in found}

    def set_many(
        self,
        items: Mapping[Any, Any] | Iterable[tuple[Any, Any]],
        expire: float | None = None,
        tag: Any = None,
        retry: bool = False,
    ) -> int:
        """Store many values and return how many were stored; the others' shards did not do it in time.

        What belongs to one shard is stored all at once, by one commit; the shards follow each other.

        >>> cache = FanoutCache()
        >>> cache.set_many({'a': 1, 'b': 2}, expire=60)
        2
        """
        pairs = list(items.items() if isinstance(items, Mapping) else items)
        return len(pairs) - len(self._set_many(pairs, expire, tag, retry))

    def _set_many(self, pairs: list[tuple[Any, Any]], expire: float | None, tag: Any, retry: bool, whole: bool = True) -> list[Any]:
        """Store pairs and return the keys of those that were not stored in time."""
        lost: list[Any] = []
        found: dict[int, list[tuple[Any, Any]]] = {}
        for pair in pairs:
            found.setdefault(self._hash(pair[0]) % self._count, []).append(pair)
        for number, chosen in found.items():
            try:
                self._shards[number]._store_many(chosen, expire, tag, retry, whole)
            except Timeout as error:
                self._note_dropped("set_many", error, len(chosen))
                lost.extend(key for key, _ in chosen)
        return lost

    def delete_many(self, keys: Iterable[Any], retry: bool = False) -> int:
        """Remove many keys and return how many were there; as `set_many`, by one commit a shard.

        >>> cache = FanoutCache()
        >>> cache.set_many({'a': 1, 'b': 2})
        2
        >>> cache.delete_many(['a', 'b', 'c'])
        2
        """
        count = 0
        for shard, items in self._by_shard(keys):
            try:
                count += shard.delete_many(items, retry)
            except Timeout as error:
                self._note_dropped("delete_many", error, len(items))
        return count

    def pop_many(self, keys: Iterable[Any], retry: bool = False) -> dict[Any, Any]:
        """Remove many keys and return a dictionary of those that had values, with these; as `set_many`, by one commit a shard.

        >>> cache = FanoutCache()
        >>> cache['a'] = 1
        >>> cache.pop_many(['a', 'b'])
        {'a': 1}
        >>> 'a' in cache
        False
        """
        found: dict[Any, Any] = {}
        for shard, items in self._by_shard(keys):
            try:
                found.update(shard.pop_many(items, retry))
            except Timeout as error:
                self._note_dropped("pop_many", error, len(items))
        return found

    memoize = Cache.memoize

    def check(self, fix: bool = False, retry: bool = False) -> list[warnings.WarningMessage]:
        """Look for damage in all shards and return a warning for each; repair what can be if `fix`.

        >>> FanoutCache().check()
        []
        """
        return [warning for shard in self._shards for warning in shard.check(fix, retry)]

    def expire(self, retry: bool = False) -> int:
        """Remove what has expired and return how many items.

        >>> FanoutCache().expire()
        0
        """
        return self._remove("expire", (time.time(),), retry)

    def evict(self, tag: Any, retry: bool = False) -> int:
        """Remove what is tagged with `tag` and return how many items.

        >>> cache = FanoutCache()
        >>> cache.set('a', 1, tag='numbers')
        True
        >>> cache.evict('numbers')
        1
        """
        return self._remove("evict", (tag,), retry)

    def cull(self, retry: bool = False) -> int:
        """Remove expired items, then items by the eviction policy until each shard keeps its part of the limit; return how many.

        >>> FanoutCache().cull()
        0
        """
        return self._remove("cull", (), retry)

    def clear(self, retry: bool = False) -> int:
        """Remove everything and return how many items.

        >>> cache = FanoutCache()
        >>> cache['a'] = 1
        >>> cache.clear()
        1
        """
        return self._remove("clear", (), retry)

    def _remove(self, verb: str, arguments: tuple[Any, ...], retry: bool) -> int:
        """Sweep all shards. A time-out says how many items are gone; the rest is tried again."""
        total = 0
        for shard in self._shards:
            while True:
                try:
                    total += getattr(shard, verb)(*arguments, retry=retry)
                except Timeout as error:
                    total += error.args[0]
                else:
                    break
        return total

    def create_tag_index(self) -> None:
        """Note that tags are looked for; here they have an index always.

        >>> cache = FanoutCache()
        >>> cache.create_tag_index()
        >>> cache.tag_index
        1
        """
        for shard in self._shards:
            shard.create_tag_index()

    def drop_tag_index(self) -> None:
        """Take back `create_tag_index`.

        >>> cache = FanoutCache(tag_index=True)
        >>> cache.drop_tag_index()
        >>> cache.tag_index
        0
        """
        for shard in self._shards:
            shard.drop_tag_index()

    def stats(self, enable: bool = True, reset: bool = False) -> FanoutStats:
        """Return how many lookups were hits and misses since counting was enabled.

        The tuple's attribute `dropped` says how many calls of each verb this object dropped after a time-out; ``reset`` forgets them.

        >>> cache = FanoutCache()
        >>> cache.stats(enable=True)
        (0, 0)
        >>> cache.get('a')
        >>> cache.stats()
        (0, 1)
        >>> cache.stats().dropped
        {}
        """
        counts = [shard.stats(enable, reset) for shard in self._shards]
        with _counting:
            dropped = dict(self._dropped)
            if reset:
                self._dropped.clear()
        return FanoutStats((sum(hits for hits, _ in counts), sum(misses for _, misses in counts)), dropped)

    def volume(self) -> int:
        """Return how many bytes the shards take on the drive.

        >>> FanoutCache().volume() < 10_000_000
        True
        """
        return sum(shard.volume() for shard in self._shards)

    def close(self) -> None:
        """Close the shards. The cache may be used again: the next call opens them.

        >>> cache = FanoutCache()
        >>> cache['a'] = 1
        >>> cache.close()
        >>> cache['a']
        1
        """
        for shard in self._shards:
            shard.close()
        self._caches.clear()
        self._deques.clear()
        self._indexes.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._directory!r})"

    def __getstate__(self) -> tuple[Any, ...]:
        state = (self._directory, self._count, self.timeout, type(self.disk))
        return (*state, self._options) if self._options else state

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        directory, shards, timeout, disk, *options = state
        # The settings, its size limit among them, are kept with the cache.
        self._start(directory, shards, timeout, disk, dict(options[0]) if options else {})

    def __iter__(self) -> Iterator[Any]:
        for shard in self._shards:
            yield from shard

    def __reversed__(self) -> Iterator[Any]:
        for shard in reversed(self._shards):
            yield from reversed(shard)

    def __len__(self) -> int:
        return sum(len(shard) for shard in self._shards)

    def reset(self, key: str, value: Any = ENOVAL) -> Any:
        """Change a setting of every shard for everybody and return it; without `value`, take over what others changed.

        >>> cache = FanoutCache()
        >>> cache.reset('cull_limit', 0)
        0
        """
        result = None
        for shard in self._shards:
            while True:
                try:
                    result = shard.reset(key, value)
                except Timeout:
                    continue
                break
        return result

    def _sub_directory(self, kind: str, name: str) -> str:
        return os.path.join(self._directory, kind, *name.split("/"))

    def cache(self, name: str, timeout: float = 60, disk: type[Disk] | None = None, **settings: Any) -> Cache:
        """Return the cache called `name` in a sub-directory; the same object each time.

        >>> cache = FanoutCache()
        >>> test = cache.cache('test')
        >>> test['a'] = 1
        >>> cache.cache('test') is test
        True
        """
        try:
            return self._caches[name]
        except KeyError:
            directory = self._sub_directory("cache", name)
            made = Cache(directory, timeout, self._disk if disk is None else disk, **{**self._options, **settings})
            return self._caches.setdefault(name, made)

    def deque(self, name: str, maxlen: float | None = None) -> Deque:
        """Return the deque called `name` in a sub-directory; the same object each time.

        >>> cache = FanoutCache()
        >>> cache.deque('jobs').extend('abc')
        >>> cache.deque('jobs').popleft()
        'a'
        """
        try:
            return self._deques[name]
        except KeyError:
            made = Deque.fromcache(self._kept("deque", name), maxlen=maxlen)
            return self._deques.setdefault(name, made)

    def index(self, name: str) -> Index:
        """Return the index called `name` in a sub-directory; the same object each time.

        >>> cache = FanoutCache()
        >>> cache.index('users').update(a=1)
        >>> cache.index('users')['a']
        1
        """
        try:
            return self._indexes[name]
        except KeyError:
            made = Index.fromcache(self._kept("index", name))
            return self._indexes.setdefault(name, made)

    def _kept(self, kind: str, name: str) -> Cache:
        """Return a cache that evicts nothing."""
        return Cache(self._sub_directory(kind, name), disk=self._disk, eviction_policy="none", **self._options)

    if TYPE_CHECKING:
        # Those of the first shard, by `__getattr__`.
        timeout: float
        disk: Disk
