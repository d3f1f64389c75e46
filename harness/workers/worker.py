"""Drives one cache for the harness: a JSON command a line on standard input, a JSON answer a line on standard output.

Any module with python-diskcache's ``Cache`` will do; what its ``Cache`` has no method for is not asked of it. Values
describe themselves (key, writer, number, length) and are rebuilt from that description when they are read, so that a
value that is torn, mixed or another key's is told from a sound one. WORKERS.md has every request and answer.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import zlib
from typing import Any

BLOCK = 64
# What may be asked, and the method that it needs.
OPERATIONS = {
    "set": "set",
    "add": "add",
    "touch": "touch",
    "get": "get",
    "pop": "pop",
    "delete": "delete",
    "incr": "incr",
    "push": "push",
    "pull": "pull",
    "batch": "transact",
    "get_batch": "transact",
    "check": "check",
    "count": "__len__",
}


def body(tag: str, size: int) -> bytes:
    """The filler of a value: each block carries the value's checksum and its own number."""
    seed = zlib.crc32(tag.encode())
    blocks = size // BLOCK + 1
    filler = b"".join(b"%08x%08x" % (seed, number) + b"." * (BLOCK - 16) for number in range(blocks))
    return filler[:size]


def build(key: str, writer: str, seq: int, size: int) -> str | bytes:
    """A value that says what it is; text and bytes take turns."""
    tag = f"{key}|{writer}|{seq}|{size}|"
    value = tag.encode() + body(tag, size)
    return value if seq % 2 else value.decode()


def inspect(key: str, value: Any) -> dict[str, Any]:
    """What a value that was read says of itself, or what is wrong with it."""
    if value is None:
        return {"hit": False}
    raw = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    if not isinstance(raw, bytes):
        return {"hit": True, "damage": f"a {type(value).__name__} came back: {value!r:.60}"}
    try:
        found_key, writer, seq, size, _ = raw.split(b"|", 4)
        expected = build(found_key.decode(), writer.decode(), int(seq), int(size))
    except (ValueError, UnicodeDecodeError, MemoryError):
        return {"hit": True, "damage": f"not a value that anybody wrote: {raw[:40]!r}, {len(raw)} bytes"}
    if value != expected:
        return {"hit": True, "damage": f"torn: {len(raw)} bytes, said to be of {raw[:40]!r}"}
    if found_key.decode() != key:
        return {"hit": True, "damage": f"the value of {found_key.decode()!r} under {key!r}"}
    return {"hit": True, "writer": writer.decode(), "seq": int(seq)}


def seconds(ttl_ms: int | None) -> float | None:
    return None if ttl_ms is None else ttl_ms / 1000


class Worker:
    def __init__(self) -> None:
        self.cache: Any = None
        self.module: Any = None

    def hello(self, module: str) -> dict[str, Any]:
        found = importlib.import_module(module)
        known = [name for name, method in OPERATIONS.items() if hasattr(found.Cache, method)]
        return {"version": getattr(found, "__version__", "unknown"), "operations": known}

    def open(self, dir: str, module: str, options: dict[str, Any]) -> bool:
        self.module = importlib.import_module(module)
        self.cache = self.module.Cache(dir, **options)
        return True

    def set(self, key: str, writer: str, seq: int, size: int, ttl_ms: int | None = None) -> bool:
        return bool(self.cache.set(key, build(key, writer, seq, size), expire=seconds(ttl_ms)))

    def add(self, key: str, writer: str, seq: int, size: int, ttl_ms: int | None = None) -> bool:
        return bool(self.cache.add(key, build(key, writer, seq, size), expire=seconds(ttl_ms)))

    def touch(self, key: str, ttl_ms: int | None = None) -> bool:
        return bool(self.cache.touch(key, expire=seconds(ttl_ms)))

    def get(self, key: str) -> dict[str, Any]:
        return inspect(key, self.cache.get(key))

    def pop(self, key: str) -> dict[str, Any]:
        return inspect(key, self.cache.pop(key))

    def delete(self, key: str) -> bool:
        return bool(self.cache.delete(key))

    def incr(self, key: str, delta: int) -> int:
        return int(self.cache.incr(key, delta))

    def read_counter(self, key: str) -> Any:
        value = self.cache.get(key)
        return value if value is None or isinstance(value, int) else {"damage": f"{value!r:.60}"}

    def push(self, queue: str, writer: str, seq: int, size: int) -> bool:
        self.cache.push(build(queue, writer, seq, size), prefix=queue)
        return True

    def pull(self, queue: str) -> dict[str, Any]:
        return inspect(queue, self.cache.pull(prefix=queue)[1])

    def batch(self, keys: list[str], writer: str, seq: int, size: int) -> bool:
        with self.cache.transact():
            for key in keys:
                self.cache.set(key, build(key, writer, seq, size))
        return True

    def get_batch(self, keys: list[str]) -> list[dict[str, Any]]:
        with self.cache.transact():
            return [inspect(key, self.cache.get(key)) for key in keys]

    def check(self) -> list[str]:
        return [str(warning.message) for warning in self.cache.check() or []]

    def count(self) -> int:
        return len(self.cache)

    def close(self) -> bool:
        self.cache.close()
        return True

    def handle(self, command: dict[str, Any]) -> dict[str, Any]:
        number, name = command.pop("id"), command.pop("op")
        try:
            return {"id": number, "ok": getattr(self, name)(**command)}
        except Exception as error:
            certain = bool(getattr(error, "certain", False))
            return {"id": number, "error": type(error).__name__, "message": str(error)[:300], "certain": certain}


def main() -> None:
    # Results go to the harness alone: a library that prints must not mix with them.
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    worker = Worker()
    for line in sys.stdin:
        out.write(json.dumps(worker.handle(json.loads(line))) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
