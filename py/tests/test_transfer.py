"""`export`, `import`, `check` and `stats`: one file holds all, nothing damaged passes, and nothing half done has a name."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from test_migrate import KEYS, VALUES

from diskcache_rs import Cache, JSONDisk
from diskcache_rs.__main__ import main


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A folder with a cache of everything, and beside it one with a disk class of its own."""
    folder = tmp_path / "full"
    with Cache(folder / "000", eviction_policy="sieve", size_limit=10**8) as cache:
        for number, value in enumerate(VALUES):
            cache.set(("value", number), value, tag=["t", b"u", 3, 2.5, None][number % 5])
        for number, key in enumerate(KEYS):
            cache.set(key, number, expire=3600 + number if number % 2 else None)
        cache.set("nan", float("nan"))
        cache.push("item")
    with Cache(folder / "cache" / "json", disk=JSONDisk, disk_compress_level=7) as cache:
        cache["a"] = {"b": [1, None]}
    return folder


def contents(folder: Path, **options: Any) -> list[Any]:
    with Cache(folder, **options) as cache:
        items = [(key, *cache.get(key, expire_time=True, tag=True)) for key in cache]
        return [repr((key, value, tag)) for key, value, _, tag in items] + [expire and round(expire) for _, _, expire, _ in items]


def test_what_is_exported_and_imported_is_the_same(full: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, new = tmp_path / "file", tmp_path / "new"
    count = len(VALUES) + len(KEYS) + 3
    assert main(["export", str(full), str(file)]) == 0
    assert f"{count} items written" in capsys.readouterr().out
    assert main(["import", str(file), str(new)]) == 0
    assert f"{count} items stored" in capsys.readouterr().out
    assert contents(new / "000") == contents(full / "000")
    assert contents(new / "cache" / "json", disk=JSONDisk) == contents(full / "cache" / "json", disk=JSONDisk)
    with Cache(new / "000") as cache, Cache(new / "cache" / "json", disk=JSONDisk) as json_cache:
        assert (cache.eviction_policy, cache.size_limit, cache.cull_limit) == ("sieve", 10**8, 10)
        assert json_cache.disk.compress_level == 7  # type: ignore[attr-defined]
        assert cache.incr(-5) == KEYS.index(-5) + 1
        assert cache.check() == json_cache.check() == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full", "new"]


def test_what_expired_meanwhile_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Cache(tmp_path / "cache") as cache:
        cache.set("a", 1, expire=1)
        cache["b"] = 2
    assert main(["export", str(tmp_path / "cache"), str(tmp_path / "file")]) == 0
    time.sleep(1.1)
    assert main(["import", str(tmp_path / "file"), str(tmp_path / "new")]) == 0
    assert "1 items had expired" in capsys.readouterr().out
    with Cache(tmp_path / "new") as cache:
        assert list(cache) == ["b"]


def test_no_damaged_byte_and_no_missing_end_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Cache(tmp_path / "cache") as cache:
        cache.set("key", "value", expire=100, tag="t")
        cache["other"] = [1, 2]
    assert main(["export", str(tmp_path / "cache"), str(tmp_path / "file")]) == 0
    data = (tmp_path / "file").read_bytes()
    bad = tmp_path / "bad"
    for at in range(0, len(data), 3):
        bad.write_bytes(data[:at] + bytes([data[at] ^ 0x21]) + data[at + 1 :])
        assert main(["import", str(bad), str(tmp_path / "new")]) in (2, 3), at
        bad.write_bytes(data[:at])
        assert main(["import", str(bad), str(tmp_path / "new")]) in (2, 3), at
    bad.write_bytes(data + b"x")
    assert main(["import", str(bad), str(tmp_path / "new")]) == 3
    assert "something follows" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad", "cache", "file"]
    assert main(["import", str(tmp_path / "file"), str(tmp_path / "new")]) == 0


def test_a_newer_format_and_other_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content, message in ((b"diskcache_rs export 2\n", "newer version"), (b"x" * 100, "no export of diskcache_rs")):
        (tmp_path / "file").write_bytes(content)
        assert main(["import", str(tmp_path / "file"), str(tmp_path / "new")]) == 2
        assert message in capsys.readouterr().err


def test_a_path_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    """A file from elsewhere names its caches: none of them may lie outside of the directory that was asked for."""
    with Cache(tmp_path / "cache") as cache:
        cache["a"] = 1
    assert main(["export", str(tmp_path / "cache"), str(tmp_path / "file")]) == 0
    from diskcache_rs import _transfer

    with open(tmp_path / "evil", "wb") as file:
        writer = _transfer._Writer(file)
        writer.json(b"H", {"format": 1, "created": 0})
        writer.json(b"C", {"path": "../outside", "settings": {}})
        writer.json(b"Z", {"caches": 1, "items": 0, "sha256": writer.sha256.hexdigest()})
    (tmp_path / "in").mkdir()
    assert main(["import", str(tmp_path / "evil"), str(tmp_path / "in" / "new")]) == 3
    assert list((tmp_path / "in").iterdir()) == []


def test_the_file_is_what_is_documented(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache") as cache:
        cache.set("key", b"value", tag=5)
    assert main(["export", str(tmp_path / "cache"), str(tmp_path / "file")]) == 0
    data = (tmp_path / "file").read_bytes()
    line, _, rest = data.partition(b"\n")
    assert line == b"diskcache_rs export 1"
    blocks = []
    while rest:
        kind, length = struct.unpack_from("<cQ", rest)
        content = rest[9 : 9 + length]
        assert struct.unpack_from("<I", rest, 9 + length) == (zlib.crc32(rest[: 9 + length]),)
        blocks.append((kind, content))
        rest = rest[13 + length :]
    assert [kind for kind, _ in blocks] == [b"H", b"C", b"E", b"Z"]
    assert json.loads(blocks[0][1])["format"] == 1
    assert json.loads(blocks[3][1])["items"] == 1
    key, tag, value = (
        b"\x01\x03" + struct.pack("<Q", 3) + b"key",
        b"\x01" + struct.pack("<Q", 1) + b"5",
        struct.pack("<BBQ", 2, 4, 5) + b"value",
    )
    assert blocks[2][1] == struct.pack("<d", float("inf")) + key + tag + value


def test_what_is_there_is_never_replaced(full: Path, tmp_path: Path) -> None:
    assert main(["export", str(full), str(tmp_path / "file")]) == 0
    before = (tmp_path / "file").read_bytes()
    assert main(["export", str(full), str(tmp_path / "file")]) == 2
    assert main(["export", str(tmp_path / "nothing"), str(tmp_path / "other")]) == 2
    assert main(["import", str(tmp_path / "file"), str(full)]) == 2
    assert main(["import", str(tmp_path / "missing"), str(tmp_path / "new")]) == 3
    assert (tmp_path / "file").read_bytes() == before


def test_an_export_that_fails_leaves_no_file(full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diskcache_rs import _transfer

    def full_disk(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_transfer.os, "fsync", full_disk)
    assert main(["export", str(full), str(tmp_path / "file")]) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_check_finds_damage_and_repairs_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "cache"
    with Cache(folder) as cache:
        for number in range(10):
            cache[number] = b"%d" % number * 300_000
    assert main(["check", str(folder)]) == 0
    assert "no problem was found" in capsys.readouterr().out
    blob = next(path for path in (folder / "blob").rglob("*") if path.is_file())
    os.truncate(blob, 1000)
    assert main(["check", str(folder)]) == 1
    assert str(blob) in capsys.readouterr().out
    assert main(["check", str(folder), "--fix"]) == 0
    assert "(repaired)" in capsys.readouterr().out
    assert main(["check", str(folder)]) == 0
    with Cache(folder) as cache:
        assert len(cache) == 9


def test_what_is_damaged_is_left_out_of_an_export_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "cache"
    with Cache(folder) as cache:
        cache.set("large", ["x" * 400_000])
        cache["small"] = 1
    os.truncate(next(path for path in (folder / "blob").rglob("*") if path.is_file()), 1000)
    assert main(["export", str(folder), str(tmp_path / "file")]) == 1
    assert "1 items were left out" in capsys.readouterr().out
    assert main(["import", str(tmp_path / "file"), str(tmp_path / "new")]) == 0
    with Cache(tmp_path / "new") as cache:
        assert list(cache) == ["small"]


def test_stats_says_what_is_there_and_writes_nothing(full: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted((str(path), path.stat().st_mtime_ns) for path in full.rglob("*") if path.is_file())
    assert main(["stats", str(full)]) == 0
    out = capsys.readouterr().out
    assert f"{full / '000'}: {len(VALUES) + len(KEYS) + 2} items" in out
    assert "  eviction_policy = 'sieve'" in out
    assert sorted((str(path), path.stat().st_mtime_ns) for path in full.rglob("*") if path.is_file()) == before
    assert main(["stats", str(full / "nothing")]) == 2


def test_wrong_arguments_are_status_2() -> None:
    for arguments in ([], ["nonsense"], ["migrate", "one"]):
        command = [sys.executable, "-W", "ignore", "-m", "diskcache_rs", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, "usage:" in done.stderr) == (2, True)
