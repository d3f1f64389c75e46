"""`Cache`: the verbs that are called most are native (`_native.CacheBase`), the rest is here."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Literal, ParamSpec, Self, TypeVar

from ._constants import DEFAULT_SETTINGS, ENOVAL, EVICTION_POLICY, METADATA
from ._disk import Disk, parts_in_python
from ._exceptions import CacheError, EmptyDirWarning, OutcomeUnknown, Timeout, UnknownFileWarning
from ._foreign import explained
from ._memoize import Results, memoizer
from ._native import CacheBase

_P = ParamSpec("_P")
_R = TypeVar("_R")
_SIDES = ("front", "back")


class _Options(dict[str, Any]):
    """How a cache was opened, where that was not the default; told apart from what subclasses pickle."""


class Cache(CacheBase):
    """A cache in a directory, shared by threads, processes and hosts.

    >>> cache = Cache()
    >>> cache['key'] = 'value'
    >>> cache['key']
    'value'

    Args:
        directory: where it lives; a new temporary directory if None.
        timeout: seconds until a call that cannot go on raises `Timeout`.
        disk: `Disk` or a subclass that converts keys and values.
        durability: ``'process'`` survives a killed process, ``'host'`` a power failure too.
        max_staleness: on a network drive, answer reads from what was seen at most that many seconds ago.
        profile: treat the drive as ``'local'`` or ``'shared'`` instead of finding out.
        read_only: never write.
        settings: any of `DEFAULT_SETTINGS` and ``compression`` (None, ``'lz4'``, ``'zstd'``), kept with the cache.

    """

    # Settings are attributes, set when the cache is opened and by `reset`.
    statistics: int
    tag_index: int
    eviction_policy: str
    size_limit: int
    cull_limit: int
    sqlite_auto_vacuum: int
    sqlite_cache_size: int
    sqlite_journal_mode: str
    sqlite_mmap_size: int
    sqlite_synchronous: int
    disk_min_file_size: int
    disk_pickle_protocol: int

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        timeout: float = 60,
        disk: type[Disk] = Disk,
        *,
        durability: Literal["process", "host"] = "process",
        max_staleness: float | None = None,
        profile: Literal["local", "shared"] | None = None,
        read_only: bool = False,
        **settings: Any,
    ) -> None:
        if not (isinstance(disk, type) and issubclass(disk, Disk)):
            raise ValueError("disk must subclass diskcache_rs.Disk")
        settings = {name: value for name, value in settings.items() if name not in METADATA}
        if "eviction_policy" in settings:
            EVICTION_POLICY[settings["eviction_policy"]]
        self._directory = _made_directory(directory, read_only)
        self._timeout = timeout
        # What each thread is doing.
        self._local = threading.local()
        self._options = _Options(
            (name, value)
            for name, value, default in (
                ("durability", durability, "process"),
                ("max_staleness", max_staleness, None),
                ("profile", profile, None),
                ("read_only", read_only, False),
            )
            if value != default
        )
        arguments = {
            "timeout": timeout,
            "durability": durability,
            "max_staleness": max_staleness,
            "profile": profile,
            "read_only": read_only,
            "settings": sorted(settings.items()),
        }
        try:
            self._open(self._directory, arguments)
        except CacheError as error:
            raise explained(error, self._directory) from None
        current = {**DEFAULT_SETTINGS, **self._settings()}
        self._disk = disk(
            self._directory,
            **{name.removeprefix("disk_"): value for name, value in current.items() if name.startswith("disk_")},
        )
        for name, value in current.items():
            setattr(self, name, value)

    @property
    def directory(self) -> str:
        """The directory of the cache.

        >>> import os
        >>> os.path.isdir(Cache().directory)
        True
        """
        return self._directory

    @property
    def timeout(self) -> float:
        """Seconds until a call that cannot go on raises `Timeout`.

        >>> Cache(timeout=5).timeout
        5
        """
        return self._timeout

    @property
    def disk(self) -> Disk:
        """The object that converts keys and values.

        >>> type(Cache().disk).__name__
        'Disk'
        """
        disk: Disk = self._disk
        return disk

    @property
    def _disk(self) -> Any:
        return self._get_disk()

    @_disk.setter
    def _disk(self, disk: Any) -> None:
        self._set_disk(disk, parts_in_python(disk))

    @_disk.deleter
    def _disk(self) -> None:
        self._set_disk(None, 0)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._directory!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __getstate__(self) -> tuple[Any, ...]:
        state = (self._directory, self._timeout, type(self.disk))
        return (*state, self._options) if self._options else state

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        # A subclass may have added arguments of its own, by position.
        options = next((part for part in state if isinstance(part, _Options)), _Options())
        self.__init__(*(part for part in state if part is not options), **options)  # type: ignore[misc]

    def __len__(self) -> int:
        return self._len()

    def __iter__(self) -> Iterator[Any]:
        return self._keys(sorted=False, reverse=False)

    def __reversed__(self) -> Iterator[Any]:
        return self._keys(sorted=False, reverse=True)

    def iterkeys(self, reverse: bool = False) -> Iterator[Any]:
        """Iterate the keys in key order: numbers, then text, then bytes and pickles.

        >>> cache = Cache()
        >>> for key in [3, 'b', 1, 'a']:
        ...     cache[key] = None
        >>> list(cache.iterkeys())
        [1, 3, 'a', 'b']
        >>> list(cache.iterkeys(reverse=True))
        ['b', 'a', 3, 1]
        """
        return self._keys(sorted=True, reverse=reverse)

    def read(self, key: Any, retry: bool = False) -> Any:
        """Return the value of `key` as a binary file; raise `KeyError` if it is missing.

        >>> cache = Cache()
        >>> cache['a'] = b'some bytes'
        >>> with cache.read('a') as file:
        ...     file.read(4)
        b'some'
        """
        file = self.get(key, default=ENOVAL, read=True, retry=retry)
        if file is ENOVAL:
            raise KeyError(key)
        return file

    def get_many(self, keys: Iterable[Any], retry: bool = False) -> dict[Any, Any]:
        """Return a dictionary of the keys that have values, with these. A network drive is looked at once for many of them.

        >>> cache = Cache()
        >>> cache['a'] = 1
        >>> cache.get_many(['a', 'b'])
        {'a': 1}
        """
        return self._get_many(list(keys), retry)

    def set_many(
        self,
        items: Mapping[Any, Any] | Iterable[tuple[Any, Any]],
        expire: float | None = None,
        tag: Any = None,
        retry: bool = False,
    ) -> int:
        """Store many values at once, by one commit: all or none. Return how many.

        >>> cache = Cache()
        >>> cache.set_many({'a': 1, 'b': 2}, expire=60)
        2
        """
        if type(items) is not dict:
            items = list(items.items() if isinstance(items, Mapping) else items)
        self._store_many(items, expire, tag, retry, True)
        return len(items)

    def _store_many(self, items: dict[Any, Any] | list[tuple[Any, Any]], expire: float | None, tag: Any, retry: bool, whole: bool) -> None:
        self._set_many(items, (expire, tag, retry), whole)

    def delete_many(self, keys: Iterable[Any], retry: bool = False) -> int:
        """Remove many keys at once, by one commit, and return how many were there.

        >>> cache = Cache()
        >>> cache.set_many({'a': 1, 'b': 2})
        2
        >>> cache.delete_many(['a', 'b', 'c'])
        2
        """
        return self._delete_many(list(keys), retry)

    def pop_many(self, keys: Iterable[Any], retry: bool = False) -> dict[Any, Any]:
        """Remove many keys at once, by one commit, and return a dictionary of those that had values, with these.

        >>> cache = Cache()
        >>> cache['a'] = 1
        >>> cache.pop_many(['a', 'b'])
        {'a': 1}
        >>> 'a' in cache
        False
        """
        return self._pop_many(list(keys), retry)

    @contextlib.contextmanager
    def transact(self, retry: bool = False) -> Iterator[None]:
        """Make everything in the `with` block happen at once, or not at all if it raises.

        Others do not write meanwhile, and see nothing of it before its end. Blocks may be nested; each thread has its own.

        >>> cache = Cache()
        >>> with cache.transact():
        ...     total, count = cache.incr('total', 10), cache.incr('count')
        >>> with cache.transact():
        ...     average = cache['total'] / cache['count']
        >>> average
        10.0
        """
        with self._transact(retry=retry):
            yield

    @contextlib.contextmanager
    def _transact(self, retry: bool = False, is_sweep: bool = False) -> Iterator[None]:
        """Do what `transact` says; a sweep is not one change but several commits, and so begins nothing."""
        if is_sweep or self._is_in_transaction:
            yield
            return
        self._begin(retry)
        self._local.transaction_of = os.getpid()
        try:
            yield
        except BaseException:
            self._local.transaction_of = None
            self._rollback()
            raise
        self._local.transaction_of = None
        self._commit()

    @property
    def _is_in_transaction(self) -> bool:
        """Whether this thread has a transaction open through this object; that of a forked child's parent is not the child's."""
        return getattr(self._local, "transaction_of", None) == os.getpid()

    def push(
        self,
        value: Any,
        prefix: str | None = None,
        side: str = "back",
        expire: float | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = False,
    ) -> Any:
        """Add `value` to the back or the front of a queue and return its key.

        Queues have names (`prefix`); the keys of the queue None are integers, of others text.

        >>> cache = Cache()
        >>> cache.push('first')
        500000000000000
        >>> cache.push('before it', side='front')
        499999999999999
        >>> cache.push('elsewhere', prefix='jobs')
        'jobs-500000000000000'
        """
        return self._push(value, (prefix, _is_front(side)), (expire, read, tag, retry))

    def pull(
        self,
        prefix: str | None = None,
        default: Any = (None, None),
        side: str = "front",
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Take key and value from an end of a queue, or return `default` if it is empty.

        Of many that pull at once, each item goes to one.

        >>> cache = Cache()
        >>> for letter in 'abc':
        ...     _ = cache.push(letter)
        >>> cache.pull()
        (500000000000000, 'a')
        >>> cache.pull(side='back')
        (500000000000002, 'c')
        >>> cache.pull('jobs')
        (None, None)
        """
        return _chosen(self._pull((prefix, _is_front(side)), retry), default, expire_time, tag)

    def peek(
        self,
        prefix: str | None = None,
        default: Any = (None, None),
        side: str = "front",
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Return key and value at an end of a queue, or `default` if it is empty. Expired items there are removed.

        >>> cache = Cache()
        >>> for letter in 'abc':
        ...     _ = cache.push(letter)
        >>> cache.peek()
        (500000000000000, 'a')
        >>> cache.peek(side='back')
        (500000000000002, 'c')
        """
        return _chosen(self._peek((prefix, _is_front(side)), retry), default, expire_time, tag)

    def peekitem(self, last: bool = True, expire_time: bool = False, tag: bool = False, retry: bool = False) -> Any:
        """Return key and value of the item that was inserted last (or first). Expired items there are removed.

        >>> cache = Cache()
        >>> for num, letter in enumerate('abc'):
        ...     cache[letter] = num
        >>> cache.peekitem()
        ('c', 2)
        >>> cache.peekitem(last=False)
        ('a', 0)
        """
        item = self._peekitem(last, retry)
        if item is None:
            raise KeyError("dictionary is empty")
        return _chosen(item, None, expire_time, tag)

    def memoize(
        self,
        name: str | None = None,
        typed: bool = False,
        expire: float | None = None,
        tag: Any = None,
        ignore: Collection[int | str] = (),
        *,
        key: Callable[..., Any] | None = None,
    ) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
        """Return a decorator that keeps what a function, or a coroutine function, returns.

        The key of a call is made of `name` (the function's own if None) and the arguments; ``function.__cache_key__`` returns it.
        `ignore` names arguments, by position or keyword, that are no part of it. With ``expire=0`` nothing is stored. Arguments of
        ordinary types give the same key everywhere; for others `key` is called with the arguments and returns what stands for them.

        >>> cache = Cache()
        >>> @cache.memoize(expire=60, tag='fib')
        ... def fibonacci(number):
        ...     return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)
        >>> fibonacci(100)
        354224848179261915075
        >>> cache[fibonacci.__cache_key__(100)]
        354224848179261915075
        """
        return memoizer(Results(self, expire, tag), name, typed, ignore, key)

    def expire(self, now: float | None = None, retry: bool = False) -> int:
        """Remove what has expired (at `now` if given) and return how many items.

        >>> cache = Cache()
        >>> cache.set('a', 1, expire=10)
        True
        >>> import time
        >>> cache.expire(time.time() + 11)
        1
        """
        with self._transact(retry, is_sweep=True):
            return _counted(self._expire, now or time.time(), retry)

    def evict(self, tag: Any, retry: bool = False) -> int:
        """Remove what is tagged with `tag` and return how many items.

        >>> cache = Cache()
        >>> cache.set('a', 1, tag='numbers')
        True
        >>> cache.evict('numbers')
        1
        """
        with self._transact(retry, is_sweep=True):
            return _counted(self._evict, tag, retry)

    def cull(self, retry: bool = False) -> int:
        """Remove expired items, then items by the eviction policy until `size_limit` is kept; return how many.

        >>> Cache().cull()
        0
        """
        with self._transact(retry, is_sweep=True):
            return _counted(self._cull, retry)

    def clear(self, retry: bool = False) -> int:
        """Remove everything and return how many items.

        >>> cache = Cache()
        >>> cache['a'] = 1
        >>> cache.clear()
        1
        """
        with self._transact(retry, is_sweep=True):
            return _counted(self._clear, retry)

    def create_tag_index(self) -> None:
        """Note that tags are looked for; here they have an index always.

        >>> cache = Cache()
        >>> cache.create_tag_index()
        >>> cache.tag_index
        1
        """
        self.reset("tag_index", 1)

    def drop_tag_index(self) -> None:
        """Take back `create_tag_index`.

        >>> cache = Cache(tag_index=True)
        >>> cache.drop_tag_index()
        >>> cache.tag_index
        0
        """
        self.reset("tag_index", 0)

    def stats(self, enable: bool = True, reset: bool = False) -> tuple[int, int]:
        """Return how many lookups were hits and misses since counting was enabled.

        >>> cache = Cache()
        >>> cache.stats(enable=True)
        (0, 0)
        >>> cache.get('a')
        >>> cache.stats()
        (0, 1)
        """
        counts = self._stats(bool(enable), bool(reset))
        self.statistics = enable
        return counts

    def volume(self) -> int:
        """Return how many bytes the cache takes on the drive.

        >>> Cache().volume() < 10_000_000
        True
        """
        return self._volume()

    def check(self, fix: bool = False, retry: bool = False) -> list[warnings.WarningMessage]:
        """Look for damage in the directory and return a warning for each; repair what can be if `fix`.

        >>> Cache().check()
        []
        """
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            for path, what, _ in self._check(fix, retry):
                message = f"{what}: {path}"
                warnings.warn(message, _category(what), stacklevel=2)
            for key, filename in self._own_files():
                path = os.path.join(self._directory, filename)
                if not os.path.exists(path) and key in self:
                    warnings.warn(f"file not found: {path}", stacklevel=2)
                    if fix:
                        self.delete(key, retry)
        return found

    def reset(self, key: str, value: Any = ENOVAL, update: bool = True) -> Any:
        """Change a setting for everybody and return it; without `value`, take over what others changed.

        Without `update`, only this object's attribute changes.

        >>> cache = Cache()
        >>> cache.reset('cull_limit', 0)
        0
        >>> Cache(cache.directory).cull_limit
        0
        """
        if key in METADATA:
            value = self._reset_metadata(key, value)
        elif value is ENOVAL:
            value = self._setting(key)
            if value is None:
                if key not in DEFAULT_SETTINGS:
                    raise ValueError(f"there is no setting {key!r}")
                value = DEFAULT_SETTINGS[key]
        else:
            if key == "eviction_policy":
                EVICTION_POLICY[value]
            if update:
                self._reset(key, value)
            if key.startswith("disk_"):
                setattr(self._disk, key.removeprefix("disk_"), value)
        setattr(self, key, value)
        return value

    def _reset_metadata(self, key: str, value: Any) -> Any:
        if key in ("hits", "misses"):
            if value is not ENOVAL and value != 0:
                raise ValueError("hits and misses can only be reset to 0")
            counts = self._stats(bool(self.statistics), value is not ENOVAL)
            return counts[key == "misses"] if value is ENOVAL else 0
        if value is not ENOVAL:
            raise ValueError(f"{key!r} is counted, not set")
        return self._len() if key == "count" else self._volume()


def _made_directory(directory: str | os.PathLike[str] | None, read_only: bool) -> str:
    if directory is None:
        return tempfile.mkdtemp(prefix="diskcache-")
    path = os.path.expandvars(os.path.expanduser(str(directory)))
    if not read_only and not os.path.isdir(path):
        try:
            os.makedirs(path, 0o755, exist_ok=True)
        except OSError as error:
            message = f'Cache directory "{path}" does not exist and could not be created'
            raise OSError(error.errno, message) from None
    return path


def _is_front(side: str) -> bool:
    if side not in _SIDES:
        raise KeyError(side)
    return side == "front"


def _chosen(item: tuple[Any, float | None, Any] | None, default: Any, expire_time: bool, tag: bool) -> Any:
    pair, expires, tagged = (default, None, None) if item is None else item
    if expire_time and tag:
        return pair, expires, tagged
    if expire_time:
        return pair, expires
    return (pair, tagged) if tag else pair


def _counted(sweep: Callable[_P, int], *args: _P.args, **kwargs: _P.kwargs) -> int:
    """Call `sweep`; after a time-out the first argument of the exception is how many items are known to be removed: none."""
    try:
        return sweep(*args, **kwargs)
    except OutcomeUnknown:
        raise
    except Timeout as error:
        raise type(error)(0, str(error)) from None


def _category(what: str) -> type[Warning]:
    if "unknown file" in what:
        return UnknownFileWarning
    return EmptyDirWarning if "empty director" in what else UserWarning
