"""What is stored comes back: every type of key and value, small and large, inline, in the log and in files."""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from diskcache_rs import Cache

VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -(2**63),
    2**63 - 1,
    2**63,
    2**512,
    0.0,
    -0.0,
    56.78,
    math.inf,
    "",
    "hello",
    "h\u00e9llo \U0001f600",
    "x" * 100_000,
    "\u00e9" * 2_000_000,
    b"",
    b"world",
    bytes(range(256)) * 1_000,
    b"world" * 2**20,
    bytearray(b"ab"),
    (None,) * 1_000,
    {"a": [1, (2, 3)], b"b": {4}},
    ["x" * 3_000_000],
]
KEYS = [
    0,
    -1,
    2**63 - 1,
    2**63,
    1.5,
    math.inf,
    "",
    "text",
    "\u00e9",
    b"",
    b"text",
    None,
    True,
    (1, "a"),
    ("a", (b"b", None)),
    frozenset([1]),
]


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_every_value_comes_back_equal_and_of_its_type(make: Callable[..., Cache], compression: str | None) -> None:
    cache = make(compression=compression)
    for number, value in enumerate(VALUES):
        assert cache.set(number, value) is True
    cache.close()
    for number, value in enumerate(VALUES):
        found = cache[number]
        assert type(found) is type(value)
        assert found == value
        assert math.copysign(1, found) == math.copysign(1, value) if isinstance(value, float) else True
    assert len(cache) == len(VALUES)
    for number, value in enumerate(VALUES):
        assert cache.pop(number) == value
    assert len(cache) == 0


def test_every_key_comes_back_equal_and_of_its_type(cache: Cache) -> None:
    for number, key in enumerate(KEYS):
        cache[key] = number
    assert len(cache) == len(KEYS)
    cache.close()
    for number, (found, key) in enumerate(zip(cache, KEYS, strict=True)):
        assert (type(found), found) == (type(key), key)
        assert cache[key] == number
    for key in KEYS:
        del cache[key]
        assert key not in cache
    assert len(cache) == 0


def test_equal_numbers_are_one_key_and_other_types_are_others(cache: Cache) -> None:
    cache[1] = "number"
    assert cache[1.0] == "number"
    for other in ("1", b"1", True, (1,)):
        assert other not in cache
    cache["a"] = "text"
    assert b"a" not in cache
    cache[0.0] = "zero"
    assert cache[-0.0] == "zero"


def test_a_key_given_again_keeps_its_place_and_its_first_form(cache: Cache) -> None:
    cache[1] = "int"
    cache["later"] = None
    cache[1.0] = "float"
    assert [(type(key), key) for key in cache] == [(int, 1), (str, "later")]


def test_text_that_is_no_unicode_is_refused_and_nothing_is_stored(cache: Cache) -> None:
    with pytest.raises(UnicodeEncodeError):
        cache["\ud800"] = 1
    with pytest.raises(UnicodeEncodeError):
        cache["a"] = "\ud800"
    assert len(cache) == 0


def test_an_object_that_cannot_be_pickled_is_refused_and_nothing_is_stored(cache: Cache) -> None:
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError), match=r"pickle|local object"):
        cache["a"] = lambda: None
    assert len(cache) == 0


@pytest.mark.parametrize("size", [0, 5, 70_000, 3_000_000])
def test_bytes_are_read_as_a_file_from_any_place(cache: Cache, size: int) -> None:
    value = (bytes(range(251)) * (size // 251 + 1))[:size]
    cache["a"] = value
    with cache.read("a") as file:
        assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)
        assert file.read() == value
        assert file.read() == b""
        assert file.seek(size // 2) == size // 2
        assert file.tell() == size // 2
        assert file.read(10) == value[size // 2 :][:10]
        assert file.seek(0, io.SEEK_END) == size
        assert file.seek(-min(size, 3), io.SEEK_END) == size - min(size, 3)
        assert file.read() == value[size - min(size, 3) :]
        assert file.name is not None
    with pytest.raises(ValueError, match="closed"):
        file.read()


def test_reading_as_a_file_leaves_other_types_as_they_are(cache: Cache) -> None:
    for value in (1, 1.5, "text", None, [1]):
        cache["a"] = value
        assert cache.get("a", read=True) == value
    with pytest.raises(KeyError):
        cache.read("missing")
    assert cache.get("missing", "default", read=True) == "default"


class Trickle:
    """A file that yields little at a time."""

    def __init__(self, parts: list[Any]) -> None:
        self.parts = parts

    def read(self, size: int = -1) -> Any:
        assert size > 0
        part = self.parts.pop(0) if self.parts else b""
        if isinstance(part, Exception):
            raise part
        return part


@pytest.mark.parametrize("store", ["set", "add", "push"])
def test_what_a_file_yields_is_stored(cache: Cache, store: str) -> None:
    whole = b"".join(bytes([number]) * 50_000 for number in range(100))

    def stored(file: Any) -> Any:
        if store == "push":
            return cache[cache.push(file, read=True)]
        assert getattr(cache, store)("a", file, read=True)
        return cache.pop("a")

    assert stored(io.BytesIO(whole)) == whole
    assert stored(io.BytesIO(b"")) == b""
    assert stored(Trickle([whole[:1], whole[1:70_000], whole[70_000:]])) == whole


@pytest.mark.parametrize("store", ["set", "add", "push"])
def test_a_file_that_fails_raises_its_own_exception_and_nothing_is_stored(cache: Cache, store: str) -> None:
    def attempt(file: Any) -> None:
        cache.push(file, read=True) if store == "push" else getattr(cache, store)("a", file, read=True)

    with pytest.raises(ZeroDivisionError, match="mine"):
        attempt(Trickle([b"some", ZeroDivisionError("mine")]))
    with pytest.raises(TypeError, match="binary"):
        attempt(Trickle(["text"]))
    with pytest.raises(AttributeError, match="read"):
        attempt(object())
    assert len(cache) == 0


def test_a_file_that_fails_leaves_the_value_before(cache: Cache) -> None:
    cache["a"] = b"before"
    with pytest.raises(ZeroDivisionError):
        cache.set("a", Trickle([b"x" * 1_000_000, ZeroDivisionError()]), read=True)
    assert cache["a"] == b"before"


@pytest.mark.parametrize("tag", [None, "text", b"bytes", 5, -1.5, True])
def test_tags_come_back(cache: Cache, tag: Any) -> None:
    cache.set("a", 1, tag=tag)
    assert cache.get("a", tag=True) == (1, tag)
    assert cache.get("a", expire_time=True, tag=True) == (1, None, tag)


def test_a_tag_of_another_type_is_refused(cache: Cache) -> None:
    with pytest.raises(TypeError, match="tag must be"):
        cache.set("a", 1, tag=("tuple",))
    assert len(cache) == 0


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
@pytest.mark.parametrize("profile", ["local", "shared"])
def test_a_value_is_a_file_that_can_be_sought_whatever_its_place_and_codec(
    make: Callable[..., Cache], profile: str, compression: str | None
) -> None:
    cache = make(profile=profile, compression=compression)
    for size in (0, 1, 5_000, 300_000, 5_000_000):
        data = (b"0123456789" * (size // 10 + 1))[:size]
        assert cache.set(("set", size), data)
        assert cache.set(("streamed", size), io.BytesIO(data), read=True)
        for key in (("set", size), ("streamed", size)):
            with cache.read(key) as file:
                assert isinstance(file, io.BufferedIOBase)
                assert file.readable()
                assert file.seekable()
                assert file.seek(0, io.SEEK_END) == size
                assert file.seek(size // 2) == file.tell() == size // 2
                assert file.read() == data[size // 2 :]
                file.seek(-min(size, 3), io.SEEK_END)
                assert file.read() == data[size - min(size, 3) :]
                file.seek(0)
                assert file.readline() == data
            with pytest.raises(ValueError, match="closed"):
                file.read()
