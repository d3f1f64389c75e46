"""`migrate`: what a directory of python-diskcache holds, copied to a new one. The package itself is not needed.

The old directory is only read. Its database is copied first (with its write-ahead log, so nothing that was committed is missed,
and nothing is written beside it), and opened there. How far the copy is stands in ``.migrating`` in the new directory until all
is verified; a run that was ended in any way goes on where it was.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ._constants import DEFAULT_SETTINGS, EVICTION_POLICY, METADATA
from ._exceptions import CacheError
from ._foreign import DATABASE
from ._progress import Progress
from ._rows import RawCache, RawKey, RawValue, Row, batches, find_caches, raw_value

STATE = ".migrating"
# What python-diskcache writes to each database, whether it was asked for or not: then our own default is as good.
_THEIR_DEFAULTS = {**DEFAULT_SETTINGS, "disk_min_file_size": 2**15}
# The files of a SQLite database.
_PARTS = ("", "-wal", "-journal")
# Reads that are repeated for the policy that counts them: their order matters, not their sum.
_READS_MAX = 20
_COLUMNS = "rowid, key, raw, expire_time, tag, mode, filename, value"

Say = Callable[[str], None]


class Refused(CacheError):
    """The command cannot begin, and changed nothing."""


class Totals(NamedTuple):
    """What became of the items."""

    copied: int = 0
    expired: int = 0
    missing: int = 0
    wrong: int = 0

    def plus(self, **counts: int) -> Totals:
        """Return the sum."""
        return self._replace(**{name: getattr(self, name) + count for name, count in counts.items()})


def migrate(old: str, new: str, say: Say, verify: bool = True) -> Totals:
    """Copy the caches in `old` to `new`; return what became of the items."""
    old, new = os.path.abspath(old), os.path.abspath(new)
    folders = find_caches(old, DATABASE)
    if not folders:
        raise Refused(f"there is no cache of python-diskcache in {old} (no {DATABASE} there or below)")
    state = _State(old, new)
    try:
        sources = [_Source(os.path.join(old, folder), state.path(f"{number}.db")) for number, folder in enumerate(folders)]
    except Refused:
        state.remove_unused()
        raise
    totals = Totals()
    for source, folder in zip(sources, folders, strict=True):
        name = "the cache" if folder == "." else folder
        with contextlib.closing(source), _opened(os.path.join(new, folder), source) as target:
            copied = _copy(source, target, state, folder, name, say)
            if verify:
                copied = _verify(source, target, copied, name, say)
            # Last, since comparing reads too.
            for key in source.reads():
                row = target.row(key)
                if row is not None:
                    _close(row.value)
            if copied.wrong:
                state.note(folder, 0, Totals())  # the next run copies it again
            target.cache.reset("cull_limit", source.settings().get("cull_limit", DEFAULT_SETTINGS["cull_limit"]))
        totals = totals.plus(**copied._asdict())
    if totals.wrong == 0:
        state.remove()
    return totals


class _State:
    """How far each cache is copied, in a file of the new directory."""

    def __init__(self, old: str, new: str) -> None:
        self._new, self._folder = new, os.path.join(new, STATE)
        self._file = os.path.join(self._folder, "state.json")
        if os.path.exists(self._file):
            with open(self._file, encoding="utf-8") as file:
                self._state: dict[str, Any] = json.load(file)
            if self._state["old"] != old:
                raise Refused(f"a migration of {self._state['old']} to {new} is under way; finish that, or choose another directory")
            return
        if os.path.isdir(new) and set(os.listdir(new)) - {STATE}:
            raise Refused(f"{new} is not empty; choose a new directory")
        if os.path.commonpath([old, new]) == old:
            raise Refused(f"{new} lies within {old}; choose a directory elsewhere")
        os.makedirs(self._folder, exist_ok=True)
        self._state = {"old": old, "done": {}}
        self._write()

    def path(self, name: str) -> str:
        """Return the path of a file that is gone once all is done."""
        return os.path.join(self._folder, name)

    def done(self, folder: str) -> dict[str, int]:
        """Return the last row of `folder` that was copied, and what became of those before."""
        done: dict[str, int] = self._state["done"].get(folder, {"rowid": 0})
        return done

    def note(self, folder: str, rowid: int, totals: Totals) -> None:
        """Take note of how far `folder` is."""
        self._state["done"][folder] = {"rowid": rowid, **totals._asdict()}
        self._write()

    def _write(self) -> None:
        part = self._file + ".part"
        with open(part, "w", encoding="utf-8") as file:
            json.dump(self._state, file)
        os.replace(part, self._file)

    def remove(self) -> None:
        """Remove every trace; the file last, so that a run that is ended here can be gone on with."""
        for name in os.listdir(self._folder):
            if name != os.path.basename(self._file):
                os.remove(os.path.join(self._folder, name))
        os.remove(self._file)
        os.rmdir(self._folder)

    def remove_unused(self) -> None:
        """Remove what was made before anything was copied."""
        if not self._state["done"]:
            self.remove()
            with contextlib.suppress(OSError):
                os.rmdir(self._new)


class _Source:
    """One database of python-diskcache, in a copy."""

    def __init__(self, folder: str, copy: str) -> None:
        self.folder = folder
        if not os.path.exists(copy):
            _copy_database(os.path.join(folder, DATABASE), copy)
        self._database = sqlite3.connect(copy, isolation_level=None)
        try:
            self._database.execute(f"SELECT {_COLUMNS} FROM Cache LIMIT 1").fetchall()
            self._settings = dict(self._database.execute("SELECT key, value FROM Settings"))
        except sqlite3.DatabaseError as error:
            self._database.close()
            for part in _PARTS:
                with contextlib.suppress(FileNotFoundError):
                    os.remove(copy + part)
            raise Refused(f"cannot read the database of python-diskcache in {folder}: {error}") from error

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def settings(self) -> dict[str, Any]:
        """Return the settings that somebody chose."""
        chosen = {name: value for name, value in self._settings.items() if name not in METADATA and _THEIR_DEFAULTS.get(name) != value}
        if chosen.get("eviction_policy") not in EVICTION_POLICY:
            chosen.pop("eviction_policy", None)
        return chosen

    def count(self) -> int:
        """Return how many rows there are."""
        count: int = self._database.execute("SELECT COUNT(*) FROM Cache").fetchone()[0]
        return count

    def rows(self, after: int) -> Iterator[tuple[int, Row | None]]:
        """Iterate rows in the order of insertion, with their numbers; None stands for one whose file is gone."""
        query = f"SELECT {_COLUMNS} FROM Cache WHERE rowid > ? ORDER BY rowid"
        for rowid, key, raw, expire_time, tag, mode, filename, field in self._database.execute(query, (after,)):
            try:
                value = raw_value(self.folder, mode, filename, field)
            except OSError:
                yield rowid, None
            else:
                yield rowid, Row(RawKey(key, bool(raw)), value, expire_time, tag)

    def reads(self) -> Iterator[RawKey]:
        """Iterate keys as often and in the order that the eviction policy has to know of."""
        policy = self._settings.get("eviction_policy")
        if policy == "least-recently-used":
            query = "SELECT key, raw, 1 FROM Cache ORDER BY access_time"
        elif policy == "least-frequently-used":
            query = f"SELECT key, raw, MIN(access_count, {_READS_MAX}) FROM Cache ORDER BY access_count"
        else:
            return
        for key, raw, count in self._database.execute(query):
            yield from [RawKey(key, bool(raw))] * count


def _copy_database(database: str, copy: str) -> None:
    """Copy a database such that it is of one moment."""

    def stamps() -> list[Any]:
        found = []
        for part in _PARTS:
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(database + part)
                found.append((part, status.st_size, status.st_mtime_ns))
        return found

    for attempt in range(5):
        time.sleep(attempt)
        before = stamps()
        for part, _, _ in reversed(before):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(database + part, copy + (part or ".part"))
        if stamps() == before:
            os.replace(copy + ".part", copy)
            return
    raise Refused(f"{database} is being written; end the programs that use it and run this again")


@contextlib.contextmanager
def _opened(directory: str, source: _Source) -> Iterator[RawCache]:
    # Nothing is evicted before all is there.
    target = RawCache(directory, **{**source.settings(), "cull_limit": 0})
    with target.cache:
        yield target


def _copy(source: _Source, target: RawCache, state: _State, folder: str, name: str, say: Say) -> Totals:
    done = dict(state.done(folder))
    rowid = done.pop("rowid")
    totals = Totals(**done)
    if rowid:
        say(f"goes on with {name} after item {rowid}")
    progress = Progress(f"copy {name}", source.count())
    progress.step(totals.copied + totals.expired + totals.missing)
    missing = 0

    def present() -> Iterator[tuple[int, Row]]:
        nonlocal missing
        for number, row in source.rows(rowid):
            if row is None:
                missing += 1
            else:
                yield number, row

    for batch in batches(present()):
        copied = target.write([row for _, row in batch])
        totals = totals.plus(copied=copied, expired=len(batch) - copied, missing=missing)
        progress.step(len(batch) + missing)
        missing = 0
        state.note(folder, batch[-1][0], totals)
    totals = totals.plus(missing=missing)
    progress.step(missing)
    progress.end()
    return totals


def _verify(source: _Source, target: RawCache, totals: Totals, name: str, say: Say) -> Totals:
    """Compare every item, and how many there are."""
    progress = Progress(f"verify {name}", source.count())
    wrong = 0
    for _, row in source.rows(0):
        progress.step()
        if row is None:
            continue
        found = target.row(row.key)
        value = row.value.digest()
        is_over = row.expire_time is not None and row.expire_time <= time.time()
        if not is_over and (found is None or not _is_same(row, value, found)):
            wrong += 1
            say(f"differs in {name}: {_shown(row.key)}")
        elif found is not None:
            _close(found.value)
    progress.end()
    count = len(target.cache)
    if count > totals.copied:
        wrong += 1
        say(f"{name} has {count} items, of which only {totals.copied} were copied: somebody else writes to it")
    return totals.plus(wrong=wrong)


def _is_same(row: Row, value: bytes, found: Row) -> bool:
    times = (row.expire_time, found.expire_time)
    in_time = times == (None, None) or (None not in times and abs(times[0] - times[1]) < 1)  # type: ignore[operator]
    return in_time and row.tag == found.tag and value == found.value.digest()


def _close(value: RawValue) -> None:
    if hasattr(value.field, "close"):
        value.field.close()


def _shown(key: RawKey) -> str:
    text = repr(key.field) if key.raw else f"pickle {key.field!r}"
    return text if len(text) <= 100 else text[:97] + "..."
