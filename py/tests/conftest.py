"""What all tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from diskcache_rs import Cache


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Cache]]:
    """Open caches; without a directory each call opens the same one."""
    opened: list[Cache] = []

    def open_cache(directory: str | Path | None = None, **options: Any) -> Cache:
        cache = Cache(directory or tmp_path / "cache", **options)
        opened.append(cache)
        return cache

    yield open_cache
    for cache in opened:
        cache.close()


@pytest.fixture
def cache(make: Callable[..., Cache]) -> Cache:
    """One cache."""
    return make()
