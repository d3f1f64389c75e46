"""Memoization: what a function returned is kept in a cache under a key made of its arguments.

The key of a call is a tuple, as in python-diskcache, but the same for equal arguments in every process and version of Python, if
they are of ordinary types: None, bool, int, float, complex, str, bytes, enums, paths, and tuples, lists, dicts, sets and frozensets
of such. Arguments of other types count by their pickle, which may be different each time; for those, give a ``key``.
"""

from __future__ import annotations

import asyncio
import enum
import functools
import inspect
import math
import pathlib
import pickle
import random
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, ParamSpec, TypeVar, cast

from ._calls import awaited, got
from ._constants import ENOVAL

_P = ParamSpec("_P")
_R = TypeVar("_R")

_NUMBERS = frozenset({type(None), bool, int, float, complex})


def wraps(func: Callable[_P, Any]) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Return `functools.wraps`, typed so that the wrapper keeps its type."""
    return cast("Callable[[Callable[_P, _R]], Callable[_P, _R]]", functools.wraps(func))


def full_name(func: Callable[..., Any]) -> str:
    """Return the module and the qualified name of `func`.

    >>> full_name(full_name)
    'diskcache_rs._memoize.full_name'
    """
    return f"{func.__module__}.{func.__qualname__}"


def args_to_key(
    base: tuple[Any, ...],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    typed: bool,
    ignore: Collection[int | str],
) -> tuple[Any, ...]:
    """Return the key of a call: `base`, the arguments (but those to `ignore`) and, if `typed`, their types.

    >>> args_to_key(('f',), (1, 2), {'b': 3, 'a': 4}, False, {1})
    ('f', 1, None, 'a', 4, 'b', 3)
    """
    kept = tuple(arg for index, arg in enumerate(args) if index not in ignore) if ignore else args
    named = sorted((name, arg) for name, arg in kwargs.items() if name not in ignore)
    key = (*base, *kept, None, *(part for pair in named for part in pair))
    if typed:
        key += (*map(type, kept), *(type(arg) for _, arg in named))
    return canonical(key)


def canonical(key: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return `key` such that equal keys have equal pickles.

    A pickle refers back to an object that it had before, so equal parts become one object. Sets and dicts get an order.

    >>> key = canonical(({'b', 'a'}, {2: 'x', 1: 'y'}))
    >>> key
    (('builtins.set', 'a', 'b'), {1: 'y', 2: 'x'})
    """
    seen: dict[Any, Any] = {}
    return tuple([_canonical(part, seen) for part in key])


def _canonical(value: Any, seen: dict[Any, Any]) -> Any:
    kind = type(value)
    if kind in _NUMBERS:
        return value
    if kind is str or kind is bytes:
        return seen.setdefault((kind, value), value)
    if kind is tuple:
        return _one(tuple([_canonical(part, seen) for part in value]), seen)
    if kind is list:
        return _one([_canonical(part, seen) for part in value], seen)
    if kind is dict:
        pairs = sorted(value.items(), key=lambda pair: _order(pair[0]))
        return _one({_canonical(name, seen): _canonical(part, seen) for name, part in pairs}, seen)
    if kind is set or kind is frozenset:
        return _canonical((f"builtins.{kind.__name__}", *sorted(value, key=_order)), seen)
    if isinstance(value, enum.Enum):
        return _canonical((full_name(kind), value.name), seen)
    if isinstance(value, pathlib.PurePath):
        # The module and the class of a path differ between versions.
        flavour = "Windows" if isinstance(value, pathlib.PureWindowsPath) else "Posix"
        return _canonical((f"pathlib.Pure{flavour}Path", str(value)), seen)
    return value


def _one(value: Any, seen: dict[Any, Any]) -> Any:
    """Return the object that stands for all that are pickled as `value` is; numbers 1, 1.0 and True are equal but not the same."""
    return seen.setdefault(("container", _pickled(value)), value)


def _order(value: Any) -> tuple[str, bytes]:
    return full_name(type(value)), _pickled(_canonical(value, {}))


def _pickled(value: Any) -> Any:
    try:
        return pickle.dumps(value, protocol=5)
    except Exception:
        # The cache will say what is wrong with it.
        return id(value)


def key_maker(
    func: Callable[..., Any],
    name: str | None,
    typed: bool,
    ignore: Collection[int | str],
    key: Callable[..., Any] | None,
) -> Callable[..., tuple[Any, ...]]:
    """Return the function that makes keys of calls."""
    base = (full_name(func) if name is None else name,)

    def cache_key(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
        if key is not None:
            return canonical((*base, key(*args, **kwargs)))
        return args_to_key(base, args, kwargs, typed, ignore)

    return cache_key


class Results:
    """Where results are kept: how functions find and keep one there, and how coroutine functions do."""

    def __init__(self, cache: Any, expire: float | None, tag: Any) -> None:
        self.cache, self.expire, self.tag = cache, expire, tag

    @property
    def keeps(self) -> bool:
        """Whether results are kept at all: not if they would expire at once."""
        return self.expire is None or self.expire > 0

    def find(self, key: Any) -> Any:
        """Return the result that is kept under `key`, or `ENOVAL`."""
        return self.cache.get(key, default=ENOVAL, retry=True)

    def keep(self, key: Any, result: Any) -> None:
        """Keep a result."""
        self.cache.set(key, result, self.expire, tag=self.tag, retry=True)

    async def find_async(self, key: Any) -> Any:
        """As `find`, without blocking the loop."""
        return await got(self.cache, key, ENOVAL)

    async def keep_async(self, key: Any, result: Any) -> None:
        """As `keep`, without blocking the loop."""
        await awaited(self.keep, key, result)


def memoizer(
    results: Results,
    name: str | None,
    typed: bool,
    ignore: Collection[int | str],
    key: Callable[..., Any] | None,
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Return a decorator that keeps what a function, or a coroutine function, returns in `results`."""
    if callable(name):
        raise TypeError("name cannot be callable")

    def decorator(func: Callable[_P, _R]) -> Callable[_P, _R]:
        # The key is asked of the wrapper each time, so that it may be replaced there.
        @functools.wraps(func)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            made = chosen.__cache_key__(*args, **kwargs)
            result = results.find(made)
            if result is ENOVAL:
                result = func(*args, **kwargs)
                if results.keeps:
                    results.keep(made, result)
            return result

        @functools.wraps(func)
        async def async_wrapper(*args: Any, **kwargs: Any) -> Any:
            made = chosen.__cache_key__(*args, **kwargs)
            result = await results.find_async(made)
            if result is ENOVAL:
                result = await cast("Awaitable[Any]", func(*args, **kwargs))
                if results.keeps:
                    await results.keep_async(made, result)
            return result

        chosen: Any = async_wrapper if inspect.iscoroutinefunction(func) else wrapper
        chosen.__cache_key__ = key_maker(func, name, typed, ignore, key)
        return cast("Callable[_P, _R]", chosen)

    return decorator


def memoize_stampede(
    cache: Any,
    expire: float,
    name: str | None = None,
    typed: bool = False,
    tag: Any = None,
    beta: float = 1,
    ignore: Collection[int | str] = (),
    *,
    key: Callable[..., Any] | None = None,
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Return a decorator that memoizes and computes anew before a result expires, so that nobody has to wait at once.

    As a result nears its expiry, each call may start (with growing probability, the sooner the longer the computing takes and the
    greater `beta` is) a thread that computes it anew, and returns what is there meanwhile. The method is that of Vattani, Chierichetti
    and Lowenstein, "Optimal Probabilistic Cache Stampede Prevention" (VLDB 2015). For a coroutine function it is a task.

    >>> from diskcache_rs import Cache
    >>> cache = Cache()
    >>> @memoize_stampede(cache, expire=60)
    ... def fibonacci(number):
    ...     return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)
    >>> fibonacci(100)
    354224848179261915075
    >>> result, seconds = cache[fibonacci.__cache_key__(100)]
    """

    def decorator(func: Callable[_P, _R]) -> Callable[_P, _R]:
        stampede = _Stampede(cache, (expire, tag, beta), lambda *args, **kwargs: chosen.__cache_key__(*args, **kwargs), func)
        chosen: Any
        if inspect.iscoroutinefunction(func):

            @functools.wraps(func)
            async def chosen(*args: Any, **kwargs: Any) -> Any:
                return await stampede.answer_async(args, kwargs)
        else:

            @functools.wraps(func)
            def chosen(*args: Any, **kwargs: Any) -> Any:
                return stampede.answer(args, kwargs)

        chosen.__cache_key__ = key_maker(func, name, typed, ignore, key)
        return cast("Callable[_P, _R]", chosen)

    return decorator


class _Stampede:
    """One function that `memoize_stampede` decorated. What is kept is the result and how many seconds it took."""

    def __init__(self, cache: Any, options: tuple[float, Any, float], cache_key: Callable[..., tuple[Any, ...]], func: Any) -> None:
        self.cache, self.cache_key, self.func = cache, cache_key, func
        self.expire, self.tag, self.beta = options
        # The loop keeps only weak references to its tasks.
        self.tasks: set[asyncio.Task[Any]] = set()

    def answer(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        key = self.cache_key(*args, **kwargs)
        pair, expires = self.cache.get(key, default=ENOVAL, expire_time=True, retry=True)
        if pair is ENOVAL:
            return self.compute(key, args, kwargs)
        result, seconds = pair
        if self.is_early(seconds, expires) and self.cache.add((*key, ENOVAL), None, expire=seconds, retry=True):
            threading.Thread(target=self.compute, args=(key, args, kwargs), daemon=True).start()
        return result

    def compute(self, key: tuple[Any, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        start = time.time()
        result = self.func(*args, **kwargs)
        self.cache.set(key, (result, time.time() - start), expire=self.expire, tag=self.tag, retry=True)
        return result

    async def answer_async(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        key = self.cache_key(*args, **kwargs)
        pair, expires = await awaited(self.cache.get, key, default=ENOVAL, expire_time=True, retry=True)
        if pair is ENOVAL:
            return await self.compute_async(key, args, kwargs)
        result, seconds = pair
        if self.is_early(seconds, expires) and await awaited(self.cache.add, (*key, ENOVAL), None, expire=seconds, retry=True):
            task = asyncio.get_running_loop().create_task(self.compute_async(key, args, kwargs))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        return result

    async def compute_async(self, key: tuple[Any, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        start = time.time()
        result = await self.func(*args, **kwargs)
        await awaited(self.cache.set, key, (result, time.time() - start), expire=self.expire, tag=self.tag, retry=True)
        return result

    def is_early(self, seconds: float, expires: float) -> bool:
        """Return whether this call is to start computing the result anew."""
        return -seconds * self.beta * math.log(random.random() or 1e-300) >= expires - time.time()
