"""Disk classes of users' own: what they override is called with python-diskcache's arguments, the rest is native."""

from __future__ import annotations

import hashlib
import hmac
import io
import os
import pickle
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import diskcache
import pytest

from diskcache_rs import UNKNOWN, Cache, Disk, FanoutCache, JSONDisk, core


class Tracing(Disk):
    """Notes each call."""

    calls: list[tuple[Any, ...]]

    def __init__(self, directory: str, **kwargs: Any) -> None:
        super().__init__(directory, **kwargs)
        self.calls = []

    def put(self, key: Any) -> Any:
        self.calls.append(("put", key))
        return super().put(key)

    def get(self, key: Any, raw: bool) -> Any:
        self.calls.append(("get", key, raw))
        return super().get(key, raw)

    def store(self, value: Any, read: bool, key: Any = UNKNOWN) -> Any:
        self.calls.append(("store", value, read, key))
        return super().store(value, read, key=key)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        self.calls.append(("fetch", mode, filename, value, read))
        return super().fetch(mode, filename, value, read)


def test_a_subclass_sees_the_arguments_of_python_diskcache(make: Callable[..., Cache]) -> None:
    cache = make(disk=Tracing)
    calls = cache.disk.calls  # type: ignore[attr-defined]
    cache.set("key", [1])
    assert calls == [("put", "key"), ("store", [1], False, "key")]
    calls.clear()
    assert cache.get("key") == [1]
    assert calls == [
        ("put", "key"),
        ("fetch", core.MODE_PICKLE, None, pickle.dumps([1], pickle.HIGHEST_PROTOCOL), False),
    ]
    calls.clear()
    assert cache.push(5) == 500000000000000
    assert calls == [("store", 5, False, UNKNOWN)]
    assert list(cache) == ["key", 500000000000000]
    calls.clear()
    assert cache.pull() == (500000000000000, 5)
    assert calls == [("fetch", core.MODE_RAW, None, 5, False)]


@pytest.mark.parametrize("value", [None, True, 5, 1.5, "text", b"bytes", [1], "x" * 500_000, b"y" * 500_000])
def test_values_pass_through_a_subclass_unchanged(make: Callable[..., Cache], value: Any) -> None:
    cache = make(disk=Tracing)
    for key in (value if not isinstance(value, list) else (1, 2), "key", b"key", 7, ("t", 1)):
        cache[key] = value
        assert (type(cache[key]), cache[key]) == (type(value), value)
        assert key in list(cache)
        assert cache.pop(key) == value
    assert cache.add("key", value)
    assert not cache.add("key", None)
    assert cache["key"] == value


def test_streams_pass_through_a_subclass(make: Callable[..., Cache]) -> None:
    cache = make(disk=Tracing)
    cache.set("a", io.BytesIO(b"z" * 500_000), read=True)
    assert cache["a"] == b"z" * 500_000
    with cache.read("a") as file:
        assert file.read() == b"z" * 500_000


def test_json_disk_stores_json(make: Callable[..., Cache]) -> None:
    cache = make(disk=JSONDisk, disk_compress_level=6)
    assert cache.disk.compress_level == 6  # type: ignore[attr-defined]
    values = [None, True, 0, 1.23, {}, {"a": [1]}, [None] * 10000, "text"]
    for value in values:
        cache[value] = value
    assert list(cache) == values
    for value in values:
        assert cache[value] == value
    with pytest.raises(TypeError, match="JSON"):
        cache["a"] = b"bytes"
    assert make(disk=JSONDisk)[{"a": [1]}] == {"a": [1]}


class HashedFiles(Disk):
    """Names its files by the key."""

    def filename(self, key: Any = UNKNOWN, value: Any = UNKNOWN) -> tuple[str, str]:
        name = hashlib.sha256(key).hexdigest()[:32]
        return name, os.path.join(self._directory, name)


def test_a_disk_with_file_names_of_its_own_keeps_large_values_there(make: Callable[..., Cache]) -> None:
    cache = make(disk=HashedFiles, disk_min_file_size=1000)
    for number in range(10):
        key = b"%d" % number
        cache[key] = str(number) * 5000
        path = Path(cache.directory, hashlib.sha256(key).hexdigest()[:32])
        assert path.read_text() == str(number) * 5000
        assert cache[key] == str(number) * 5000
    cache[b"small"] = "s"
    assert cache[b"small"] == "s"
    del cache[b"1"]
    assert cache.pop(b"2") == "2" * 5000
    cache[b"3"] = "short now"
    for number in (1, 2, 3):
        assert not Path(cache.directory, hashlib.sha256(b"%d" % number).hexdigest()[:32]).exists()
    cache.set(b"f", io.BytesIO(b"from a file"), read=True)
    with cache.read(b"f") as file:
        assert file.read() == b"from a file"


def test_a_value_whose_file_is_gone_is_missing(make: Callable[..., Cache]) -> None:
    cache = make(disk=HashedFiles, disk_min_file_size=0)
    cache[b"a"] = b"value"
    Path(cache.directory, hashlib.sha256(b"a").hexdigest()[:32]).unlink()
    assert cache.get(b"a", "default") == "default"
    with pytest.raises(KeyError):
        cache[b"a"]


class OwnFiles(Disk):
    """Values of 100 bytes and more in files of its own, all in one folder."""

    def filename(self, key: Any = UNKNOWN, value: Any = UNKNOWN) -> tuple[str, str]:
        name = os.path.join("own", os.urandom(8).hex())
        return name, os.path.join(self._directory, name)


@pytest.fixture(params=["cache", "fanout"])
def own_files(request: Any, tmp_path: Path) -> tuple[Any, Callable[[], int]]:
    """A cache whose disk has files of its own, and how many of these there are."""
    options: dict[str, Any] = {"disk": OwnFiles, "disk_min_file_size": 100, "timeout": 60, "eviction_policy": "least-recently-stored"}
    cache = Cache(tmp_path, **options) if request.param == "cache" else FanoutCache(tmp_path, shards=2, **options)
    return cache, lambda: sum(path.is_file() for path in tmp_path.glob("**/own/*"))


VALUE = "x" * 1000


def test_files_of_a_disk_go_with_their_entries_however_these_are_removed(own_files: tuple[Any, Callable[[], int]]) -> None:
    """Until then, only del, pop and overwriting removed them: each eviction, expiry and clear left files behind for ever."""
    cache, count = own_files
    cache.reset("cull_limit", 0)
    for number in range(40):
        cache.set(number, VALUE, tag="even" if number % 2 == 0 else None, expire=0.001 if number < 4 else None)
    assert count() == 40
    time.sleep(0.01)
    assert cache.expire() == 4
    assert count() == 36
    assert cache.evict("even") == 18
    assert count() == 18
    cache.set_many(dict.fromkeys(range(5, 15), VALUE + "new"))
    assert cache.add(1, VALUE)
    assert not cache.add(1, VALUE)
    assert cache.pop_many([5, 7]) == {5: VALUE + "new", 7: VALUE + "new"}
    assert cache.delete_many([9, 11]) == 2
    cache[13] = "short"
    del cache[15]
    assert cache.pop(17) == VALUE
    assert count() == sum(len(cache[key]) > 100 for key in cache)
    assert cache.clear() > 0
    assert count() == 0


def test_files_of_a_disk_go_when_the_size_limit_evicts_their_entries(own_files: tuple[Any, Callable[[], int]]) -> None:
    cache, count = own_files
    cache.reset("size_limit", 2**15)
    for number in range(1000):
        cache[number] = VALUE
    assert 10 < len(cache) < 300
    assert count() == len(cache)
    cache.reset("size_limit", 2**14)
    assert cache.cull() > 0
    assert count() == len(cache)


def test_a_transaction_that_is_taken_back_leaves_the_files_of_what_it_replaced(own_files: tuple[Any, Callable[[], int]]) -> None:
    """The file of what was replaced or removed in a transaction was gone at once, and with it the value if that was taken back."""
    cache, _ = own_files
    cache.set_many({number: VALUE + str(number) for number in range(10)})
    with pytest.raises(RuntimeError), cache.transact(retry=True):
        cache[0] = "other" * 100
        del cache[1]
        cache.pop(2)
        cache.clear()
        raise RuntimeError
    assert {number: cache[number] for number in range(10)} == {number: VALUE + str(number) for number in range(10)}
    cache.clear()
    with cache.transact(retry=True):
        cache["a"] = VALUE
        cache["a"] = VALUE + "again"
        cache["b"] = VALUE
        del cache["b"]
    assert cache["a"] == VALUE + "again"
    assert len(cache) == 1


def test_what_is_not_stored_leaves_no_file(own_files: tuple[Any, Callable[[], int]]) -> None:
    cache, count = own_files
    with pytest.raises(ValueError, match="key"):
        cache["k" * 20_000_000] = VALUE
    with pytest.raises(ValueError, match="key"):
        cache.set_many({"a": VALUE, "k" * 20_000_000: VALUE})
    with pytest.raises(Exception, match="pickle"):
        cache.set_many({"a": VALUE, "b": lambda: None})
    with pytest.raises(TypeError, match="tag"):
        cache.set("a", VALUE, tag=[])
    # Of a batch, another shard may have its part.
    assert count() == len(cache) <= (type(cache) is FanoutCache)


def test_a_value_in_a_file_of_its_own_is_never_missed_while_it_is_overwritten(own_files: tuple[Any, Callable[[], int]]) -> None:
    """It was removed before it was stored: whoever looked between the two missed it."""
    cache, _ = own_files
    cache["key"] = VALUE
    done = threading.Event()

    def overwrite() -> None:
        for number in range(1500):
            cache["key"] = VALUE + str(number)
        done.set()

    thread = threading.Thread(target=overwrite)
    thread.start()
    looks = misses = 0
    while not done.is_set():
        misses += cache.get("key") is None
        looks += 1
    thread.join()
    assert looks > 10
    assert misses == 0


def test_an_open_that_somebody_put_into_core_opens_the_files_of_values(make: Callable[..., Cache]) -> None:
    """As python-diskcache's does: programs that make files fail on purpose, or count them, see them."""
    cache, values = make(), {"text": "ü" * 500_000, "bytes": b"y" * 500_000, "pickle": [b"z"] * 500_000}
    for key, value in values.items():
        cache[key] = value
    cache["small"] = "s"
    opened: list[tuple[str, str]] = []

    def tracing(path: str, mode: str, **options: Any) -> Any:
        opened.append((path, mode))
        return open(path, mode, **options)

    with mock.patch("diskcache_rs.core.open", tracing, create=True):
        assert {key: cache[key] for key in values} == values
        assert [mode for _, mode in opened] == ["rb"] * 3
        with cache.read("bytes") as file:
            assert file.read(3) == b"yyy"
        assert cache["small"] == "s"
        cache["small"] = "t"
        assert len(opened) == 4
        opened.clear()
        for key, value in values.items():
            cache["new", key] = value
        cache.set(("new", "stream"), io.BytesIO(b"w" * 500_000), read=True)
        assert [mode for _, mode in opened] == ["xb"] * 4
    files = [Path(path) for path, _ in opened]
    assert all(path.is_relative_to(cache.directory) and path.stat().st_size >= 500_000 for path in files)
    assert {key: cache["new", key] for key in values} == values
    assert cache["new", "stream"] == b"w" * 500_000
    assert cache.get_many([("new", "text"), ("new", "pickle")]) == {("new", key): values[key] for key in ("text", "pickle")}
    cache["new", "text"] = 1
    del cache["new", "bytes"]
    assert cache.pop(("new", "pickle")) == values["pickle"]
    assert [path.exists() for path in files] == [False, False, False, True]
    cache.clear()
    assert not any(path.exists() for path in files)


def test_a_fault_of_such_an_open_is_a_missing_value_or_an_error_of_the_store(make: Callable[..., Cache]) -> None:
    cache = make()
    cache["large"] = "x" * 500_000
    with mock.patch("diskcache_rs.core.open", mock.Mock(side_effect=OSError("no")), create=True):
        assert cache.get("large", "default") == "default"
        assert cache.get("large", "default", tag=True) == ("default", None)
        with pytest.raises(KeyError):
            cache["large"]
        with pytest.raises(OSError, match="no"):
            cache["other"] = "y" * 500_000
        with pytest.raises(OSError, match="no"):
            cache.set_many({"a": 1, "other": "y" * 500_000})
    assert cache["large"] == "x" * 500_000
    assert list(cache) == ["large"]


def test_a_check_finds_entries_whose_files_are_gone_and_removes_them(own_files: tuple[Any, Callable[[], int]]) -> None:
    cache, count = own_files
    for number in range(600):
        cache[number] = VALUE
    lost = sorted(Path(cache.directory).glob("**/own/*"))[::100]
    for path in lost:
        path.unlink()
    assert sorted(str(found.message) for found in cache.check()) == sorted(f"file not found: {path}" for path in lost)
    assert len(cache) == 600
    assert len(cache.check(fix=True)) == len(lost)
    assert (cache.check(), len(cache), count()) == ([], 600 - len(lost), 600 - len(lost))


class Signed(Disk):
    """Signs pickles, and refuses those that are not signed."""

    key = b"secret"

    def store(self, value: Any, read: bool, key: Any = UNKNOWN) -> Any:
        if read:
            return super().store(value, read, key=key)
        data = pickle.dumps(value)
        return super().store(hmac.digest(self.key, data, "sha256") + data, False, key=key)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        data = super().fetch(mode, filename, value, read)
        if read:
            return data
        if not hmac.compare_digest(data[:32], hmac.digest(self.key, data[32:], "sha256")):
            raise ValueError("not signed")
        return pickle.loads(data[32:])


def test_a_signing_disk_signs_everything(make: Callable[..., Cache]) -> None:
    cache = make(disk=Signed)
    for value in (1, "text", [1, 2], "x" * 1_000_000):
        cache["a"] = value
        assert cache["a"] == value
    assert make().get("a") != value
    make()["b"] = b"forged" * 10
    with pytest.raises(ValueError, match="not signed"):
        cache["b"]


class OddRows(Disk):
    """Uses modes and fields that the engine does not know."""

    def store(self, value: Any, read: bool, key: Any = UNKNOWN) -> Any:
        return 77, 42, None, value

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        return mode, filename, value, read

    def put(self, key: Any) -> Any:
        return key, False

    def get(self, key: Any, raw: bool) -> Any:
        return key, raw


@pytest.mark.parametrize("field", [None, 5, 1.5, "text", b"bytes"])
def test_any_mode_and_field_comes_back(make: Callable[..., Cache], field: Any) -> None:
    cache = make(disk=OddRows)
    cache["a"] = field
    assert cache["a"] == (42, None, field, False)


@pytest.mark.parametrize("key", [5, 1.5, "text", b"bytes", b"\xff\x03abc", b""])
def test_any_key_that_is_not_raw_comes_back(make: Callable[..., Cache], key: Any) -> None:
    cache = make(disk=OddRows)
    cache[key] = 1
    assert list(cache) == [(key, False)]
    assert key in cache


class Refusing(Disk):
    """Fails in ways that the caller must see."""

    def put(self, key: Any) -> Any:
        if key == "tuple":
            return "only one"
        if key == "type":
            return object(), True
        return super().put(key)

    def store(self, value: Any, read: bool, key: Any = UNKNOWN) -> Any:
        if value == "raise":
            raise ZeroDivisionError
        return super().store(value, read, key=key)


def test_what_a_disk_raises_or_does_wrong_is_seen_and_nothing_is_stored(make: Callable[..., Cache]) -> None:
    cache = make(disk=Refusing)
    with pytest.raises(ZeroDivisionError):
        cache["a"] = "raise"
    with pytest.raises((TypeError, ValueError)):
        cache["tuple"] = 1
    with pytest.raises(TypeError, match=r"Disk\.put"):
        cache["type"] = 1
    assert len(cache) == 0


def test_a_disk_must_be_a_class_derived_from_disk(make: Callable[..., Cache]) -> None:
    for bad in (Disk("x"), int, None, diskcache.Disk):
        with pytest.raises(ValueError, match="subclass"):
            make(disk=bad)


def test_the_disk_object_can_be_replaced_and_is_asked_then(cache: Cache) -> None:
    cache["a"] = 1
    disk = mock.Mock()
    disk.put.return_value = ("a", True)
    disk.fetch.side_effect = FileNotFoundError
    with mock.patch.object(cache, "_disk", disk):
        assert cache.get("a", "gone") == "gone"
    assert disk.fetch.called
    assert cache["a"] == 1


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_keys_and_hashes_are_those_of_python_diskcache(protocol: int) -> None:
    ours, theirs = Disk("x", pickle_protocol=protocol), diskcache.Disk("x", pickle_protocol=protocol)
    for key in ("text", b"bytes", 5, -5, 2**63 - 1, 2**70, 1.5, ("a", 1), None, True):
        assert ours.put(key) == theirs.put(key)
        assert type(ours.put(key)[0]) is type(theirs.put(key)[0])
        assert ours.hash(key) == theirs.hash(key)
        assert ours.get(*ours.put(key)) == key


def test_plain_types_never_enter_python_with_a_plain_disk(cache: Cache, monkeypatch: Any) -> None:
    def forbidden(*_: Any, **__: Any) -> Any:
        pytest.fail("the disk was asked")

    for name in ("put", "get", "store", "fetch", "filename", "remove"):
        monkeypatch.setattr(Disk, name, forbidden)
    for value in ("text", b"bytes", 5, 1.5, None, True, b"x" * 1_000_000):
        for key in ("text", b"bytes", 5, 1.5):
            cache[key] = value
            assert cache[key] == value
            assert cache.pop(key) == value
