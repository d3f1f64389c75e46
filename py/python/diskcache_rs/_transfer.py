"""`export` and `import`: the caches of a directory in one file, and back.

The file, format 1: the line ``diskcache_rs export 1``, then blocks, each with a checksum. Integers are little-endian::

    block  := kind(1 byte) length(u64) content[length] crc32(u32, of kind, length and content)
    H      JSON: format, created (seconds since 1970)                               once, first
    C      JSON: path (relative), settings                                          begins a cache
    E      item: expire(f64, infinity: never) key tag value                         many, in the order of insertion
    Z      JSON: caches, items, sha256 (hex, of everything before this block)       once, last
    key    := raw(u8) field
    tag    := field
    value  := mode(u8) field
    field  := kind(u8) length(u64) bytes      kinds: 0 nothing, 1 int (text), 2 float (f64), 3 text (UTF-8), 4 bytes, 5 bool

A reader refuses a greater format, a block whose checksum is wrong, and a file without its last block. ``mode`` is
python-diskcache's: 1 as it is, 2 a file of bytes, 4 a pickle.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import secrets
import struct
import time
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from ._constants import DEFAULT_SETTINGS
from ._exceptions import DamagedError
from ._migrate import Refused
from ._progress import Progress
from ._rows import CHUNK, RawCache, RawKey, RawValue, Row, batches, find_caches

MARKER = "CACHE"
MAGIC = b"diskcache_rs export 1\n"
_FAMILY = b"diskcache_rs export "
_HEAD = struct.Struct("<cQ")
_FIELD = struct.Struct("<BQ")
_SUM = struct.Struct("<I")
_FLOAT = struct.Struct("<d")


class _Writer:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.put(MAGIC)

    def put(self, data: bytes) -> None:
        self._file.write(data)
        self.sha256.update(data)

    def block(self, kind: bytes, parts: list[Any]) -> None:
        """Write a block of bytes, and of (file, length) for what is not to be in memory."""
        length = sum(part[1] if isinstance(part, tuple) else len(part) for part in parts)
        head = _HEAD.pack(kind, length)
        total = zlib.crc32(head)
        self.put(head)
        for part in parts:
            for chunk in _chunks(*part) if isinstance(part, tuple) else (part,):
                total = zlib.crc32(chunk, total)
                self.put(chunk)
        self.put(_SUM.pack(total))

    def json(self, kind: bytes, content: dict[str, Any]) -> None:
        self.block(kind, [json.dumps(content).encode()])


def _chunks(file: BinaryIO, length: int) -> Iterator[bytes]:
    while length:
        chunk = file.read(min(length, CHUNK))
        if not chunk:
            raise DamagedError(f"a value ended {length} bytes before its length")
        length -= len(chunk)
        yield chunk


def _field(value: Any) -> list[Any]:
    """Return a field as parts of a block."""
    if hasattr(value, "read"):
        length = value.seek(0, os.SEEK_END)
        value.seek(0)
        return [_FIELD.pack(4, length), (value, length)]
    if value is None:
        kind, data = 0, b""
    elif isinstance(value, bool):
        kind, data = 5, bytes([value])
    elif isinstance(value, int):
        kind, data = 1, str(value).encode()
    elif isinstance(value, float):
        kind, data = 2, _FLOAT.pack(value)
    elif isinstance(value, str):
        kind, data = 3, value.encode("utf-8", "surrogatepass")
    else:
        kind, data = 4, bytes(value)
    return [_FIELD.pack(kind, len(data)), data]


def _settings(cache: Any) -> dict[str, Any]:
    """Return the settings of a cache that JSON can say; those of bytes are no setting that anything reads."""
    return {name: value for name, value in cache._settings().items() if not isinstance(value, bytes)}


def export(directory: str, path: str) -> tuple[int, int]:
    """Write the caches in `directory` to a new file; return how many items, and how many could not be read.

    The file has its name once it is whole.
    """
    folders = find_caches(directory, MARKER)
    if not folders:
        raise Refused(f"there is no cache in {directory} (no {MARKER} there or below)")
    if os.path.exists(path):
        raise Refused(f"{path} is there already; choose another name")
    part = f"{path}.{secrets.token_hex(4)}.part"
    items = damaged = 0
    try:
        with open(part, "xb") as file:
            writer = _Writer(file)
            writer.json(b"H", {"format": 1, "created": time.time()})
            for folder in folders:
                copied, lost = _export_cache(writer, directory, folder)
                items, damaged = items + copied, damaged + lost
            writer.json(b"Z", {"caches": len(folders), "items": items, "sha256": writer.sha256.hexdigest()})
            file.flush()
            os.fsync(file.fileno())
        _name(part, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(part)
    return items, damaged


def _name(part: str, path: str) -> None:
    """Give a file its name, without replacing what somebody else made meanwhile where the drive has links."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise Refused(f"{path} was made by somebody else meanwhile; choose another name") from None
    except OSError:
        os.rename(part, path)


def _export_cache(writer: _Writer, directory: str, folder: str) -> tuple[int, int]:
    source = RawCache(os.path.join(directory, folder), read_only=True)
    items = lost = 0
    with source.cache:
        writer.json(b"C", {"path": folder, "settings": _settings(source.cache)})
        progress = Progress(f"export {folder}", len(source.cache))
        for row in source.rows():
            progress.step()
            if row is None:
                lost += 1
                continue
            expire = math.inf if row.expire_time is None else row.expire_time
            key, value = [bytes([row.key.raw]), *_field(row.key.field)], [bytes([row.value.mode]), *_field(row.value.field)]
            writer.block(b"E", [_FLOAT.pack(expire), *key, *_field(row.tag), *value])
            items += 1
            if hasattr(row.value.field, "close"):
                row.value.field.close()
        progress.end()
    return items, lost


class _Reader:
    """Reads blocks; what is damaged is refused with where it is."""

    def __init__(self, file: BinaryIO, path: str) -> None:
        self._file, self._path = file, path
        self.sha256 = hashlib.sha256()
        magic = self._take(len(MAGIC), "the first line")
        if magic != MAGIC:
            if magic.startswith(_FAMILY):
                raise Refused(f"{path} was written by a newer version ({magic[:40]!r}); upgrade to read it")
            raise Refused(f"{path} is no export of diskcache_rs")

    def _take(self, length: int, what: str) -> bytes:
        data = self._file.read(length)
        if len(data) != length:
            raise self.damaged(f"it ends in the middle of {what}")
        self.sha256.update(data)
        return data

    def damaged(self, what: str) -> DamagedError:
        return DamagedError(f"{self._path} is damaged at byte {self._file.tell()}: {what}; nothing was imported")

    def blocks(self) -> Iterator[tuple[bytes, bytes]]:
        """Iterate the blocks to the last one."""
        while True:
            before = self.sha256.hexdigest()
            head = self._take(_HEAD.size, "a block")
            kind, length = _HEAD.unpack(head)
            if length > os.fstat(self._file.fileno()).st_size:
                raise self.damaged("a block is longer than the file")
            content = self._take(length, "a block")
            (total,) = _SUM.unpack(self._take(_SUM.size, "a block"))
            if zlib.crc32(content, zlib.crc32(head)) != total:
                raise self.damaged("a checksum is wrong")
            if kind == b"Z":
                if json.loads(content)["sha256"] != before:
                    raise self.damaged("the checksum of the whole is wrong")
                if self._file.read(1):
                    raise self.damaged("something follows the last block")
            yield kind, content
            if kind == b"Z":
                return


def _row(content: bytes) -> Row:
    (expire,) = _FLOAT.unpack_from(content)
    raw = bool(content[8])
    key, at = _take_field(content, 9)
    tag, at = _take_field(content, at)
    mode = content[at]
    value, _ = _take_field(content, at + 1)
    return Row(RawKey(key, raw), RawValue(mode, value), None if expire == math.inf else expire, tag)


def _take_field(content: bytes, at: int) -> tuple[Any, int]:
    kind, length = _FIELD.unpack_from(content, at)
    at += _FIELD.size
    data = content[at : at + length]
    values: dict[int, Any] = {
        0: lambda: None,
        1: lambda: int(data),
        2: lambda: _FLOAT.unpack(data)[0],
        3: lambda: data.decode("utf-8", "surrogatepass"),
        4: lambda: data,
        5: lambda: data != b"\0",
    }
    return values[kind](), at + length


def import_file(path: str, directory: str) -> tuple[int, int]:
    """Make a new directory of what an export holds; return how many items were stored, and how many had expired.

    The file is read through before anything is made. The directory has its name once all is there.
    """
    if os.path.isdir(directory) and os.listdir(directory):
        raise Refused(f"{directory} is not empty; choose a new directory")
    with open(path, "rb") as file:
        total = 0
        for kind, content in _Reader(file, path).blocks():
            if kind == b"Z":
                total = json.loads(content)["items"]
    directory = os.path.abspath(directory)
    part = f"{directory}.{secrets.token_hex(4)}.part"
    try:
        with open(path, "rb") as file:
            counts = _import_caches(_Reader(file, path), part, Progress("import", total))
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(directory)
        os.rename(part, directory)
    except BaseException:
        _remove(part)
        raise
    return counts


def _remove(directory: str) -> None:
    for folder, names, files in os.walk(directory, topdown=False):
        for name in files:
            os.remove(os.path.join(folder, name))
        for name in names:
            os.rmdir(os.path.join(folder, name))
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(directory)


def _import_caches(reader: _Reader, directory: str, progress: Progress) -> tuple[int, int]:
    stored = expired = 0
    settings: dict[str, Any] = {}
    target: RawCache | None = None
    blocks = reader.blocks()
    heads: list[tuple[bytes, bytes]] = []

    def rows() -> Iterator[tuple[bytes, Row]]:
        """Iterate the rows of one cache, and leave the head of the next one."""
        for kind, content in blocks:
            if kind == b"E":
                yield kind, _row(content)
            else:
                heads.append((kind, content))
                return

    while True:
        for batch in batches(rows()):
            if target is None:
                raise reader.damaged("an item without a cache")
            count = target.write([row for _, row in batch])
            stored, expired = stored + count, expired + len(batch) - count
            progress.step(len(batch))
        if target is not None:
            target.cache.reset("cull_limit", settings.get("cull_limit", DEFAULT_SETTINGS["cull_limit"]))
            target.cache.close()
        kind, content = heads.pop()
        if kind == b"Z":
            break
        if kind == b"C":
            head = json.loads(content)
            settings = head["settings"]
            target = RawCache(_within(directory, head["path"], reader), **{**settings, "cull_limit": 0})
    progress.end()
    return stored, expired


def _within(directory: str, path: str, reader: _Reader) -> str:
    folder = os.path.normpath(os.path.join(directory, path))
    if os.path.commonpath([folder, directory]) != directory:
        raise reader.damaged(f"a cache would lie outside of the directory: {path}")
    return folder
