"""A cache of files as people write it themselves: one file a key, a temporary file and a rename, and one lock file.

Nothing is synced, no error is expected, and a lock is believed. On one host with a local disk that is enough. It is
here so that the harness shows what such a cache loses on a network drive, beside the engines that promise more.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pickle
import tempfile
import time
from collections.abc import Iterator
from typing import Any


class Cache:
    def __init__(self, directory: str, **_: Any) -> None:
        self.directory = directory
        os.makedirs(directory, exist_ok=True)

    def _path(self, key: str) -> str:
        return os.path.join(self.directory, hashlib.sha256(key.encode()).hexdigest())

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with open(os.path.join(self.directory, "lock"), "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _write(self, path: str, value: Any, expire: float | None) -> None:
        until = None if expire is None else time.time() + expire
        descriptor, temporary = tempfile.mkstemp(dir=self.directory)
        with os.fdopen(descriptor, "wb") as file:
            pickle.dump((until, value), file)
        os.replace(temporary, path)

    def _read(self, path: str) -> Any:
        try:
            with open(path, "rb") as file:
                until, value = pickle.load(file)
        except FileNotFoundError:
            return None
        return None if until is not None and until < time.time() else value

    def _remove(self, path: str) -> bool:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
            return True
        return False

    def get(self, key: str) -> Any:
        return self._read(self._path(key))

    def set(self, key: str, value: Any, expire: float | None = None) -> bool:
        with self._lock():
            self._write(self._path(key), value, expire)
        return True

    def add(self, key: str, value: Any, expire: float | None = None) -> bool:
        with self._lock():
            if self.get(key) is not None:
                return False
            self._write(self._path(key), value, expire)
        return True

    def touch(self, key: str, expire: float | None = None) -> bool:
        with self._lock():
            value = self.get(key)
            if value is not None:
                self._write(self._path(key), value, expire)
        return value is not None

    def delete(self, key: str) -> bool:
        with self._lock():
            there = self.get(key) is not None
            return self._remove(self._path(key)) and there

    def pop(self, key: str) -> Any:
        with self._lock():
            value = self.get(key)
            self._remove(self._path(key))
        return value

    def incr(self, key: str, delta: int) -> int:
        with self._lock():
            value = (self.get(key) or 0) + delta
            self._write(self._path(key), value, None)
        return int(value)

    def push(self, value: Any, prefix: str) -> str:
        with self._lock():
            name = f"{prefix}-{time.time_ns():020}-{os.getpid()}"
            self._write(os.path.join(self.directory, name), value, None)
        return name

    def pull(self, prefix: str) -> tuple[str | None, Any]:
        with self._lock():
            for name in sorted(name for name in os.listdir(self.directory) if name.startswith(f"{prefix}-")):
                value = self._read(os.path.join(self.directory, name))
                self._remove(os.path.join(self.directory, name))
                return name, value
        return None, None

    def close(self) -> None:
        pass
