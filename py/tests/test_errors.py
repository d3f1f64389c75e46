"""Errors arrive as what Python programs catch."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import diskcache
import pytest

import diskcache_rs
from diskcache_rs import Cache

TABLE = [
    ("Timeout", (TimeoutError, OSError)),
    ("OutcomeUnknown", (diskcache_rs.Timeout, TimeoutError)),
    ("TransactionConflict", (diskcache_rs.Timeout, TimeoutError)),
    ("CacheError", (OSError,)),
    ("IncompatibleError", (diskcache_rs.CacheError, OSError)),
    ("RefusedError", (diskcache_rs.CacheError, PermissionError)),
    ("DamagedError", (diskcache_rs.CacheError, OSError)),
    ("ClosedError", (diskcache_rs.CacheError, OSError)),
    ("UnknownFileWarning", (UserWarning,)),
    ("EmptyDirWarning", (UserWarning,)),
]


@pytest.mark.parametrize(("name", "bases"), TABLE)
def test_each_exception_is_caught_by_its_builtin_base(name: str, bases: tuple[type[BaseException], ...]) -> None:
    exception = getattr(diskcache_rs, name)
    for base in bases:
        with pytest.raises(base):
            raise exception("why")
    assert "why" in str(exception("why"))
    assert pickle.loads(pickle.dumps(exception("why"))).args == ("why",)


def test_a_key_that_is_too_long_is_a_value_error_and_nothing_is_stored(cache: Cache) -> None:
    with pytest.raises(ValueError, match="key"):
        cache["x" * 20_000_000] = 1
    assert len(cache) == 0


def test_a_cache_that_is_opened_to_be_read_refuses_to_be_written(make: Callable[..., Cache]) -> None:
    make()["a"] = [1]
    reader = make(read_only=True)
    assert reader["a"] == [1]
    for write in (lambda: reader.set("b", 1), lambda: reader.delete("a"), lambda: reader.incr("c"), reader.clear, lambda: reader.push(1)):
        with pytest.raises(PermissionError) as error:
            write()
        assert isinstance(error.value, diskcache_rs.RefusedError)
    assert list(reader) == ["a"]


def test_a_missing_directory_is_not_made_to_be_read(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        Cache(tmp_path / "missing", read_only=True)
    assert not (tmp_path / "missing").exists()


def test_a_directory_of_python_diskcache_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    with diskcache.Cache(tmp_path) as theirs:
        theirs["a"] = 1
    before = sorted((path.name, path.stat().st_size) for path in tmp_path.iterdir())
    with pytest.raises(diskcache_rs.IncompatibleError, match=str(tmp_path)):
        Cache(tmp_path)
    assert sorted((path.name, path.stat().st_size) for path in tmp_path.iterdir()) == before


def test_a_cache_of_a_newer_format_is_refused_and_left_as_it_is(make: Callable[..., Cache], tmp_path: Path) -> None:
    cache = make(tmp_path / "newer")
    cache["a"] = 1
    cache.close()
    markers = [tmp_path / "newer" / name for name in ("CACHE", "CACHE.copy")]
    content = markers[0].read_bytes()
    newer = content.replace((1).to_bytes(4, "little"), (999).to_bytes(4, "little"), 1)
    assert newer != content
    for marker in markers:
        marker.write_bytes(newer)
    with pytest.raises(diskcache_rs.CacheError):
        make(tmp_path / "newer")
    assert all(marker.read_bytes() == newer for marker in markers)
