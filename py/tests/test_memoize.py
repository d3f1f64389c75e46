"""Memoization: one key for equal arguments, in every process and version; coroutine functions; no stampede."""

from __future__ import annotations

import asyncio
import datetime
import enum
import hashlib
import inspect
import os
import pathlib
import pickle
import pickletools
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import diskcache_rs
from diskcache_rs import Cache, memoize_stampede
from diskcache_rs._memoize import args_to_key


class Colour(enum.Enum):
    RED = "red"


def key_of(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
    return args_to_key(("f",), args, kwargs, False, ())


def digest(key: tuple[Any, ...]) -> str:
    """Return a hash of what a cache makes of a key."""
    data = pickletools.optimize(pickle.dumps(key, protocol=5))
    return hashlib.sha256(data).hexdigest()[:16]


def fresh(text: str) -> str:
    """Return an equal text that is another object."""
    return "".join(list(text))


ORDINARY: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}),
    ((None, True, 1, 1.0, 2**70, 1j), {}),
    (("text", b"bytes", "text"), {"text": "text"}),
    ((("a", ("a", "b")), ["a", ["a"]], []), {"x": []}),
    (({"b": 1, "a": [1, 2]},), {"options": {"z": {"y": 1}}}),
    (({"c", "a", "b"}, frozenset({1, "1", 2.5})), {}),
    ((pathlib.PurePosixPath("/a/b"), Colour.RED), {}),
]
# As any version of Python has them: should one of these change, all that is memoized in caches of today is forgotten.
GOLDEN = [
    "280784117f689d31",
    "32902977c12a9ddc",
    "122c104699345a7b",
    "fe21af343f92afbf",
    "e1ef840181596fa0",
    "19529e3f7a21a325",
    "8f600485cc425f6d",
]

PRINT = """
import sys
sys.path[:0] = [{package!r}, {tests!r}]
import test_memoize
print(*[test_memoize.digest(test_memoize.key_of(*args, **kwargs)) for args, kwargs in test_memoize.ORDINARY])
"""


def digests() -> list[str]:
    return [digest(key_of(*args, **kwargs)) for args, kwargs in ORDINARY]


@pytest.mark.parametrize("seed", ["0", "1", "2"])
def test_keys_are_the_same_in_every_process(seed: str) -> None:
    package = str(pathlib.Path(diskcache_rs.__file__).parent.parent)
    code = PRINT.format(package=package, tests=str(pathlib.Path(__file__).parent))
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == digests()


def test_keys_are_what_they_were() -> None:
    assert digests() == GOLDEN


def test_equal_arguments_have_one_key_whatever_objects_they_are() -> None:
    pairs: list[tuple[tuple[Any, ...], tuple[Any, ...]]] = [
        (("abc", "abc"), ("abc", fresh("abc"))),
        ((("abc",), ("abc",)), ((fresh("abc"),), ("abc",))),
        (({"a": 1, "b": 2},), ({"b": 2, "a": 1},)),
        (({"x", "y", "z"},), ({"z", "y", "x"},)),
        ((b"x" * 300, b"x" * 300), (b"x" * 300, bytes(bytearray(b"x" * 300)))),
    ]
    shared: list[str] = []
    pairs.append(((shared, shared), ([], [])))
    for left, right in pairs:
        assert digest(key_of(*left)) == digest(key_of(*right)), left
        assert key_of(*left) == key_of(*right)


def test_different_arguments_have_different_keys() -> None:
    calls: list[Any] = [1, 1.0, True, "1", b"1", None, (1,), [1], {1}, frozenset({1}), {1: 1}, (1.0,), [True], (("a",), ["a"]), Colour.RED]
    keys = {digest(key_of(call)) for call in calls} | {digest(key_of(x=call)) for call in calls} | {digest(key_of((1,), (1.0,)))}
    assert len(keys) == 2 * len(calls) + 1


def test_keys_of_ordinary_calls_are_those_of_python_diskcache() -> None:
    """A migrated cache keeps what was memoized in it."""
    upstream: Any = pytest.importorskip("diskcache.core")
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((1, "a", 2.5, None), {}),
        ((), {"b": [1], "a": ("x", "y")}),
        ((b"x", {"a": 1}), {"c": 1}),
    ]
    for args, kwargs in calls:
        for typed in (False, True):
            theirs = upstream.args_to_key(("f",), args, kwargs, typed, ())
            ours = args_to_key(("f",), args, kwargs, typed, ())
            assert digest(ours) == digest(theirs)


def test_a_memoized_function_is_called_once_for_equal_arguments(cache: Cache) -> None:
    calls: list[Any] = []

    @cache.memoize(tag="memo", ignore={"verbose", 2})
    def work(*args: Any, **kwargs: Any) -> int:
        calls.append((args, kwargs))
        return len(calls)

    assert work("a", {"x", "y"}, 1, verbose=True) == work("a", {"y", "x"}, 2, verbose=False) == 1
    assert work("b") == 2
    assert cache.get(work.__cache_key__("b"), tag=True) == (2, "memo")  # type: ignore[attr-defined]
    assert work.__wrapped__("b") == 3  # type: ignore[attr-defined]


def test_the_maker_of_keys_can_be_replaced_on_the_function_as_in_python_diskcache(cache: Cache) -> None:
    @cache.memoize()
    def plain(text: str) -> str:
        return text

    @memoize_stampede(cache, expire=60)
    def early(text: str) -> str:
        return text

    @cache.memoize()
    async def later(text: str) -> str:
        return text

    for function in (plain, early, later):
        function.__cache_key__ = lambda text, name=function.__name__: (name, text.lower())  # type: ignore[attr-defined]
    assert (plain("A"), plain("a")) == ("A", "A")
    assert (early("A"), early("a")) == ("A", "A")
    assert (asyncio.run(later("A")), asyncio.run(later("a"))) == ("A", "A")
    assert set(cache) == {("plain", "a"), ("early", "a"), ("later", "a")}


def test_a_key_function_stands_for_arguments_of_any_type(cache: Cache) -> None:
    class Connection:
        def __init__(self, name: str) -> None:
            self.name = name

        def __reduce__(self) -> Any:
            raise TypeError("cannot be pickled")

    calls: list[str] = []

    @cache.memoize(key=lambda connection, query: (connection.name, query))
    def ask(connection: Connection, query: str) -> str:
        calls.append(query)
        return query.upper()

    assert [ask(Connection("a"), "q"), ask(Connection("a"), query="q"), ask(Connection("b"), "q")] == ["Q"] * 3
    assert calls == ["q", "q"]

    @memoize_stampede(cache, 60, key=lambda connection: connection.name)
    def stampede(connection: Connection) -> int:
        calls.append("s")
        return 1

    assert stampede(Connection("a")) == stampede(Connection("a")) == 1
    assert calls.count("s") == 1


def test_coroutine_functions_are_memoized(cache: Cache) -> None:
    calls: list[Any] = []

    @cache.memoize(expire=60)
    async def work(number: int) -> int:
        calls.append(number)
        await asyncio.sleep(0)
        return number * 2

    async def use() -> list[int]:
        return [await work(1), await work(1), await work(2)]

    assert inspect.iscoroutinefunction(work)
    assert asyncio.run(use()) == [2, 2, 4]
    assert calls == [1, 2]
    assert cache[work.__cache_key__(1)] == 2  # type: ignore[attr-defined]


def test_nothing_is_stored_with_expire_0(cache: Cache) -> None:
    @cache.memoize(expire=0)
    async def work() -> int:
        return 1

    assert asyncio.run(work()) == 1
    assert len(cache) == 0


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_before_expiry_one_caller_starts_the_computing_and_nobody_waits(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    go = threading.Event()

    @memoize_stampede(cache, 60, tag="memo")
    def work(number: int) -> int:
        calls.append(number)
        if len(calls) > 1:
            assert go.wait(10)
        return len(calls)

    assert work(1) == 1
    key = work.__cache_key__(1)  # type: ignore[attr-defined]
    result, seconds = cache[key]
    assert result == 1
    assert 0 <= seconds < 10
    assert [work(1) for _ in range(20)] == [1] * 20
    assert calls == [1]
    # As if it took long, and chance would have it.
    cache.set(key, (1, 50.0), expire=60, tag="memo")
    monkeypatch.setattr("random.random", lambda: 1e-9)
    assert [work(1) for _ in range(20)] == [1] * 20
    wait_for(lambda: len(calls) == 2)
    go.set()
    wait_for(lambda: cache[key][0] == 2)
    assert cache.get(key, tag=True)[1] == "memo"
    assert calls == [1, 1]


def test_a_coroutine_function_is_computed_early_by_a_task(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    go = asyncio.Event()

    @memoize_stampede(cache, 60)
    async def work(number: int) -> int:
        calls.append(number)
        if len(calls) > 1:
            await go.wait()
        return len(calls)

    async def use() -> list[int]:
        results = [await work(1), await work(1)]
        key = work.__cache_key__(1)  # type: ignore[attr-defined]
        cache.set(key, (1, 50.0), expire=60)
        monkeypatch.setattr("random.random", lambda: 1e-9)
        results += [await work(1) for _ in range(5)]
        go.set()
        while cache[key][0] != 2:
            await asyncio.sleep(0.01)
        return results

    assert asyncio.run(asyncio.wait_for(use(), 20)) == [1] * 7
    assert calls == [1, 1]


def test_dates_are_kept_as_they_are() -> None:
    day = datetime.date(2020, 1, 2)
    assert key_of(day) == ("f", day, None)
