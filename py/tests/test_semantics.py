"""The verbs of `Cache` mean what they mean in python-diskcache."""

from __future__ import annotations

import inspect
import pickle
import time
from collections.abc import Callable
from typing import Any

import diskcache
import pytest

import diskcache_rs
from diskcache_rs import ENOVAL, EVICTION_POLICY, Cache, Timeout, core

OURS_ALONE = {("memoize", "key", inspect.Parameter.KEYWORD_ONLY)}


def test_every_method_has_the_parameters_of_python_diskcache() -> None:
    for name, theirs in inspect.getmembers(diskcache.Cache, inspect.isfunction):
        if name.startswith("_"):
            continue
        ours = inspect.signature(getattr(Cache, name))
        expected = [(p.name, p.default) for p in inspect.signature(theirs).parameters.values()]
        # What is ours alone comes last, by keyword only.
        found = [(p.name, p.default) for p in ours.parameters.values() if (name, p.name, p.kind) not in OURS_ALONE]
        assert [(n, None if repr(d) == "ENOVAL" else d) for n, d in found] == [
            (n, None if repr(d) == "ENOVAL" else d) for n, d in expected
        ], name


def test_every_name_is_there_under_the_module_paths_that_programs_import() -> None:
    for name in ("Cache", "Disk", "JSONDisk", "Timeout", "ENOVAL", "UNKNOWN", "EVICTION_POLICY", "DEFAULT_SETTINGS"):
        assert getattr(diskcache_rs, name) is getattr(core, name)
    for name in ("MODE_NONE", "MODE_RAW", "MODE_BINARY", "MODE_TEXT", "MODE_PICKLE"):
        assert getattr(core, name) == getattr(diskcache.core, name)
    assert set(diskcache.DEFAULT_SETTINGS) == set(core.DEFAULT_SETTINGS)
    assert set(diskcache.EVICTION_POLICY) <= set(EVICTION_POLICY)
    assert repr(ENOVAL) == "ENOVAL"
    assert pickle.loads(pickle.dumps(ENOVAL)) == ENOVAL


def test_settings_are_attributes_persisted_and_shared(make: Callable[..., Cache]) -> None:
    cache = make(size_limit=12345, disk_pickle_protocol=3, mine="my own")
    for name, value in core.DEFAULT_SETTINGS.items():
        expected = {"size_limit": 12345, "disk_pickle_protocol": 3}.get(name, value)
        assert getattr(cache, name) == expected
    assert cache.disk.pickle_protocol == 3
    other = make()
    assert (other.size_limit, other.disk.pickle_protocol, other.mine) == (12345, 3, "my own")  # type: ignore[attr-defined]
    assert cache.reset("size_limit", 54321) == 54321
    assert other.size_limit == 12345
    assert other.reset("size_limit") == 54321
    assert other.size_limit == 54321
    assert other.reset("cull_limit", 3, update=False) == 3
    assert cache.reset("cull_limit") == 10
    assert cache.reset("disk_pickle_protocol", 2) == 2
    assert cache.disk.pickle_protocol == 2
    with pytest.raises(ValueError, match="no setting"):
        cache.reset("no such setting")
    with pytest.raises(KeyError):
        cache.reset("eviction_policy", "no such policy")
    with pytest.raises(KeyError):
        make(eviction_policy="no such policy")


def test_an_open_cache_obeys_the_settings_that_it_is_opened_again_with(make: Callable[..., Cache]) -> None:
    cache = make(cull_limit=3)
    make(cull_limit=5)
    cache.close()
    assert cache.reset("cull_limit") == 5


@pytest.mark.parametrize("bad", [{"timeout": -1}, {"timeout": float("nan")}, {"durability": "x"}, {"profile": "x"}])
def test_options_that_make_no_sense_are_refused(make: Callable[..., Cache], bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        make(**bad)


def test_expired_items_are_missing_but_counted_until_they_are_removed(make: Callable[..., Cache]) -> None:
    cache = make(cull_limit=0)
    cache.set("a", 1, expire=0.01, tag="t")
    cache.set("b", 2, expire=60)
    time.sleep(0.02)
    assert cache.get("a", "default") == "default"
    assert cache.get("a", expire_time=True, tag=True) == (None, None, None)
    assert cache.get("a", 5, expire_time=True) == (5, None)
    assert "a" not in cache
    assert cache.pop("a", 7, tag=True) == (7, None)
    assert cache.touch("a", 60) is False
    assert cache.delete("a") is False
    with pytest.raises(KeyError):
        del cache["a"]
    assert len(cache) == 2
    assert list(cache) == ["a", "b"]
    value, expire_time = cache.get("b", expire_time=True)
    assert value == 2
    assert 59 < expire_time - time.time() <= 60
    assert cache.expire() == 1
    assert len(cache) == 1
    assert cache.expire(time.time() + 61) == 1
    assert len(cache) == 0


def test_touch_changes_when_a_key_expires(cache: Cache) -> None:
    cache["a"] = 1
    assert cache.touch("a", expire=60)
    assert cache.get("a", expire_time=True)[1] is not None
    assert cache.touch("a")
    assert cache.get("a", expire_time=True) == (1, None)
    assert cache.touch("a", expire=0)
    assert "a" not in cache


def test_add_stores_only_where_there_is_nothing(cache: Cache) -> None:
    assert cache.add("a", 1, tag="first") is True
    assert cache.add("a", 2) is False
    assert cache.get("a", tag=True) == (1, "first")
    cache.set("a", 1, expire=0.01)
    time.sleep(0.02)
    assert cache.add("a", 3) is True
    assert cache["a"] == 3


def test_incr_counts_from_the_default_and_keeps_expiry_and_tag(cache: Cache) -> None:
    assert cache.incr("a") == 1
    assert cache.incr("a", 5) == 6
    assert cache.decr("a", 2) == 4
    assert cache.incr("b", default=10) == 11
    assert cache.decr("c", 3, 2) == -1
    assert cache.incr("f", 1.5) == 1.5
    assert cache.incr("f", 1) == 2.5
    assert type(cache.incr("a", 0)) is int
    cache.set("t", 1, expire=60, tag="x")
    before = cache.get("t", expire_time=True, tag=True)
    assert cache.incr("t") == 2
    assert cache.get("t", expire_time=True, tag=True) == (2, *before[1:])


def test_incr_of_what_is_no_number_or_too_large_is_refused_and_changes_nothing(cache: Cache) -> None:
    with pytest.raises(KeyError) as missing:
        cache.incr(("the", "key"), default=None)
    assert missing.value.args == (("the", "key"),)
    for value in ("text", b"bytes", [1], None):
        cache["a"] = value
        with pytest.raises(TypeError):
            cache.incr("a")
        assert cache["a"] == value
    cache["a"] = 2**63 - 1
    with pytest.raises(OverflowError):
        cache.incr("a")
    with pytest.raises(OverflowError):
        cache.incr("a", 2**64)
    with pytest.raises(OverflowError):
        cache.decr("a", -(2**63))
    assert cache["a"] == 2**63 - 1
    with pytest.raises(OverflowError):
        cache.incr("missing", 2**62, 2**62)
    assert "missing" not in cache
    with pytest.raises(TypeError, match="count"):
        cache.incr("a", "1")  # type: ignore[arg-type]


def test_a_missing_key_is_named_by_the_error(cache: Cache) -> None:
    for fail in (lambda: cache["a", 1], lambda: cache.__delitem__(("a", 1)), lambda: cache.read(("a", 1))):
        with pytest.raises(KeyError) as error:
            fail()
        assert error.value.args == (("a", 1),)


def test_queues_have_two_ends_names_and_integer_keys(cache: Cache) -> None:
    assert cache.pull() == (None, None)
    assert cache.pull(default="empty") == "empty"
    assert cache.pull(default="empty", expire_time=True, tag=True) == ("empty", None, None)
    assert [cache.push(letter) for letter in "abc"] == [500000000000000 + n for n in range(3)]
    assert cache.push("z", side="front", tag="t", expire=60) == 499999999999999
    assert cache.push("q", prefix="queue") == "queue-500000000000000"
    assert cache.push("r", prefix="queue", side="front") == "queue-499999999999999"
    (key, value), expire_time, tag = cache.peek(expire_time=True, tag=True)
    assert (key, value, tag) == (499999999999999, "z", "t")
    assert 59 < expire_time - time.time() <= 60
    assert cache.pull(tag=True) == ((499999999999999, "z"), "t")
    assert cache.pull(side="back") == (500000000000002, "c")
    assert cache.peek(side="back") == (500000000000001, "b")
    assert cache.pull() == (500000000000000, "a")
    assert cache.pull("queue") == ("queue-499999999999999", "r")
    assert cache.pull("queue") == ("queue-500000000000000", "q")
    assert cache.pull("queue") == (None, None)
    for bad in ("middle", ""):
        with pytest.raises(KeyError):
            cache.push(1, side=bad)


def test_queues_skip_what_has_expired(make: Callable[..., Cache]) -> None:
    cache = make(cull_limit=0)
    for _ in range(3):
        cache.push("old", expire=0.01)
    cache.push("new")
    time.sleep(0.02)
    assert cache.peek() == (500000000000003, "new")
    assert len(cache) == 1
    assert cache.pull() == (500000000000003, "new")
    assert cache.pull() == (None, None)


def test_peekitem_looks_at_either_end_of_the_insertion_order(make: Callable[..., Cache]) -> None:
    cache = make(cull_limit=0)
    with pytest.raises(KeyError, match="empty"):
        cache.peekitem()
    cache.set("a", 1, tag="t")
    cache["b"] = 2
    cache["a"] = 3
    cache.set("c", 4, expire=0.01)
    time.sleep(0.02)
    assert cache.peekitem() == ("b", 2)
    assert cache.peekitem(last=False, tag=True) == (("a", 3), None)
    assert cache.peekitem(last=False, expire_time=True, tag=True) == (("a", 3), None, None)
    assert len(cache) == 2


def test_iteration_is_in_order_of_insertion_and_of_keys_both_ways(cache: Cache) -> None:
    keys = [*(f"k{n * 7919 % 1000:03}" for n in range(1000)), 5, 1.5, -3, b"b", b"a", ("t", 1)]
    for key in keys:
        cache[key] = None
    assert list(cache) == keys
    assert list(reversed(cache)) == keys[::-1]
    ordered = [-3, 1.5, 5, *sorted(key for key in keys if isinstance(key, str))]
    assert list(cache.iterkeys())[: len(ordered)] == ordered
    assert set(list(cache.iterkeys())[len(ordered) :]) == {b"a", b"b", ("t", 1)}
    assert list(cache.iterkeys(reverse=True)) == list(cache.iterkeys())[::-1]


@pytest.mark.parametrize("count", [0, 6, 1000])
def test_iteration_ends_although_keys_are_added_and_skips_those_removed(cache: Cache, count: int) -> None:
    for number in range(count):
        cache[number] = None
    seen = []
    for number, key in enumerate(cache):
        seen.append(key)
        cache["added", number] = None
        if number > 3 * count:
            pytest.fail("iteration follows what it adds")
    assert seen[:count] == list(range(count))
    assert len(seen) == count
    iterator = iter(cache)
    cache.clear()
    assert len(list(iterator)) <= count


def test_evict_removes_a_tag_and_nothing_else(cache: Cache) -> None:
    for number in range(90):
        cache.set(number, number, tag=("red", "blue", 5)[number % 3])
    cache["untagged"] = 1
    assert cache.evict("red") == 30
    assert cache.evict("5") == 0
    assert cache.evict(5.0) == 30
    assert cache.evict(None) == 0
    assert len(cache) == 31
    assert cache.clear() == 31
    assert cache.clear() == 0


def test_statistics_count_hits_and_misses_only_while_enabled(cache: Cache) -> None:
    cache["a"] = 1
    assert cache["a"] == 1
    assert cache.stats(enable=True) == (0, 0)
    for _ in range(10):
        cache["a"]
    for _ in range(3):
        cache.get("missing")
    assert (cache.reset("hits"), cache.reset("misses")) == (10, 3)
    assert cache.stats(reset=True) == (10, 3)
    assert cache.stats(enable=False) == (0, 0)
    cache["a"]
    assert cache.stats() == (0, 0)


def test_counts_are_settings_that_can_be_read(cache: Cache) -> None:
    cache["a"] = b"x" * 1_000_000
    assert cache.reset("count") == 1
    assert cache.reset("size") >= 1_000_000
    assert cache.volume() >= 1_000_000


@pytest.mark.parametrize("policy", ["least-recently-stored", "least-recently-used", "least-frequently-used"])
def test_the_size_limit_is_kept_by_the_policy(make: Callable[..., Cache], policy: str) -> None:
    cache = make(eviction_policy=policy, size_limit=10_500_000, cull_limit=5)
    million = b"x" * 1_000_000
    for number in range(10):
        cache[number] = million
    assert len(cache) == 10
    if policy != "least-recently-stored":
        time.sleep(0.01)
        for number in (0, 1, 7, 8, 9):
            assert cache[number] == million
    cache[10] = million
    assert 5 <= len(cache) <= 10
    kept = set(cache)
    assert 10 in kept
    gone = set(range(10)) - kept
    assert gone <= ({0, 1, 2, 3, 4} if policy == "least-recently-stored" else {2, 3, 4, 5, 6})
    assert gone


def test_cull_keeps_the_limit_and_none_evicts_nothing(make: Callable[..., Cache]) -> None:
    cache = make(cull_limit=0, size_limit=1_000_000)
    for number in range(30):
        cache[number] = b"x" * 300_000
    assert len(cache) == 30
    assert cache.volume() > 1_000_000
    assert cache.cull() > 0
    assert cache.volume() <= 1_000_000
    assert len(cache) < 4
    cache.reset("eviction_policy", "none")
    for number in range(30):
        cache[number] = b"x" * 300_000
    cache.cull()
    assert len(cache) == 30


def test_a_transaction_is_taken_back_whole_if_it_raises(cache: Cache) -> None:
    cache["a"] = 1
    with pytest.raises(ZeroDivisionError), cache.transact():
        cache["a"] = 2
        cache["b"] = 3
        assert cache.incr("c") == 1
        assert cache.pop("a") == 2
        assert "a" not in cache
        raise ZeroDivisionError
    assert cache["a"] == 1
    assert list(cache) == ["a"]
    with cache.transact():
        cache["a"] = 4
        with cache.transact():
            assert cache.incr("a") == 5
        with pytest.raises(ValueError, match="inner"), cache.transact(retry=True):
            cache["d"] = 6
            raise ValueError("inner")
        assert cache["d"] == 6
    assert {key: cache[key] for key in cache} == {"a": 5, "d": 6}


def test_memoize_calls_once_for_the_same_arguments(cache: Cache) -> None:
    calls = []

    @cache.memoize(tag="f")
    def f(*args: Any, **kwargs: Any) -> int:
        """My doc."""
        calls.append((args, kwargs))
        return len(calls)

    assert f(1, 2) == f(1, 2) == 1
    assert f(1, b=2) == f(1, b=2) == 2
    assert f.__doc__ == "My doc."
    assert f.__wrapped__(9) == 3  # type: ignore[attr-defined]
    key = f.__cache_key__(1, 2)  # type: ignore[attr-defined]
    assert cache.get(key, tag=True) == (1, "f")
    assert cache.evict("f") == 2
    assert f(1, 2) == 4
    with pytest.raises(TypeError, match="callable"):
        cache.memoize(f)  # type: ignore[arg-type]


def test_memoize_tells_types_apart_ignores_and_can_store_nothing(cache: Cache) -> None:
    @cache.memoize(typed=True)
    def typed(value: float) -> str:
        return repr(value)

    assert (typed(3), typed(3.0)) == ("3", "3.0")

    @cache.memoize("name", ignore={1, "skip"})
    def ignoring(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    assert ignoring(1, 2, skip=3) == ignoring(1, 4, skip=5) == ((1, 2), {"skip": 3})

    before = len(cache)

    @cache.memoize(expire=0)
    def never() -> None:
        return None

    never()
    assert len(cache) == before


@pytest.mark.parametrize("typed", [False, True])
def test_keys_of_calls_are_those_of_python_diskcache(typed: bool) -> None:
    for args, kwargs, ignore in [
        ((), {}, ()),
        ((1, "a"), {}, ()),
        ((1, 2.0), {"b": 1, "a": None}, {0, "b"}),
        ((), {"x": 1}, {"x"}),
    ]:
        ours = core.args_to_key(("f",), args, kwargs, typed, ignore)  # type: ignore[arg-type]
        assert ours == diskcache.core.args_to_key(("f",), args, kwargs, typed, ignore)


def test_a_cache_pickles_and_the_copy_is_the_same_cache(make: Callable[..., Cache]) -> None:
    class_options = {"timeout": 5, "durability": "host"}
    cache = make(**class_options)
    cache["a"] = 1
    other = pickle.loads(pickle.dumps(cache))
    assert (other["a"], other.directory, other.timeout) == (1, cache.directory, 5)
    assert other._options == {"durability": "host"}
    other["a"] = 2
    assert cache["a"] == 2
    other.close()
    plain = make()
    assert plain.__getstate__() == (plain.directory, 60, core.Disk)


class Sub(Cache):
    """A subclass as users write them."""

    def __init__(self, directory: Any = None, timeout: float = 60, disk: Any = core.Disk, **settings: Any) -> None:
        super().__init__(directory, timeout, disk, **settings)
        self.extra: list[Any] = []

    def get(self, key: Any, *args: Any, **kwargs: Any) -> Any:
        self.extra.append(key)
        return super().get(key, *args, **kwargs)


def test_subclasses_override_add_attributes_and_pickle(tmp_path: Any) -> None:
    with Sub(tmp_path) as cache:
        cache["a"] = 1
        assert cache.get("a") == 1
        assert cache.extra == ["a"]
        with pickle.loads(pickle.dumps(cache)) as other:
            assert type(other) is Sub
            assert other.get("a") == 1
            assert repr(other) == f"Sub({str(tmp_path)!r})"


def test_a_closed_cache_opens_again_by_itself(cache: Cache) -> None:
    cache["a"] = 1
    cache.close()
    cache.close()
    assert cache["a"] == 1
    with cache as same:
        assert same is cache
    assert cache.incr("a") == 2


def test_a_cache_whose_init_was_not_called_says_so() -> None:
    cache = Cache.__new__(Cache)
    with pytest.raises(RuntimeError, match="__init__"):
        cache.get("a")
    cache.close()


def test_a_directory_is_made_expanded_and_accepted_as_a_path(make: Callable[..., Cache], tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SOMEWHERE", "deep/er")
    assert make("~/$SOMEWHERE/cache").directory == str(tmp_path / "deep/er/cache")
    assert make(tmp_path / "p").directory == str(tmp_path / "p")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="could not be created"):
        make(tmp_path / "file" / "cache")


def test_time_outs_of_sweeps_say_that_nothing_was_removed(cache: Cache, monkeypatch: Any) -> None:
    def busy(*_: Any) -> int:
        raise Timeout("busy")

    for name, call in (("_clear", cache.clear), ("_expire", cache.expire), ("_cull", cache.cull)):
        monkeypatch.setattr(cache, name, busy)
        with pytest.raises(Timeout) as error:
            call()
        assert error.value.args[0] == 0


def test_a_fresh_cache_has_no_findings(cache: Cache) -> None:
    cache["a"] = b"x" * 1_000_000
    cache["b"] = 1
    del cache["a"]
    assert cache.check() == []
    assert cache.check(fix=True) == []
    assert cache["b"] == 1
