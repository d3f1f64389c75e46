"""`Deque`: a deque on disk, shared as a `Cache` is."""

from __future__ import annotations

import contextlib
import functools
import math
import operator
import os
import sys
from collections.abc import (
    Callable,
    Iterable,
    Iterator,
    Sequence,
)
from itertools import islice
from typing import Any, Self, SupportsIndex

from ._cache import Cache
from ._constants import ENOVAL
from ._retry import atomically

# How many values one step of a long change takes along.
_CHUNK = 1024
# How many values are one transaction: few enough that they fit into one, whatever they are.
_STEP = 64


def _compared(self: Deque, that: object, outcome: Callable[[Any, Any], Any]) -> Any:
    """Compare as lists do: the first pair that differs decides, else the lengths."""
    if not isinstance(that, Sequence):
        return NotImplemented
    lengths = len(self), len(that)
    if lengths[0] != lengths[1] and outcome in (operator.eq, operator.ne):
        return outcome is operator.ne
    for mine, other in zip(self, that, strict=False):
        if mine != other:
            return outcome(mine, other)
    return outcome(*lengths)


class Deque(Sequence[Any]):
    """A deque on disk: any process may append to and take from both ends.

    >>> deque = Deque('abc')
    >>> deque.append('d')
    >>> deque.popleft()
    'a'
    >>> list(deque)
    ['b', 'c', 'd']

    Args:
        iterable: values to append.
        directory: where it lives; a new temporary directory if None.
        maxlen: the most values it keeps: what is too many goes from the other end. None: no limit.

    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, iterable: Iterable[Any] = (), directory: str | os.PathLike[str] | None = None, maxlen: float | None = None) -> None:
        self._cache: Any = Cache(directory, eviction_policy="none")
        self._maxlen = math.inf if maxlen is None else maxlen
        self._extend(iterable)

    @classmethod
    def fromcache(cls, cache: Cache, iterable: Iterable[Any] = (), maxlen: float | None = None) -> Self:
        """Return a deque of what `cache` holds, with `iterable` appended. The cache should evict nothing and have no other keys.

        >>> from diskcache_rs import Cache
        >>> deque = Deque.fromcache(Cache(eviction_policy='none'), 'abc')
        >>> deque[0]
        'a'
        """
        self = cls.__new__(cls)
        self._cache = cache
        self._maxlen = math.inf if maxlen is None else maxlen
        self._extend(iterable)
        return self

    @property
    def cache(self) -> Cache:
        """The cache that holds the values.

        >>> Deque('abc').cache.eviction_policy
        'none'
        """
        cache: Cache = self._cache
        return cache

    @property
    def directory(self) -> str:
        """The directory of the deque.

        >>> deque = Deque('abc')
        >>> list(Deque(directory=deque.directory))
        ['a', 'b', 'c']
        """
        directory: str = self._cache.directory
        return directory

    @property
    def maxlen(self) -> float:
        """The most values that this object lets the deque have. When it is set, what is too many goes from the left.

        >>> deque = Deque('abcde')
        >>> deque.maxlen = 3
        >>> list(deque)
        ['c', 'd', 'e']
        """
        return self._maxlen

    @maxlen.setter
    def maxlen(self, value: float) -> None:
        self._maxlen = value
        self._trim(front=True)

    def _trim(self, front: bool) -> None:
        """Take away what is too many, from one end."""
        side = "front" if front else "back"
        while len(self._cache) > self._maxlen:
            with self._cache.transact(retry=True):
                for _ in range(_STEP):
                    if len(self._cache) <= self._maxlen or self._cache.pull(side=side, retry=True) == (None, None):
                        break

    def _at(self, index: SupportsIndex, call: Callable[[Any], Any]) -> Any:
        """Return `call` of the key at `index`, or of the next one while others take it away."""
        place = operator.index(index)
        length = len(self)
        if not -length <= place < length:
            raise IndexError("deque index out of range")
        if isinstance(self._cache, Cache) and (key := self._cache._queue_key(place)) is not None:
            with contextlib.suppress(KeyError):
                return call(key)
        keys = self._cache.iterkeys(reverse=place < 0)
        for key in islice(keys, place if place >= 0 else -place - 1, None):
            with contextlib.suppress(KeyError):
                return call(key)
        raise IndexError("deque index out of range")

    def __getitem__(self, index: Any) -> Any:
        return self._at(index, self._cache.__getitem__)

    def __setitem__(self, index: SupportsIndex, value: Any) -> None:
        self._at(index, lambda key: self._cache.__setitem__(key, value))

    def __delitem__(self, index: SupportsIndex) -> None:
        self._at(index, self._cache.__delitem__)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(directory={self.directory!r})"

    def __eq__(self, that: object) -> Any:
        return _compared(self, that, operator.eq)

    def __ne__(self, that: object) -> Any:
        return _compared(self, that, operator.ne)

    def __lt__(self, that: Sequence[Any]) -> Any:
        return _compared(self, that, operator.lt)

    def __gt__(self, that: Sequence[Any]) -> Any:
        return _compared(self, that, operator.gt)

    def __le__(self, that: Sequence[Any]) -> Any:
        return _compared(self, that, operator.le)

    def __ge__(self, that: Sequence[Any]) -> Any:
        return _compared(self, that, operator.ge)

    def __iadd__(self, iterable: Iterable[Any]) -> Self:
        self._extend(iterable)
        return self

    def __iter__(self) -> Iterator[Any]:
        return self._values(reverse=False)

    def __reversed__(self) -> Iterator[Any]:
        return self._values(reverse=True)

    def _values(self, reverse: bool) -> Iterator[Any]:
        cache = self._cache
        for key in cache.iterkeys(reverse=True) if reverse else cache.iterkeys():
            try:
                value = cache[key]
            except KeyError:
                continue  # another process has taken it
            yield value

    def __len__(self) -> int:
        return len(self._cache)

    def __getstate__(self) -> tuple[str, float]:
        return self.directory, self.maxlen

    def __setstate__(self, state: tuple[str, float]) -> None:
        directory, maxlen = state
        self.__init__(directory=directory, maxlen=maxlen)  # type: ignore[misc]

    def append(self, value: Any) -> None:
        """Add `value` at the right.

        >>> deque = Deque('ab')
        >>> deque.append('c')
        >>> list(deque)
        ['a', 'b', 'c']
        """
        if self._maxlen == math.inf:
            self._cache.push(value, retry=True)
        else:
            self._cache._append(value, False, max(0, int(self._maxlen)))

    _append = append

    def appendleft(self, value: Any) -> None:
        """Add `value` at the left.

        >>> deque = Deque('ab')
        >>> deque.appendleft('c')
        >>> list(deque)
        ['c', 'a', 'b']
        """
        if self._maxlen == math.inf:
            self._cache.push(value, side="front", retry=True)
        else:
            self._cache._append(value, True, max(0, int(self._maxlen)))

    _appendleft = appendleft

    def extend(self, iterable: Iterable[Any]) -> None:
        """Add values at the right. Many go together into one commit.

        >>> deque = Deque('ab')
        >>> deque.extend('cd')
        >>> list(deque)
        ['a', 'b', 'c', 'd']
        """
        self._push_all(iterable, front=False)

    _extend = extend

    def extendleft(self, iterable: Iterable[Any]) -> None:
        """Add values at the left, one before the other.

        >>> deque = Deque('ab')
        >>> deque.extendleft('cd')
        >>> list(deque)
        ['d', 'c', 'a', 'b']
        """
        self._push_all(iterable, front=True)

    def _push_all(self, iterable: Iterable[Any], front: bool) -> None:
        values = iter(list(iterable) if iterable is self else iterable)
        if self._maxlen != math.inf:
            for value in values:
                self._cache._append(value, front, max(0, int(self._maxlen)))
            return
        while chunk := list(islice(values, _CHUNK)):
            self._cache._push_many(chunk, (None, front), (None, None, True))

    def clear(self) -> None:
        """Remove all values.

        >>> deque = Deque('ab')
        >>> deque.clear()
        >>> len(deque)
        0
        """
        self._cache.clear(retry=True)

    def copy(self) -> Self:
        """Return another object of the same deque.

        >>> deque = Deque('ab')
        >>> deque.copy() == deque
        True
        """
        return type(self)(directory=self.directory, maxlen=self.maxlen)

    def count(self, value: Any) -> int:
        """Return how many values equal `value`.

        >>> Deque('abcabc').count('a')
        2
        """
        return sum(1 for item in self if item == value)

    def peek(self) -> Any:
        """Return the value at the right; raise `IndexError` if there is none.

        >>> Deque('abc').peek()
        'c'
        """
        return self._peeked(front=False)

    def peekleft(self) -> Any:
        """Return the value at the left; raise `IndexError` if there is none.

        >>> Deque('abc').peekleft()
        'a'
        """
        return self._peeked(front=True)

    def _peeked(self, *, front: bool) -> Any:
        value = self._cache._peek_value(front, ENOVAL)
        if value is ENOVAL:
            raise IndexError("peek from an empty deque")
        return value

    def pop(self) -> Any:
        """Take the value at the right; raise `IndexError` if there is none. Of many that pop at once, each gets another.

        >>> Deque('abc').pop()
        'c'
        """
        return self._pulled(front=False)

    def popleft(self) -> Any:
        """Take the value at the left; raise `IndexError` if there is none.

        >>> Deque('abc').popleft()
        'a'
        """
        return self._pulled(front=True)

    def _pulled(self, front: bool) -> Any:
        item = self._cache._pull((None, front), True)
        if item is None:
            raise IndexError("pop from an empty deque")
        return item[0][1]

    def remove(self, value: Any) -> None:
        """Remove the first value that equals `value`; raise `ValueError` if there is none.

        >>> deque = Deque('abca')
        >>> deque.remove('a')
        >>> list(deque)
        ['b', 'c', 'a']
        """
        cache = self._cache
        for key in cache.iterkeys():
            with contextlib.suppress(KeyError):
                if cache[key] == value:
                    del cache[key]
                    return
        raise ValueError("deque.remove(value): value not in deque")

    def reverse(self) -> None:
        """Turn the order around, in place and at once: others see the one order or the other.

        A deque that is too long for one commit (192 MiB of values shorter than 4 KiB) is turned in steps, from its ends inwards.

        >>> deque = Deque('abc')
        >>> deque.reverse()
        >>> list(deque)
        ['c', 'b', 'a']
        """
        cache = self._cache
        keys: list[Any] = []

        def swap(start: int, count: int) -> bool:
            if start == 0:
                keys[:] = cache.iterkeys()
            half = len(keys) // 2
            pairs = [(keys[place], keys[-1 - place]) for place in range(start, min(start + count, half))]
            values = cache.get_many([key for pair in pairs for key in pair], retry=True)
            # What others took away since the first step stays away.
            whole = [(left, right) for left, right in pairs if left in values and right in values]
            cache.set_many([(key, values[other]) for left, right in whole for key, other in ((left, right), (right, left))], retry=True)
            return start + count < half

        self._in_steps(swap)

    def rotate(self, steps: int = 1) -> None:
        """Move `steps` values from the right end to the left (the other way if negative), at once: others see it before or after.

        More than fits into one commit (192 MiB of values shorter than 4 KiB) is moved in steps.

        >>> deque = Deque('abcde')
        >>> deque.rotate(2)
        >>> list(deque)
        ['d', 'e', 'a', 'b', 'c']
        """
        if not isinstance(steps, int):
            raise TypeError(f"integer argument expected, got {type(steps).__name__}")
        cache = self._cache
        turns, to_front = 0, True

        def move(start: int, count: int) -> bool:
            nonlocal turns, to_front
            if start == 0:
                length = len(cache)
                turns = steps % length if length else 0
                # The shorter way round.
                to_front = turns <= length // 2
                turns = min(turns, length - turns)
            keys = list(islice(cache.iterkeys(reverse=to_front), min(count, turns - start)))
            values = cache.get_many(keys, retry=True)
            cache.delete_many(keys, retry=True)
            cache._push_many([values[key] for key in keys if key in values], (None, to_front), (None, None, True))
            return start + count < turns

        self._in_steps(move)

    def _in_steps(self, step: Callable[[int, int], bool]) -> None:
        """Call `step` for all in one transaction; where that is too much for one commit, for halves of it, one after the other.

        It is called with where to begin and how many to take, and returns whether more is left.
        """
        start, count = 0, sys.maxsize
        while True:
            try:
                if not atomically(self._cache, functools.partial(step, start, count)):
                    return
            except ValueError:
                # What was done of it in the caller's own transaction cannot be taken back alone.
                if count == 1 or self._cache._is_in_transaction:
                    raise
                count = max(1, min(count, len(self)) // 2)
            else:
                start += count

    @contextlib.contextmanager
    def transact(self) -> Iterator[None]:
        """Make everything in the `with` block happen at once, or not at all if it raises.

        >>> deque = Deque([1, 2])
        >>> with deque.transact():
        ...     deque.append(deque.popleft() + deque.popleft())
        >>> list(deque)
        [3]
        """
        with self._cache.transact(retry=True):
            yield
