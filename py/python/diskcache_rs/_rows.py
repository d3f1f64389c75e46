"""Rows: what caches hold, as it is stored, to be copied without being unpickled.

A row is read from a cache (or from python-diskcache's database) and written to another one without a look at what keys and values
mean, so it makes no difference which `Disk` wrote it, and no class that was pickled need be there.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ._cache import Cache
from ._constants import ENOVAL, MODE_BINARY, MODE_PICKLE, MODE_RAW, MODE_TEXT, UNKNOWN
from ._disk import Disk, StoredRow
from ._retry import atomically

CHUNK = 1 << 20
# How many rows, and how many bytes, are written in one transaction.
_BATCH_ROWS, _BATCH_BYTES = 256, 4 << 20


class RawKey(NamedTuple):
    """A key as it is stored: text, bytes or a number, and whether that is the key itself (and no pickle)."""

    field: Any
    raw: bool


class RawValue(NamedTuple):
    """A value as it is stored: a mode, and text, bytes, a number, nothing, or (a file of bytes) a binary file to read it from."""

    mode: int
    field: Any

    def digest(self) -> bytes:
        """Return a hash of mode and content; equal for bytes and for a file of them."""
        if hasattr(self.field, "read"):
            total = hashlib.sha256(b"bytes:")
            with self.field as file:
                while chunk := file.read(CHUNK):
                    total.update(chunk)
            return total.digest()
        if self.mode == MODE_PICKLE:
            return hashlib.sha256(b"pickle:" + self.field).digest()
        if isinstance(self.field, bytes):
            return hashlib.sha256(b"bytes:" + self.field).digest()
        return hashlib.sha256(f"{type(self.field).__name__}:".encode() + repr(self.field).encode("utf-8", "surrogatepass")).digest()


class Row(NamedTuple):
    """One item of a cache."""

    key: RawKey
    value: RawValue
    expire_time: float | None
    tag: Any

    @property
    def size(self) -> int:
        """About how many bytes it takes in a transaction."""
        field = self.value.field
        if isinstance(field, (bytes, str)):
            return len(field)
        # Of a file of a directory; what is read from a cache of ours is not written in batches.
        return os.fstat(field.fileno()).st_size if isinstance(field, io.BufferedReader) else 8


class RawDisk(Disk):
    """A disk whose keys are `RawKey` and whose values are `RawValue`."""

    def __init__(self, directory: str, **settings: Any) -> None:
        # Settings of whatever disk the cache was made with are of no concern here.
        super().__init__(directory, settings.get("min_file_size", 0), pickle.HIGHEST_PROTOCOL)

    def put(self, key: RawKey) -> tuple[Any, bool]:
        """Return the key as it is stored."""
        return key.field, key.raw

    def get(self, key: Any, raw: bool) -> RawKey:
        """Return the key with what it is."""
        return RawKey(key, raw)

    def store(self, value: RawValue, read: bool, key: Any = UNKNOWN) -> StoredRow:  # noqa: ARG002
        """Return the row of a value."""
        mode, field = value
        if isinstance(field, bool):
            # True and False have no row of their own in python-diskcache.
            mode, field = MODE_PICKLE, pickle.dumps(field)
        return 0, MODE_RAW if mode == MODE_TEXT else mode, None, field

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> RawValue:  # noqa: ARG002
        """Return a row as a value; what a disk keeps in a file of its own is read from there."""
        return raw_value(self._directory, mode, filename, value)


def raw_value(directory: str, mode: int, filename: str | None, field: Any) -> RawValue:
    """Return the value of a database row; raise `OSError` if its file cannot be read."""
    if filename is not None:
        path = os.path.join(directory, filename)
        if mode == MODE_BINARY:
            return RawValue(MODE_BINARY, open(path, "rb"))
        with open(path, "rb") as file:
            field = file.read()
    if mode == MODE_TEXT:
        return RawValue(MODE_RAW, field.decode("utf-8") if isinstance(field, bytes) else field)
    if mode == MODE_PICKLE:
        return RawValue(mode, bytes(field))
    if mode == MODE_BINARY and hasattr(field, "read"):
        return RawValue(mode, field)
    return RawValue(MODE_RAW, field)


class RawCache:
    """A cache that rows are written to and read from."""

    def __init__(self, directory: str, **options: Any) -> None:
        self.cache = Cache(directory, disk=RawDisk, **options)

    def rows(self) -> Iterator[Row | None]:
        """Iterate all rows, in the order of insertion; None stands for an item whose value is damaged or just went away."""
        for key in self.cache:
            yield self.row(key)

    def row(self, key: RawKey) -> Row | None:
        """Return the row of `key`, if it is there and whole. Values of bytes come as files."""
        value, expire_time, tag = self.cache.get(key, ENOVAL, read=True, expire_time=True, tag=True, retry=True)
        return None if value is ENOVAL else Row(key, value, expire_time, tag)

    def write(self, rows: Sequence[Row]) -> int:
        """Write rows at once and return how many have not expired."""
        present = time.time()
        live = [row for row in rows if row.expire_time is None or row.expire_time > present]

        def step() -> None:
            for row in live:
                if hasattr(row.value.field, "seek"):
                    row.value.field.seek(0)
                expire = None if row.expire_time is None else row.expire_time - time.time()
                self.cache.set(row.key, row.value, expire=expire, tag=row.tag, retry=True)

        atomically(self.cache, step)
        for row in rows:
            if isinstance(row.value.field, io.IOBase):
                row.value.field.close()
        return len(live)


def batches(rows: Iterator[tuple[Any, Row]]) -> Iterator[list[tuple[Any, Row]]]:
    """Gather rows (each with what its reader wants to remember) into lists that fit into a transaction."""
    batch: list[tuple[Any, Row]] = []
    total = 0
    for item in rows:
        batch.append(item)
        total += item[1].size + 64
        if len(batch) >= _BATCH_ROWS or total >= _BATCH_BYTES:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


def find_caches(directory: str, marker: str) -> list[str]:
    """Return the folders within `directory` that hold a file called `marker`, relative to it; there are none within these.

    A `FanoutCache` is a folder of such folders, with more of them below.
    """
    found = []
    for folder, names, files in os.walk(directory):
        if marker in files:
            found.append(os.path.relpath(folder, directory))
            # Below are its values.
            names.clear()
        names.sort()
    return sorted(found)
