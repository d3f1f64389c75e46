"""`Deque` and `Index` do what `collections.deque` and an ordered dictionary do, for any number of processes."""

from __future__ import annotations

import collections
import itertools
import os
import pickle
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diskcache_rs import Cache, Deque, Index

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


def changes(rng: random.Random) -> list[Callable[[Any], Any]]:
    """Return changes of a deque, and looks at it."""
    value, steps, index = rng.randrange(100), rng.randrange(-8, 9), rng.randrange(-12, 12)
    return [
        lambda d: d.append(value),
        lambda d: d.appendleft(value),
        lambda d: d.extend([value, value + 1, "text"]),
        lambda d: d.extendleft([value, b"bytes"]),
        lambda d: d.pop(),
        lambda d: d.popleft(),
        lambda d: d.rotate(steps),
        lambda d: d.reverse(),
        lambda d: d[index],
        lambda d: d.__setitem__(index, value),
        lambda d: d.__delitem__(index),
        lambda d: d.remove(value),
        lambda d: d.count(value),
        lambda d: value in d,
    ]


@pytest.mark.parametrize("maxlen", [None, 0, 5])
@pytest.mark.parametrize("seed", range(4))
def test_a_deque_does_what_that_of_collections_does(tmp_path: Path, seed: int, maxlen: int | None) -> None:
    rng = random.Random(seed)
    mine, theirs = Deque(directory=tmp_path, maxlen=maxlen), collections.deque(maxlen=maxlen)  # type: ignore[var-annotated]
    for _ in range(300):
        change = rng.choice(changes(rng))
        outcomes = []
        for deque in (mine, theirs):
            try:
                outcomes.append(("returned", change(deque)))
            except (IndexError, ValueError) as error:
                outcomes.append((type(error).__name__, None))
        assert outcomes[0] == outcomes[1], f"seed {seed}"
        assert list(mine) == list(theirs), f"seed {seed}"
    assert list(reversed(mine)) == list(theirs)[::-1]
    assert list(Deque(directory=tmp_path)) == list(theirs)


def test_items_are_found_by_place_with_and_without_gaps(tmp_path: Path) -> None:
    deque = Deque(range(100), directory=tmp_path)
    values = list(range(100))
    for remove in (None, 50, 0, -1):
        if remove is not None:
            del deque[remove], values[remove]
        assert [deque[place] for place in range(-len(values), len(values))] == values * 2
        for place in (len(values), -len(values) - 1):
            with pytest.raises(IndexError, match="out of range"):
                deque[place]
    with pytest.raises(TypeError):
        deque["0"]


def test_long_changes_go_in_steps(tmp_path: Path) -> None:
    deque = Deque(([number, "x" * 5000] for number in range(3000)), directory=tmp_path)
    deque.rotate(700)
    assert [value[0] for value in deque] == [*range(2300, 3000), *range(2300)]
    deque.reverse()
    assert [value[0] for value in deque] == [*range(2299, -1, -1), *range(2999, 2299, -1)]
    deque.extend(deque)
    assert len(deque) == 6000
    deque.maxlen = 10
    assert [value[0] for value in deque] == list(range(2309, 2299, -1))


def test_others_see_a_deque_before_or_after_it_is_rotated_or_turned_around(tmp_path: Path) -> None:
    deque = Deque(range(200), directory=tmp_path / "deque")
    pid = os.fork()
    if pid == 0:
        for turn in itertools.count():
            deque.rotate(50 if turn % 3 else -50)
            deque.reverse()
            if (tmp_path / "stop").exists():
                os._exit(0)
    looks: set[tuple[int, ...]] = set()
    until = time.monotonic() + 60
    # There are eight: two directions, four places to cut.
    while len(looks) < 4 and time.monotonic() < until:
        with deque.transact():
            looks.add(tuple(deque))
    (tmp_path / "stop").touch()
    assert os.waitpid(pid, 0) == (pid, 0)
    assert len(looks) >= 4
    for look in looks:
        # A circle of numbers that goes up by one each, or down, cut at a multiple of 50.
        distances = {(value - before) % 200 for before, value in zip(look, [*look[1:], look[0]], strict=True)}
        assert sorted(look) == list(range(200))
        assert (distances, look[0] % 50) in (({1}, 0), ({199}, 49))


def test_a_long_change_happens_at_once_and_one_too_long_for_a_commit_in_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deque = Deque(([number, "x" * 20_000] for number in range(2000)), directory=tmp_path)
    deque.reverse()
    assert [value[0] for value in deque] == list(reversed(range(2000)))
    cache = type(deque._cache)
    store = cache.set_many

    def store_few(self: Any, items: Any, **options: Any) -> int:
        if len(items) > 300:
            raise ValueError("a batch takes at most 300")
        return store(self, items, **options)

    monkeypatch.setattr(cache, "set_many", store_few)
    with pytest.raises(ValueError, match="at most 300"), deque.transact():
        deque.append("more")
        deque.reverse()
    assert [value[0] for value in deque] == list(reversed(range(2000)))
    deque.reverse()
    assert [value[0] for value in deque] == list(range(2000))
    deque.rotate(-900)
    assert [value[0] for value in deque] == [*range(900, 2000), *range(900)]


def test_a_deque_compares_pickles_and_copies() -> None:
    deque = Deque([1, 2], maxlen=3)
    assert deque == [1, 2]
    assert deque != [1, 3]
    assert deque < [1, 2, 0]
    assert deque >= (1, 1, 1)
    assert deque != {1, 2}
    assert repr(deque) == f"Deque(directory={deque.directory!r})"
    for other in (pickle.loads(pickle.dumps(deque)), deque.copy()):
        other.append(0)
        assert other.maxlen == 3
    assert deque == [2, 0, 0]
    with pytest.raises(TypeError):
        hash(deque)
    with pytest.raises(IndexError, match="pop from an empty deque"):
        Deque().pop()
    with pytest.raises(IndexError, match="peek from an empty deque"):
        Deque().peekleft()


def test_of_many_processes_that_append_to_a_bounded_deque_none_loses_more_than_it_must(tmp_path: Path) -> None:
    deque = Deque(directory=tmp_path, maxlen=50)
    children = []
    for child in range(4):
        pid = os.fork()
        if pid == 0:
            for number in range(100):
                deque.append((child, number))
                if len(deque) > 50:
                    os._exit(1)
            os._exit(0)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 4
    assert len(deque) == 50
    for child in range(4):
        numbers = [number for who, number in deque if who == child]
        assert numbers == list(range(100 - len(numbers), 100))


def test_an_index_is_an_ordered_dictionary(tmp_path: Path) -> None:
    index = Index(str(tmp_path), [("b", 1), ("a", 2)], c=3)
    assert list(index.items()) == [("b", 1), ("a", 2), ("c", 3)]
    assert (list(index.keys()), list(index.values()), list(reversed(index))) == (["b", "a", "c"], [1, 2, 3], ["c", "a", "b"])
    index["b"] = 4
    assert list(index) == ["b", "a", "c"]
    assert (index.pop("a"), index.pop("a", None), index.get("a", 0)) == (2, None, 0)
    for call in (lambda: index["a"], lambda: index.pop("a"), lambda: index.__delitem__("a")):
        with pytest.raises(KeyError, match="a"):
            call()
    assert (index.popitem(last=False), index.popitem()) == (("b", 4), ("c", 3))
    for call in (index.popitem, index.peekitem):
        with pytest.raises(KeyError, match="dictionary is empty"):
            call()
    assert index.setdefault("d", []) == []
    index.update({number: number for number in range(5000)})
    assert len(Index(tmp_path)) == 5001
    assert index.push("job", "q") == "q-500000000000000"
    assert index.pull("q") == ("q-500000000000000", "job")
    assert repr(index) == f"Index({str(tmp_path)!r})"


def test_an_index_compares_with_order_where_there_is_one() -> None:
    index = Index([("a", 1), ("b", 2)])
    assert index == {"b": 2, "a": 1}
    assert index == Index([("a", 1), ("b", 2)])
    assert index != Index([("b", 2), ("a", 1)])
    assert index != collections.OrderedDict([("b", 2), ("a", 1)])
    assert index != {"a": 1, "b": 3}
    assert index != {"a": 1}
    assert index != [("a", 1), ("b", 2)]
    assert pickle.loads(pickle.dumps(index)) == index
    with pytest.raises(TypeError):
        hash(index)
    with pytest.raises(TypeError, match="at most 1"):
        index.update({}, {})


def test_each_item_of_an_index_is_popped_by_one_process(tmp_path: Path) -> None:
    index, taken = Index(tmp_path / "index", {number: number for number in range(400)}), Cache(tmp_path / "taken")
    children = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            while True:
                try:
                    key, _ = index.popitem(last=False)
                except KeyError:
                    os._exit(0)
                taken.incr(key)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 4
    assert taken.get_many(range(400)) == dict.fromkeys(range(400), 1)


def test_changes_are_taken_back_whole() -> None:
    deque, index = Deque([1, 2]), Index(a=1)
    with pytest.raises(RuntimeError), deque.transact(), index.transact():
        deque.append(deque.popleft())
        deque.rotate(1)
        index.popitem()
        index["b"] = 2
        raise RuntimeError
    assert list(deque) == [1, 2]
    assert dict(index) == {"a": 1}


def test_a_function_is_memoized_in_an_index_under_a_key_of_ones_own() -> None:
    index = Index()
    calls = []

    @index.memoize(key=lambda request: request["id"])
    def answer(request: dict[str, Any]) -> int:
        calls.append(request)
        return len(calls)

    assert (answer({"id": 1, "at": object()}), answer({"id": 1}), answer({"id": 2})) == (1, 1, 2)
    assert index[answer.__cache_key__({"id": 1})] == 1  # type: ignore[attr-defined]


def test_they_are_made_of_a_cache_that_is_there(cache: Cache) -> None:
    deque = Deque.fromcache(cache, "abc", maxlen=2)
    assert (list(deque), deque.cache is cache, deque.maxlen) == (["b", "c"], True, 2)
    index = Index.fromcache(cache, x=1)
    assert (index["x"], index.cache is cache, index.directory) == (1, True, cache.directory)
