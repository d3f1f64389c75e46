"""The comparison measures what it says: a failed operation is no measurement, and missed targets are named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from diskcache_rs import _native

BENCH = Path(__file__).parent.parent / "bench"


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCH))
    import compare  # type: ignore[import-not-found]

    return compare


@pytest.mark.parametrize("operation", ["set new", "get hit", "get miss", "overwrite", "incr", "delete"])
def test_an_operation_that_fails_once_is_no_measurement(compare: Any, operation: str) -> None:
    calls = 0

    def works_but_once(result: Any, failure: Any) -> Any:
        def call(*_: Any) -> Any:
            nonlocal calls
            calls += 1
            return failure if calls == 7 else result

        return call

    missing = operation == "get miss"
    engine = compare.Engine(
        "fake",
        str,
        works_but_once(True, False),
        works_but_once(None, b"x") if missing else works_but_once(b"x", None),
        works_but_once(True, False),
        works_but_once(1, 0),
        lambda: None,
    )
    with pytest.raises(compare.Failure, match="1 of 10"):
        compare.timed(operation, engine, list("abcdefghij"), b"x")
    assert compare.timed(operation, engine, list("abcdefghij"), b"x") > 0


def test_each_missed_target_is_named(compare: Any) -> None:
    def times(ours: float, theirs: float, lmdb: float) -> dict[str, Any]:
        return {"diskcache_rs": {"median": ours}, "diskcache": {"median": theirs}, "lmdb": {"median": lmdb}}

    good = {operation: times(1, 100, 2) for operation in compare.TARGETS}
    assert compare.misses({"single": {"128": good}}) == []
    below = compare.misses({"single": {"128": {**good, "delete": times(1, 11, 2), "get hit": times(1, 100, 0.5)}}})
    assert [text.split(":")[0] for text in below] == ["get hit", "delete"]
    assert compare.misses({"mixed": times(9.9, 1, 1)}) != []
    assert compare.misses({"mixed": times(10, 1, 1)}) == []
    assert compare.misses({"tail": {"diskcache_rs": {"p99": 2}, "diskcache": {"p99": 19}}}) != []
    large = {"open and first get ms": 6, "RssAnon MB": 61}
    million = {"10000": {}, "1000000": large, "ratio": {"get us": 1.6, "set us": 2.1}}
    assert len(compare.misses({"million": million})) == 4


@pytest.mark.skipif(_native.DEBUG_BUILD, reason="a build without optimization is not measured")
def test_every_mode_runs(tmp_path: Path) -> None:
    options = ["--rounds=2", "--count=100", "--sizes", "4096", "--turns=1", "--seconds=0.2", "--entries=20000"]
    command = [sys.executable, str(BENCH / "compare.py"), "all", *options, "--folder", str(tmp_path), "--json", str(tmp_path / "out.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "out.json").read_text())
    assert set(report["single"]["4096"]["incr"]) == {"diskcache_rs", "diskcache", "lmdb"}
    assert report["mixed"]["lmdb"]["median"] > 0
    assert report["tail"]["diskcache_rs"]["sets"] > 0
    assert report["million"]["20000"]["get us"] > 0


def test_the_surface_is_compared_and_each_missed_target_is_named(tmp_path: Path) -> None:
    sys.path.insert(0, str(BENCH))
    try:
        import surface
    finally:
        sys.path.remove(str(BENCH))
    good = {"diskcache_rs": 1.0, "diskcache": 8.0}
    found = {
        "Cache.get": good,
        "FanoutCache.get": {"diskcache_rs": 1.5, "diskcache": 12.0},
        "set_many": {"diskcache_rs": 1, "diskcache": 30},
    }
    assert surface.misses(found) == []
    found |= {"Index[key]": {"diskcache_rs": 1.01, "diskcache": 8.0}, "set_many": {"diskcache_rs": 1, "diskcache": 29}}
    found["FanoutCache.get"] = {"diskcache_rs": 1.51, "diskcache": 80.0}
    assert [text.split(":")[0] for text in surface.misses(found)] == ["set_many", "Index[key]", "FanoutCache.get"]

    command = [sys.executable, "-W", "ignore", str(BENCH / "surface.py"), "--rounds=1", "--count=40", "--folder", str(tmp_path)]
    done = subprocess.run([*command, "--json", str(tmp_path / "out.json")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "out.json").read_text())["microseconds"]
    assert len(report) == 27
    assert all(set(times) == {"diskcache_rs", "diskcache"} and min(times.values()) > 0 for times in report.values())


def test_the_readmes_get_the_figures_of_the_results_and_what_was_missed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    root = BENCH.parent.parent
    monkeypatch.syspath_prepend(str(root / "benches" / "python"))
    from bench import readme  # type: ignore[import-not-found]

    ratio = {"ratio": 16.4, "ci_low": 15.2, "ci_high": 17.1}
    row = {"group": "one process", "operation": "get hit", "size_bytes": 128, "engine": "diskcache_rs"}
    data = {
        "version": 1,
        "kind": "bench",
        "started": 1.8e9,
        "environment": {"file_system": "ext4", "command": "./ci/bench single", "cpu": "a CPU", "cores": 2, "python": "3.11.7"},
        "rows": [{**row, "ratio_to": {"diskcache": ratio, "lmdb": {**ratio, "ratio": 1.94}}}],
        "facts": [
            {"name": "kept", "value": 30.0, "bar": 25, "at_most": False, "met": True},
            {"name": "short", "value": 1.94, "bar": 2, "at_most": False, "met": False},
        ],
    }
    (tmp_path / "results.json").write_text(json.dumps(data))
    for name in readme.TEXTS:
        (tmp_path / name).write_text((root / name).read_text())
    for _ in range(2):  # and again, in the place of those before
        readme.main([str(tmp_path / "results.json"), str(tmp_path)])
    for name in readme.TEXTS:
        text = (tmp_path / name).read_text()
        assert text.count("| get hit | 16 (15-17) | 1.94 (15-17) |") == 1
        assert "short 1.94 (≥ 2)" in text
        assert "kept" not in text
        assert text.partition(readme.BEGIN)[0] == (root / name).read_text().partition(readme.BEGIN)[0]
    (tmp_path / "README.md").write_text("no place")
    with pytest.raises(SystemExit, match="no place for the figures"):
        readme.main([str(tmp_path / "results.json"), str(tmp_path)])
