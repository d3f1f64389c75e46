"""`migrate`: what python-diskcache's directories hold arrives whole; the old ones are not touched; a killed run goes on."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import diskcache
import pytest

import diskcache_rs
from diskcache_rs import Cache, JSONDisk
from diskcache_rs.__main__ import main

VALUES: list[Any] = [
    None,
    True,
    0,
    -(2**63),
    2**70,
    1.5,
    float("inf"),
    "text",
    "é\r\n" * 20_000,
    "",
    b"bytes",
    b"x" * 300_000,
    b"y" * 40_000,
    {"a": [1, (2, 3)]},
    list(range(50_000)),
]
# None between 0 and 999999999999999, which would be taken for the keys of a queue.
KEYS: list[Any] = ["a", "", b"bytes", b"", -1, -5, -2.5, 2**80, None, ("tuple", 1), frozenset({1}), True]


def snapshot(folder: Path) -> dict[str, Any]:
    """Return everything in a folder: names, contents, times."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.stat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        found[str(path.relative_to(folder))] = (content, status.st_mtime_ns)
    return found


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A python-diskcache directory with everything in it."""
    folder = tmp_path / "old"
    with diskcache.Cache(str(folder), eviction_policy="least-recently-used", size_limit=10**8, cull_limit=7) as cache:
        for number, value in enumerate(VALUES):
            cache.set(("value", number), value, tag=["t", b"u", 3, 2.5, None][number % 5])
        for number, key in enumerate(KEYS):
            cache.set(key, number, expire=3600 + number if number % 2 else None)
        cache.set("file", io.BytesIO(b"z" * 100_000), read=True)
        for number in range(10):
            cache.push(number)
            cache.push(f"job {number}", prefix="jobs")
        cache.pull()
        cache.push("front", side="front")
        cache.set("expired", 1, expire=0.001)
    time.sleep(0.01)
    return folder


def same_items(theirs: Any, ours: Cache) -> None:
    """Compare two caches, item by item and in order."""
    assert [repr(key) for key in theirs] == [repr(key) for key in ours]
    for key in theirs:
        value, expire, tag = ours.get(key, expire_time=True, tag=True)
        expected = theirs.get(key, expire_time=True, tag=True)
        if isinstance(value, str):
            value = value.replace("\r\n", "\n")  # python-diskcache loses these when it reads from a file
        assert (value, type(value), tag) == (expected[0], type(expected[0]), expected[2]), key
        assert expire == (None if expected[1] is None else pytest.approx(expected[1], abs=0.5))


def test_everything_arrives_and_the_old_directory_is_as_before(old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(old)
    assert main(["migrate", str(old), str(tmp_path / "new")]) == 0
    assert snapshot(old) == before
    out, err = capsys.readouterr()
    assert f"{len(VALUES) + len(KEYS) + 1 + 20} items copied and compared" in out
    assert "1 items had expired" in out
    assert "verify the cache: 49 of 49 items (100 %)" in err
    with diskcache.Cache(str(old)) as theirs, Cache(tmp_path / "new") as ours:
        theirs.expire()
        same_items(theirs, ours)
        assert (ours.eviction_policy, ours.size_limit, ours.cull_limit) == ("least-recently-used", 10**8, 7)
        # Not chosen by anybody: ours.
        assert ours.disk_min_file_size == diskcache_rs.DEFAULT_SETTINGS["disk_min_file_size"]
        assert ours.check() == []
        assert [ours.pull()[1] for _ in range(3)] == ["front", 1, 2]
        assert ours.pull(prefix="jobs") == ("jobs-500000000000000", "job 0")
        assert ours.push("next", prefix="jobs") == "jobs-500000000000010"
        assert ours.incr(-5) == KEYS.index(-5) + 1
    assert sorted(path.name for path in (tmp_path / "new").iterdir() if path.name.startswith(".")) == []


def test_the_database_of_a_killed_program_is_read_with_its_log(tmp_path: Path) -> None:
    program = f"""
import diskcache, os, signal
cache = diskcache.Cache({str(tmp_path / "old")!r})
for number in range(100):
    cache[number] = number
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program], check=False)
    assert (tmp_path / "old" / "cache.db-wal").stat().st_size > 0
    before = snapshot(tmp_path / "old")
    assert main(["migrate", str(tmp_path / "old"), str(tmp_path / "new")]) == 0
    assert snapshot(tmp_path / "old") == before
    with Cache(tmp_path / "new") as ours:
        assert list(ours) == list(range(100))


def test_a_directory_that_may_not_be_written_is_read(old: Path, tmp_path: Path) -> None:
    for path in [old, *old.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert main(["migrate", str(old), str(tmp_path / "new")]) == 0
    finally:
        for path in [old, *old.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_a_disk_class_of_its_own_goes_on_working(tmp_path: Path) -> None:
    with diskcache.Cache(str(tmp_path / "old"), disk=diskcache.JSONDisk, disk_compress_level=6) as cache:
        cache["key"] = {"a": [1, None]}
        cache["large"] = [os.urandom(10).hex() for _ in range(10_000)]
    assert main(["migrate", str(tmp_path / "old"), str(tmp_path / "new")]) == 0
    with diskcache.Cache(str(tmp_path / "old"), disk=diskcache.JSONDisk) as theirs, Cache(tmp_path / "new", disk=JSONDisk) as ours:
        assert list(ours) == list(theirs)
        assert {key: ours[key] for key in ours} == {key: theirs[key] for key in theirs}
        assert ours.disk.compress_level == 6  # type: ignore[attr-defined]


def test_what_was_pickled_need_not_be_importable(tmp_path: Path) -> None:
    program = f"""
import diskcache
class Mine:
    pass
with diskcache.Cache({str(tmp_path / "old")!r}) as cache:
    cache["key"] = Mine()
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert main(["migrate", str(tmp_path / "old"), str(tmp_path / "new")]) == 0
    with Cache(tmp_path / "new") as ours, pytest.raises(AttributeError, match="Mine"):
        ours["key"]


def test_memoized_results_are_found_again(tmp_path: Path) -> None:
    def work(*args: Any, **kwargs: Any) -> str:
        return "computed"

    with diskcache.Cache(str(tmp_path / "old")) as cache:
        cache.memoize(name="work")(lambda *args, **kwargs: "kept")(1, "a", b="c")
    assert main(["migrate", str(tmp_path / "old"), str(tmp_path / "new")]) == 0
    with Cache(tmp_path / "new") as ours:
        assert ours.memoize(name="work")(work)(1, "a", b="c") == "kept"
        assert ours.memoize(name="work")(work)(2, "a", b="c") == "computed"


@pytest.mark.parametrize("policy", ["least-recently-used", "least-frequently-used"])
def test_what_was_read_last_or_most_is_evicted_last(tmp_path: Path, policy: str) -> None:
    with diskcache.Cache(str(tmp_path / "old"), eviction_policy=policy, cull_limit=0) as cache:
        for number in range(40):
            cache[number] = b"x" * 1000
        time.sleep(0.01)
        for number in range(0, 40, 2):
            cache.get(number)
            cache.get(number)
    assert main(["migrate", str(tmp_path / "old"), str(tmp_path / "new")]) == 0
    with Cache(tmp_path / "new", size_limit=1, cull_limit=20) as ours:
        ours["new"] = 1
        assert len(ours) <= 21
        assert [key for key in range(1, 40, 2) if key in ours] == []
        assert sum(key in ours for key in range(0, 40, 2)) >= 19


def test_items_without_their_file_are_counted_and_left_out(old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    next(old.rglob("*.val")).unlink()
    assert main(["migrate", str(old), str(tmp_path / "new")]) == 0
    assert "1 items had lost their files" in capsys.readouterr().out


def rows_done(state: Path) -> int:
    """Return how many rows a migration says that it has copied; -1 before it says anything."""
    try:
        done = json.loads(state.read_text())["done"]
    except FileNotFoundError:
        return -1
    return done["."]["rowid"] if done else 0


@pytest.mark.parametrize("rows", [-1, 0, 1, 3000, 6000])
def test_a_run_that_is_killed_goes_on_where_it_was(tmp_path: Path, rows: int) -> None:
    with diskcache.Cache(str(tmp_path / "old")) as cache, cache.transact():
        for number in range(6000):
            cache.set(number, b"%d" % number * 50, tag="t")
    new = tmp_path / "new"
    command = [sys.executable, "-W", "ignore", "-m", "diskcache_rs", "migrate", str(tmp_path / "old"), str(new)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and rows_done(new / ".migrating" / "state.json") < rows:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    is_done = (new / "CACHE").exists() and not (new / ".migrating").exists()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if is_done:
        # It was before it could be killed.
        assert done.returncode == 2
    else:
        assert (done.returncode, "6000 items copied and compared" in done.stdout) == (0, True), done.stderr
        assert "goes on with the cache" in done.stderr or rows <= 0
    with Cache(new) as ours:
        assert list(ours) == list(range(6000))
        assert all(ours.get(number, tag=True) == (b"%d" % number * 50, "t") for number in range(6000))
        assert ours.cull_limit == 10


def test_a_difference_is_found_and_mended_by_the_next_run(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from diskcache_rs import _migrate

    copy = _migrate._copy

    def copy_badly(source: Any, target: Any, *args: Any) -> Any:
        totals = copy(source, target, *args)
        with Cache(target.cache.directory) as cache:
            cache["a"] = "something else"
            cache.touch(b"bytes", expire=7)
            del cache["file"]
        return totals

    monkeypatch.setattr(_migrate, "_copy", copy_badly)
    assert main(["migrate", str(old), str(tmp_path / "new")]) == 1
    out, err = capsys.readouterr()
    assert "3 differences" in out
    assert "differs in the cache: 'a'" in err
    monkeypatch.undo()
    assert main(["migrate", str(old), str(tmp_path / "new")]) == 0
    with Cache(tmp_path / "new") as ours:
        assert ours["a"] == 0
        assert ours["file"] == b"z" * 100_000


def test_what_cannot_be_migrated_is_refused_and_nothing_is_left_behind(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "cache.db").write_bytes(b"no database" * 100)
    (tmp_path / "foreign").mkdir()
    with sqlite3.connect(tmp_path / "foreign" / "cache.db") as database:
        database.execute("CREATE TABLE Other (a)")
    database.close()
    cases: list[tuple[Path, Path, str]] = [
        (tmp_path / "empty", tmp_path / "new", "there is no cache of python-diskcache"),
        (tmp_path / "missing", tmp_path / "new", "there is no cache of python-diskcache"),
        (old, tmp_path / "full", "is not empty"),
        (old, old / "new", "lies within"),
        (tmp_path / "broken", tmp_path / "new", "cannot read the database"),
        (tmp_path / "foreign", tmp_path / "new", "cannot read the database"),
    ]
    for source, target, message in cases:
        assert main(["migrate", str(source), str(target)]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "new").exists()
    assert sorted(path.name for path in (tmp_path / "full").iterdir()) == ["file"]


def test_another_migration_to_the_same_directory_is_refused(old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diskcache_rs import _migrate

    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_migrate, "_verify", interrupt)
    assert main(["migrate", str(old), str(tmp_path / "new")]) == 3
    monkeypatch.undo()
    with diskcache.Cache(str(tmp_path / "other")) as cache:
        cache["a"] = 1
    assert main(["migrate", str(tmp_path / "other"), str(tmp_path / "new")]) == 2
    assert main(["migrate", str(old), str(tmp_path / "new")]) == 0
    assert main(["migrate", str(old), str(tmp_path / "new")]) == 2


def test_a_directory_of_python_diskcache_is_refused_with_the_command(old: Path, tmp_path: Path) -> None:
    with pytest.raises(diskcache_rs.IncompatibleError) as refused:
        Cache(old)
    assert f"python -m diskcache_rs migrate {old} NEW" in str(refused.value)
    with pytest.raises(diskcache_rs.CacheError, match="python -m diskcache_rs migrate"):
        Cache(old, read_only=True)
    diskcache.FanoutCache(str(tmp_path / "fanout"), shards=2).close()
    with pytest.raises(diskcache_rs.IncompatibleError, match=f"migrate {tmp_path / 'fanout'} NEW"):
        Cache(tmp_path / "fanout" / "001")


def test_progress_is_a_bar_on_a_terminal() -> None:
    from diskcache_rs._progress import Progress

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    progress = Progress("copy", 4, out)
    progress._pause = 0
    progress.step(2)
    progress.step(2)
    progress.end()
    shown = out.getvalue().split("\r")
    assert shown[1] == "[###############               ] copy: 2 of 4 items (50 %)"
    assert shown[-1] == "[##############################] copy: 4 of 4 items (100 %)\n"


@pytest.fixture
def old_fanout(tmp_path: Path) -> Path:
    folder = tmp_path / "fanout"
    with diskcache.FanoutCache(str(folder), shards=4) as cache:
        for number in range(200):
            cache.set(number, b"x" * number * 300, tag="t")
        cache.cache("sub/one")["a"] = 1
        cache.deque("queue").extend(range(5))
        cache.index("index")["k"] = "v"
        for part in (cache.cache("sub/one"), cache.deque("queue"), cache.index("index")):
            getattr(part, "_cache", part).close()
    return folder


def test_every_shard_and_every_cache_in_a_fanout_cache_arrives(old_fanout: Path, tmp_path: Path) -> None:
    assert main(["migrate", str(old_fanout), str(tmp_path / "new")]) == 0
    folders = ["000", "001", "002", "003", "cache/sub/one", "deque/queue", "index/index"]
    for folder in folders:
        with diskcache.Cache(str(old_fanout / folder)) as theirs, Cache(tmp_path / "new" / folder) as ours:
            same_items(theirs, ours)
            assert ours.eviction_policy == theirs.eviction_policy
    assert sum(len(Cache(tmp_path / "new" / folder)) for folder in folders[:4]) == 200


def test_a_migrated_fanout_cache_is_one(old_fanout: Path, tmp_path: Path) -> None:
    fanout: Any = importlib.import_module("diskcache_rs.fanout")
    assert main(["migrate", str(old_fanout), str(tmp_path / "new")]) == 0
    with fanout.FanoutCache(str(tmp_path / "new"), shards=4) as cache:
        assert [cache.get(number, tag=True) for number in range(200)] == [(b"x" * number * 300, "t") for number in range(200)]
        assert cache.cache("sub/one")["a"] == 1
        assert list(cache.deque("queue")) == list(range(5))
        assert dict(cache.index("index")) == {"k": "v"}


def test_a_migrated_deque_and_index_are_what_they_were(tmp_path: Path) -> None:
    persistent: Any = importlib.import_module("diskcache_rs.persistent")
    deque = diskcache.Deque("abc", str(tmp_path / "deque"))
    deque.appendleft("first")
    index = diskcache.Index(str(tmp_path / "index"), [("b", 1), ("a", [2])])
    for folder in ("deque", "index"):
        assert main(["migrate", str(tmp_path / folder), str(tmp_path / f"new-{folder}")]) == 0
    assert list(persistent.Deque(directory=str(tmp_path / "new-deque"))) == list(deque)
    assert list(persistent.Index(str(tmp_path / "new-index")).items()) == list(index.items())


def test_help_says_what_there_is_and_what_the_status_means() -> None:
    def run(*arguments: str) -> str:
        command = [sys.executable, "-W", "ignore", "-m", "diskcache_rs", *arguments, "--help"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    whole = run()
    for name in ("doctor", "migrate", "export", "import", "check", "stats"):
        assert f"  {name} " in whole
        text = run(name)
        assert "exit status:" in text
        assert f"example:\n  python -m diskcache_rs {name} " in text
        assert max(map(len, text.splitlines())) < 140
    assert "nothing is unpickled" in run("migrate")


def test_the_version_is_that_of_the_installed_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"diskcache_rs {diskcache_rs.__version__}\n")
    assert diskcache_rs.__version__.split(".")[0].isdigit()
