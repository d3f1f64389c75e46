"""How keys and values become what is stored: `Disk`, to be subclassed, and `JSONDisk`.

A cache with a plain `Disk` never calls it for `str`, `bytes`, `int`, `float`, `bool` and None: the engine has kinds for them. What
a subclass overrides is called with the arguments that python-diskcache gives.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import pickle
import pickletools
import struct
import sys
import zlib
from collections.abc import Iterable
from typing import Any, cast

from ._constants import MODE_BINARY, MODE_PICKLE, MODE_RAW, MODE_TEXT, UNKNOWN

# How much of a stream is read at once.
_CHUNK = 1 << 22
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1

KEYS_IN_PYTHON, VALUES_IN_PYTHON, FILES_IN_PYTHON = 1, 2, 4

StoredRow = tuple[int, int, str | None, Any]


class Disk:
    """Converts keys and values.

    >>> disk = Disk('/tmp/example')
    >>> disk.put('text')
    ('text', True)
    """

    def __init__(self, directory: str, min_file_size: int = 0, pickle_protocol: int = 0) -> None:
        self._directory = directory
        self.min_file_size = min_file_size
        self.pickle_protocol = pickle_protocol

    def hash(self, key: Any) -> int:
        """Return a hash of `key` that is the same on every machine.

        >>> Disk('/tmp/example').hash('text')
        73859526
        """
        disk_key, _ = self.put(key)
        if isinstance(disk_key, int):
            return disk_key % 0xFFFFFFFF
        if isinstance(disk_key, str):
            data = disk_key.encode("utf-8")
        elif isinstance(disk_key, float):
            data = struct.pack("!d", disk_key)
        else:
            data = bytes(disk_key)
        return zlib.adler32(data) & 0xFFFFFFFF

    def put(self, key: Any) -> tuple[Any, bool]:
        """Return what is stored for `key`, and whether that is the key itself (and no pickle).

        >>> Disk('/tmp/example').put(1.5)
        (1.5, True)
        """
        if type(key) is bytes:
            return memoryview(key), True
        if _is_plain(key):
            return key, True
        return memoryview(pickletools.optimize(pickle.dumps(key, protocol=self.pickle_protocol))), False

    def get(self, key: Any, raw: bool) -> Any:
        """Return the key that `put` made `key` and `raw` of.

        >>> disk = Disk('/tmp/example')
        >>> disk.get(*disk.put(('a', 1)))
        ('a', 1)
        """
        if raw:
            return bytes(key) if type(key) is memoryview else key
        return pickle.loads(key)

    def store(self, value: Any, read: bool, key: Any = UNKNOWN) -> StoredRow:
        """Return size, mode, file name and field to store for `value` (what a file yields if `read`).

        There is a file name only if `filename` is overridden or `diskcache_rs.core.open` replaced: else values of any size are the
        engine's own.

        >>> Disk('/tmp/example').store('text', False)
        (0, 1, None, 'text')
        """
        has_files = type(self).filename is not Disk.filename or _replaced_open() is not None
        if type(value) is bytes:
            return self._place(MODE_BINARY, value, key, value) if has_files else (0, MODE_RAW, None, memoryview(value))
        if type(value) is str and has_files:
            return self._place(MODE_TEXT, value.encode("utf-8"), key, value)
        if _is_plain(value):
            return 0, MODE_RAW, None, value
        if read:
            if not has_files:
                return 0, MODE_BINARY, None, value
            filename, full_path = self.filename(key, value)
            return self._write(full_path, iter(functools.partial(value.read, _CHUNK), b""), "xb"), MODE_BINARY, filename, None
        data = pickle.dumps(value, protocol=self.pickle_protocol)
        return self._place(MODE_PICKLE, data, key, value) if has_files else (0, MODE_PICKLE, None, memoryview(data))

    def _place(self, mode: int, data: bytes, key: Any, value: Any) -> StoredRow:
        if len(data) < self.min_file_size:
            if mode == MODE_PICKLE:
                return 0, mode, None, memoryview(data)
            return 0, MODE_RAW, None, value
        filename, full_path = self.filename(key, value)
        return self._write(full_path, [data], "xb"), mode, filename, None

    def _write(self, full_path: str, iterator: Iterable[Any], mode: str, encoding: str | None = None) -> int:
        """Write what `iterator` yields to a new file and return its length; subclasses call it, too."""
        # The folder may be removed by others just before the file is made in it.
        for attempt in range(10):
            os.makedirs(os.path.dirname(full_path), exist_ok=True)
            try:
                writer = _open(full_path, mode, encoding)
            except FileNotFoundError:
                if attempt == 9:
                    raise
                continue
            break
        size = 0
        with writer:
            for chunk in iterator:
                size += len(chunk)
                writer.write(chunk)
        return size

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        """Return the value that `store` made a row of; a binary file if `read` and it is bytes.

        >>> disk = Disk('/tmp/example')
        >>> size, mode, filename, field = disk.store(['a', 1], False)
        >>> disk.fetch(mode, filename, field, False)
        ['a', 1]
        """
        if filename is not None:
            path = os.path.join(self._directory, filename)
            if mode == MODE_BINARY and read:
                return _open(path, "rb")
            with _open(path, "rb") as file:
                value = file.read()
        if mode == MODE_PICKLE:
            return pickle.loads(value)
        if mode == MODE_TEXT:
            return value if isinstance(value, str) else bytes(value).decode("utf-8")
        if mode == MODE_BINARY:
            if hasattr(value, "read"):
                return value if read else value.read()
            return io.BytesIO(value) if read else bytes(value)
        return bytes(value) if type(value) is memoryview else value

    def filename(self, key: Any = UNKNOWN, value: Any = UNKNOWN) -> tuple[str, str]:  # noqa: ARG002
        """Return a new file name, relative and whole; override it to keep large values in files of your own.

        Such a file is removed when its entry is gone: replaced, deleted, expired, evicted or cleared. It does not count towards the size
        limit, of which only the entry takes its part: set ``size_limit`` with that in mind.

        >>> relative, whole = Disk('/tmp/example').filename()
        >>> whole == '/tmp/example/' + relative
        True
        """
        name = os.urandom(16).hex()
        relative = os.path.join(name[:2], name[2:4], name[4:] + ".val")
        return relative, os.path.join(self._directory, relative)

    def remove(self, file_path: str) -> None:
        """Remove the file called `file_path` by `filename`, and folders that are empty then.

        >>> Disk('/tmp/example').remove('no/such/file')
        """
        path = os.path.join(self._directory, file_path)
        with contextlib.suppress(OSError):
            os.remove(path)
        folder = os.path.dirname(path)
        while len(folder) > len(self._directory):
            try:
                os.rmdir(folder)
            except OSError:
                break
            folder = os.path.dirname(folder)


class JSONDisk(Disk):
    """Keys and values as compressed JSON, readable by other languages.

    >>> from diskcache_rs import Cache
    >>> cache = Cache(disk=JSONDisk, disk_compress_level=6)
    >>> cache['a'] = {'b': [1, None]}
    >>> cache['a']
    {'b': [1, None]}
    """

    def __init__(self, directory: str, compress_level: int = 1, **kwargs: Any) -> None:
        self.compress_level = compress_level
        super().__init__(directory, **kwargs)

    def put(self, key: Any) -> tuple[Any, bool]:
        """Return the compressed JSON of `key`.

        >>> disk = JSONDisk('/tmp/example')
        >>> data, is_key = disk.put(['a', 1])
        >>> type(data).__name__, is_key
        ('memoryview', True)
        """
        return super().put(self._compress(key))

    def get(self, key: Any, raw: bool) -> Any:
        """Return the key that compressed JSON stands for.

        >>> disk = JSONDisk('/tmp/example')
        >>> disk.get(*disk.put(['a', 1]))
        ['a', 1]
        """
        return self._decompress(super().get(key, raw))

    def store(self, value: Any, read: bool, key: Any = UNKNOWN) -> StoredRow:
        """Return what to store for the compressed JSON of `value`; files are stored as they are.

        >>> JSONDisk('/tmp/example').store({'a': 1}, False)[:3]
        (0, 1, None)
        """
        return super().store(value if read else self._compress(value), read, key=key)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        """Return the value that is stored; files as they are.

        >>> disk = JSONDisk('/tmp/example')
        >>> size, mode, filename, field = disk.store({'a': 1}, False)
        >>> disk.fetch(mode, filename, field, False)
        {'a': 1}
        """
        data = super().fetch(mode, filename, value, read)
        return data if read else self._decompress(data)

    def _compress(self, value: Any) -> bytes:
        return zlib.compress(json.dumps(value).encode("utf-8"), self.compress_level)

    def _decompress(self, data: bytes) -> Any:
        return json.loads(zlib.decompress(data).decode("utf-8"))


def _replaced_open() -> Any:
    """Return the `open` that somebody put into `diskcache_rs.core`, or None."""
    return vars(sys.modules[f"{__package__}.core"]).get("open")


def _open(path: str, mode: str, encoding: str | None = None) -> Any:
    """Open the file of a value: by `diskcache_rs.core.open`, if somebody put one there."""
    return (_replaced_open() or open)(path, mode, encoding=encoding)


def parts_in_python(disk: object) -> int:
    """Return which parts of `disk` are not the base class's, as flags for the engine."""
    if not isinstance(disk, Disk):
        return KEYS_IN_PYTHON | VALUES_IN_PYTHON
    own = vars(disk)

    def overrides(*names: str) -> bool:
        return any(getattr(type(disk), name) is not getattr(Disk, name) or name in own for name in names)

    flags = KEYS_IN_PYTHON if overrides("put", "get") else 0
    if overrides("store", "fetch", "filename", "remove", "_write"):
        flags |= VALUES_IN_PYTHON
    if overrides("filename"):
        flags |= FILES_IN_PYTHON
    return flags


def _is_plain(value: Any) -> bool:
    kind = type(value)
    return kind is str or kind is float or (kind is int and _INT_MIN <= cast("int", value) <= _INT_MAX)
