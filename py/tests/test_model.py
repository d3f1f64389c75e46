"""Any sequence of operations has the answers of python-diskcache itself, run side by side."""

from __future__ import annotations

import shutil
import tempfile
import time
from typing import Any

import diskcache
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from diskcache_rs import Cache

KEYS = st.one_of(
    st.sampled_from(["a", "b", "\u00e9", "1", ""]),
    st.sampled_from([b"a", b"b", b""]),
    st.sampled_from([0, 1, -1, 2**63 - 1, -(2**63), 2**63, 500000000000000, 500000000000001]),
    st.sampled_from([0.0, 1.0, -1.5, 1e300]),
    st.sampled_from([True, None, (1, "a"), ("a", None)]),
)
NUMBERS = st.one_of(st.integers(-5, 5), st.sampled_from([0.5, -2.25, 2**62, -(2**62)]))
VALUES = st.one_of(
    NUMBERS,
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.binary(max_size=20),
    st.sampled_from([None, True, False, [1, {"a": b"b"}], 2**70, "x" * 40_000, b"y" * 300_000]),
)
TAGS = st.sampled_from([None, None, "t", "u", b"t", 1, 1.0, 2.5])
# Far enough in the past or in the future that the time the test takes makes no difference.
EXPIRES = st.sampled_from([None, None, None, 1000, -1, 0])
SIDES = st.sampled_from(["front", "back"])
PREFIXES = st.sampled_from([None, "q", "r-1"])


def outcome(call: Any) -> Any:
    """Return what a call returned or the kind of what it raised."""
    try:
        return "returned", call()
    except (KeyError, TypeError, OverflowError) as error:
        return "raised", type(error).__name__


def plain(answer: Any, times: list[float]) -> Any:
    """Return an answer in which types are named, so that numbers are told from truth values; times are taken out into `times`."""
    if isinstance(answer, tuple):
        return tuple(plain(part, times) for part in answer)
    if isinstance(answer, float) and abs(answer - time.time()) < 5000:
        times.append(answer)
        return "time"
    return type(answer).__name__, answer


def assert_same(ours: Any, theirs: Any, what: str) -> None:
    """Fail unless both answers are equal, but for times that were asked for one after the other."""
    our_times: list[float] = []
    their_times: list[float] = []
    assert plain(ours, our_times) == plain(theirs, their_times), what
    assert all(abs(our - their) < 100 for our, their in zip(our_times, their_times, strict=True)), what


class SideBySide(RuleBasedStateMachine):
    """Runs each operation on both."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp(prefix="side-by-side-")
        self.ours = Cache(self.folder + "/ours", cull_limit=0)
        self.theirs = diskcache.Cache(self.folder + "/theirs", cull_limit=0)

    def teardown(self) -> None:
        self.ours.close()
        self.theirs.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def both(self, name: str, *args: Any, **kwargs: Any) -> None:
        ours = outcome(lambda: getattr(self.ours, name)(*args, **kwargs))
        theirs = outcome(lambda: getattr(self.theirs, name)(*args, **kwargs))
        assert_same(ours, theirs, f"{name}{args}{kwargs}")

    @rule(key=KEYS, value=VALUES, expire=EXPIRES, tag=TAGS)
    def set(self, key: Any, value: Any, expire: Any, tag: Any) -> None:
        self.both("set", key, value, expire=expire, tag=tag)

    @rule(key=KEYS, value=VALUES)
    def setitem(self, key: Any, value: Any) -> None:
        self.both("__setitem__", key, value)

    @rule(key=KEYS, value=VALUES, expire=EXPIRES, tag=TAGS)
    def add(self, key: Any, value: Any, expire: Any, tag: Any) -> None:
        self.both("add", key, value, expire=expire, tag=tag)

    # A sum beyond 64 bits of a missing key is refused here, and pickled by python-diskcache: such defaults are not tried.
    @rule(key=KEYS, delta=NUMBERS, default=st.sampled_from([None, 0, 3, -1.5]))
    def incr(self, key: Any, delta: Any, default: Any) -> None:
        self.both("incr", key, delta, default)

    @rule(key=KEYS, delta=NUMBERS)
    def decr(self, key: Any, delta: Any) -> None:
        self.both("decr", key, delta)

    @rule(key=KEYS, expire=EXPIRES)
    def touch(self, key: Any, expire: Any) -> None:
        self.both("touch", key, expire)

    @rule(key=KEYS, expire_time=st.booleans(), tag=st.booleans())
    def get(self, key: Any, expire_time: bool, tag: bool) -> None:
        self.both("get", key, "default", expire_time=expire_time, tag=tag)
        self.both("__getitem__", key)
        self.both("__contains__", key)

    @rule(key=KEYS, expire_time=st.booleans(), tag=st.booleans())
    def pop(self, key: Any, expire_time: bool, tag: bool) -> None:
        self.both("pop", key, "default", expire_time=expire_time, tag=tag)

    @rule(key=KEYS)
    def delete(self, key: Any) -> None:
        self.both("delete", key)

    @rule(key=KEYS)
    def delitem(self, key: Any) -> None:
        ours = outcome(lambda: self.ours.__delitem__(key))
        theirs = outcome(lambda: self.theirs.__delitem__(key))
        assert ours[0] == theirs[0]

    @rule(value=VALUES, prefix=PREFIXES, side=SIDES, expire=EXPIRES, tag=TAGS)
    def push(self, value: Any, prefix: Any, side: str, expire: Any, tag: Any) -> None:
        if prefix is None:
            # Next to a float or to 0 python-diskcache makes a float of the key, or fails.
            self.both("peek", side=side)
            edge = self.theirs.peek(side=side)[0]
            if isinstance(edge, float) or (edge is not None and edge < 100):
                return
        self.both("push", value, prefix=prefix, side=side, expire=expire, tag=tag)

    @rule(prefix=PREFIXES, side=SIDES, expire_time=st.booleans(), tag=st.booleans())
    def pull(self, prefix: Any, side: str, expire_time: bool, tag: bool) -> None:
        self.both("pull", prefix=prefix, side=side, expire_time=expire_time, tag=tag)

    @rule(prefix=PREFIXES, side=SIDES)
    def peek(self, prefix: Any, side: str) -> None:
        self.both("peek", prefix=prefix, side=side)

    @rule(last=st.booleans(), tag=st.booleans())
    def peekitem(self, last: bool, tag: bool) -> None:
        self.both("peekitem", last=last, tag=tag)

    @rule(tag=TAGS)
    def evict(self, tag: Any) -> None:
        self.both("evict", tag)

    @rule(ahead=st.sampled_from([0, 2000]))
    def expire(self, ahead: float) -> None:
        self.both("expire", time.time() + ahead)

    @rule()
    def clear(self) -> None:
        self.both("clear")

    @rule(key=KEYS, value=VALUES, fails=st.booleans())
    def transact(self, key: Any, value: Any, fails: bool) -> None:
        before = self.theirs.get(key)
        if fails and isinstance(before, (str, bytes)) and len(before) >= 2**15:
            # python-diskcache removes the file of a value that is overwritten although the transaction is taken back.
            return
        for cache in (self.ours, self.theirs):
            try:
                with cache.transact():
                    cache.set(key, value)
                    cache.incr("counted", default=0) if key != "counted" else None
                    if fails:
                        raise ZeroDivisionError
            except ZeroDivisionError:
                pass
        self.both("get", key)

    @rule()
    def reopen(self) -> None:
        self.ours.close()
        self.theirs.close()

    @invariant()
    def same_length(self) -> None:
        assert len(self.ours) == len(self.theirs)

    @rule()
    def same_keys(self) -> None:
        assert_same(tuple(self.ours), tuple(self.theirs), "iter")
        assert_same(tuple(reversed(self.ours)), tuple(reversed(self.theirs)), "reversed")
        assert_same(tuple(self.ours.iterkeys()), tuple(self.theirs.iterkeys()), "iterkeys")
        assert_same(tuple(self.ours.iterkeys(reverse=True)), tuple(self.theirs.iterkeys(reverse=True)), "iterkeys backwards")


SideBySide.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
TestSideBySide = pytest.mark.filterwarnings("ignore")(SideBySide.TestCase)
