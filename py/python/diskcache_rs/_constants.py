"""Names and defaults that python-diskcache's programs know."""

from __future__ import annotations

import pickle
from typing import Any, Self

from ._native import MIN_FILE_SIZE


class Constant(tuple[str, ...]):
    """A value that is only itself, and shows as its name.

    >>> Constant('ENOVAL')
    ENOVAL
    """

    __slots__ = ()

    def __new__(cls, name: str) -> Self:
        """Return the constant called `name`."""
        return tuple.__new__(cls, (name,))

    def __getnewargs__(self) -> tuple[str]:
        return (self[0],)

    def __repr__(self) -> str:
        return self[0]


ENOVAL = Constant("ENOVAL")
UNKNOWN = Constant("UNKNOWN")

MODE_NONE = 0
MODE_RAW = 1
MODE_BINARY = 2
MODE_TEXT = 3
MODE_PICKLE = 4

# The engine has no SQLite: its settings are kept so that programs may give and read them, and have no effect.
DEFAULT_SETTINGS: dict[str, Any] = {
    "statistics": 0,
    "tag_index": 0,
    "eviction_policy": "least-recently-stored",
    "size_limit": 2**30,
    "cull_limit": 10,
    "sqlite_auto_vacuum": 1,
    "sqlite_cache_size": 2**13,
    "sqlite_journal_mode": "wal",
    "sqlite_mmap_size": 2**26,
    "sqlite_synchronous": 1,
    "disk_min_file_size": MIN_FILE_SIZE,
    "disk_pickle_protocol": pickle.HIGHEST_PROTOCOL,
}

METADATA: dict[str, int] = {"count": 0, "size": 0, "hits": 0, "misses": 0}

# What a policy notes when an item is stored ("init") and read ("get"), and by what it chooses ("cull").
EVICTION_POLICY: dict[str, dict[str, str | None]] = {
    "none": {"init": None, "get": None, "cull": None},
    "least-recently-stored": {"init": "store_time", "get": None, "cull": "store_time"},
    "least-recently-used": {"init": "access_time", "get": "access_time", "cull": "access_time"},
    "least-frequently-used": {"init": "access_count", "get": "access_count", "cull": "access_count"},
    "time-to-live": {"init": "expire_time", "get": None, "cull": "expire_time"},
    "combined": {"init": "store_time", "get": "access_count", "cull": "worth"},
    "sieve": {"init": None, "get": "visited", "cull": "hand"},
}
