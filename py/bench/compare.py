"""Compares diskcache_rs with python-diskcache and py-lmdb on a local disk, through Python.

    python py/bench/compare.py single      one process: every operation, 128 B, 4 KiB and 64 KiB
    python py/bench/compare.py mixed       4 processes, 90/9/1 get/set/delete
    python py/bench/compare.py tail        8 processes that set: p99
    python py/bench/compare.py million     a million entries: opening, memory, speed against ten thousand
    python py/bench/compare.py all --check --json out.json

Engines take turns within each round, so that what the machine does meanwhile meets all alike; medians over rounds are compared. Each
operation's success is counted: a run in which one fails is no run. `--check` compares with the targets and exits with 1 below them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from engines import OPENERS, Engine, opened

OURS = "diskcache_rs"
# How many times as fast as python-diskcache each operation must be at 128 bytes.
TARGETS = {"get hit": 10, "get miss": 8, "set new": 15, "overwrite": 15, "delete": 12, "incr": 10}
LMDB_TARGETS = ("get hit", "set new", "overwrite")


class Failure(Exception):
    """An operation did not succeed: what was measured means nothing."""


def timed(operation: str, engine: Engine, keys: list[Any], value: bytes) -> float:
    """Return microseconds an operation, each of which was seen to succeed."""
    done = 0
    clock = time.perf_counter
    if operation in ("set new", "overwrite"):
        call = engine.set
        start = clock()
        for key in keys:
            done += call(key, value)
        took = clock() - start
    elif operation == "get hit":
        get = engine.get
        start = clock()
        for key in keys:
            done += get(key) is not None
        took = clock() - start
    elif operation == "get miss":
        get = engine.get
        start = clock()
        for key in keys:
            done += get(key) is None
        took = clock() - start
    elif operation == "delete":
        delete = engine.delete
        start = clock()
        for key in keys:
            done += delete(key)
        took = clock() - start
    else:
        incr = engine.incr
        start = clock()
        for key in keys:
            done += incr(key) > 0
        took = clock() - start
    if done != len(keys):
        raise Failure(f"{engine.name}: {len(keys) - done} of {len(keys)} x {operation} failed")
    return took / len(keys) * 1e6


def one_round(engines: list[Engine], number: int, count: int, base: int, value: bytes, rng: random.Random) -> dict[str, dict[str, float]]:
    """Run every operation once on every engine."""
    fresh = [f"new-{number}-{index}" for index in range(count)]
    there = [f"base-{rng.randrange(base)}" for _ in range(count)]
    absent = [f"absent-{number}-{index}" for index in range(count)]
    counters = [f"counter-{index % 100}" for index in range(count)]
    plan = [
        ("set new", fresh),
        ("get hit", there),
        ("get miss", absent),
        ("overwrite", there),
        ("incr", counters),
        ("delete", fresh),
    ]
    results: dict[str, dict[str, float]] = {operation: {} for operation, _ in plan}
    for operation, names in plan:
        for engine in rng.sample(engines, len(engines)):
            results[operation][engine.name] = timed(operation, engine, [engine.key(name) for name in names], value)
            if operation in ("set new", "overwrite"):
                name = engine.key(rng.choice(names))
                if engine.get(name) != value:
                    raise Failure(f"{engine.name}: {name!r} does not hold what was set")
    return results


def summary(samples: list[float]) -> dict[str, float]:
    ordered = sorted(samples)
    return {
        "median": statistics.median(ordered),
        "low": ordered[len(ordered) // 10],
        "high": ordered[-1 - len(ordered) // 10],
        "samples": len(ordered),
    }


def single(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One process, every operation."""
    report: dict[str, Any] = {}
    for size in options.sizes:
        rng = random.Random(options.seed)
        value = rng.randbytes(size)
        base = max(200, min(10_000, (64 << 20) // size))
        count = max(50, min(options.count, (16 << 20) // size))
        engines = [OPENERS[name](str(made(folder / f"single-{size}" / name))) for name in options.engines]
        try:
            for engine in engines:
                timed("set new", engine, [engine.key(f"base-{index}") for index in range(base)], value)
            samples: dict[str, dict[str, list[float]]] = {}
            for number in range(options.rounds):
                for operation, times in one_round(engines, number, count, base, value, rng).items():
                    for name, took in times.items():
                        samples.setdefault(operation, {}).setdefault(name, []).append(took)
        finally:
            for engine in engines:
                engine.close()
        report[str(size)] = {operation: {name: summary(took) for name, took in found.items()} for operation, found in samples.items()}
        print_single(size, report[str(size)], options.engines)
    return report


def print_single(size: int, found: dict[str, dict[str, Any]], names: list[str]) -> None:
    print(f"\n{size} bytes, microseconds an operation: median (low-high over rounds); x = times as slow as {OURS}")
    for operation, times in found.items():
        cells = []
        for name in names:
            took = times[name]
            cell = f"{name} {took['median']:8.2f} ({took['low']:.2f}-{took['high']:.2f})"
            if name != OURS and OURS in times:
                cell += f" x{took['median'] / times[OURS]['median']:.1f}"
            cells.append(cell)
        print(f"  {operation:10s} " + "   ".join(cells))


def made(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def team(name: str, directory: Path, role: str, processes: int, options: argparse.Namespace, turn: int) -> list[dict[str, Any]]:
    """Run worker processes on one directory at once and return what they report."""
    command = [sys.executable, __file__, "_worker", "--engines", name, "--seconds", str(options.seconds)]
    workers = [
        subprocess.Popen(
            [*command, "--role", role, "--directory", str(directory), "--seed", str(options.seed + 1000 * turn + number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    for worker in workers:
        assert worker.stdout is not None
        if worker.stdout.readline() != "ready\n":
            raise Failure(f"{name}: a worker did not start")
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    reports = []
    for worker in workers:
        out, _ = worker.communicate(timeout=options.seconds * 10 + 60)
        if worker.returncode != 0:
            raise Failure(f"{name}: a worker failed")
        reports.append(json.loads(out))
    return reports


def work(options: argparse.Namespace) -> None:
    """Be one worker process."""
    rng = random.Random(options.seed)
    (name,) = options.engines
    with opened(name, options.directory) as engine:
        value = bytes(128)
        keys = [engine.key(f"base-{index}") for index in range(10_000)]
        print("ready", flush=True)
        sys.stdin.readline()
        run = run_mixed if options.role == "mixed" else run_sets
        print(json.dumps(run(engine, keys, value, options.seconds, rng)), flush=True)


def run_mixed(engine: Engine, keys: list[Any], value: bytes, seconds: float, rng: random.Random) -> dict[str, Any]:
    done = {"get": 0, "set": 0, "delete": 0, "hits": 0}
    plan = [(rng.choice(keys), rng.random()) for _ in range(50_000)]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for key, dice in rng.sample(plan, 200):
            if dice < 0.90:
                found = engine.get(key)
                if found is not None and found != value:
                    raise Failure(f"{engine.name}: a wrong value")
                done["get"] += 1
                done["hits"] += found is not None
            elif dice < 0.99:
                if not engine.set(key, value):
                    raise Failure(f"{engine.name}: a set failed")
                done["set"] += 1
            else:
                engine.delete(key)
                done["delete"] += 1
    return done


def run_sets(engine: Engine, keys: list[Any], value: bytes, seconds: float, rng: random.Random) -> dict[str, Any]:
    took = []
    clock = time.perf_counter
    end = clock() + seconds
    while (start := clock()) < end:
        if not engine.set(rng.choice(keys), value):
            raise Failure(f"{engine.name}: a set failed")
        took.append((clock() - start) * 1e6)
    return {"took": took}


def prepared(folder: Path, mode: str, name: str) -> Path:
    directory = made(folder / mode / name)
    with opened(name, str(directory)) as engine:
        timed("set new", engine, [engine.key(f"base-{index}") for index in range(10_000)], bytes(128))
    return directory


def mixed(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """4 processes, 90/9/1."""
    directories = {name: prepared(folder, "mixed", name) for name in options.engines}
    rates: dict[str, list[float]] = {name: [] for name in options.engines}
    for turn in range(options.turns):
        for name in options.engines:
            reports = team(name, directories[name], "mixed", 4, options, turn)
            rates[name].append(sum(report["get"] + report["set"] + report["delete"] for report in reports) / options.seconds)
    found = {name: summary(rate) for name, rate in rates.items()}
    print("\n4 processes, 90/9/1 get/set/delete, operations a second in all")
    for name, rate in found.items():
        print(f"  {name:13s} {rate['median']:12,.0f} ({rate['low']:,.0f}-{rate['high']:,.0f})")
    return found


def tail(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """8 processes that set."""
    directories = {name: prepared(folder, "tail", name) for name in options.engines}
    took: dict[str, list[float]] = {name: [] for name in options.engines}
    for turn in range(options.turns):
        for name in options.engines:
            for report in team(name, directories[name], "tail", 8, options, turn):
                took[name].extend(report["took"])
    found = {}
    print("\n8 processes that set 128 bytes, microseconds")
    for name, samples in took.items():
        samples.sort()
        found[name] = {
            "p50": samples[len(samples) // 2],
            "p99": samples[len(samples) * 99 // 100],
            "max": samples[-1],
            "sets": len(samples),
        }
        print("  {:13s} p50 {p50:9.1f}   p99 {p99:11.1f}   max {max:11.1f}   of {sets:,}".format(name, **found[name]))
    return found


# Opens a cache, looks one key up, then many; says how long the first took, what the process holds and how fast it is.
PROBE = """
import json, random, sys, time
from pathlib import Path
import diskcache_rs
directory, entries = sys.argv[1], int(sys.argv[2])
rng = random.Random(7)
start = time.perf_counter()
cache = diskcache_rs.Cache(directory)
first = cache.get("base-%d" % rng.randrange(entries))
opened = (time.perf_counter() - start) * 1e3
keys = ["base-%d" % rng.randrange(entries) for _ in range(40_000)]
assert first is not None and all(len(cache.get(key)) == 128 for key in keys)
memory = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
def best(call):
    took = []
    for _ in range(5):
        start = time.perf_counter()
        for key in keys[:20_000]:
            call(key)
        took.append((time.perf_counter() - start) / 20_000 * 1e6)
    return sorted(took)[2]
get = best(cache.get)
value = bytes(128)
set_ = best(lambda key: cache.set(key, value))
print(json.dumps({"open and first get ms": opened, "RssAnon MB": memory / 1000, "get us": get, "set us": set_}))
"""


def million(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """A million entries against ten thousand."""
    found: dict[str, Any] = {}
    for entries in (10_000, options.entries):
        directory = made(folder / f"entries-{entries}")
        start = time.perf_counter()
        with opened(OURS, str(directory)) as engine:
            timed("set new", engine, [f"base-{index}" for index in range(entries)], bytes(128))
        filled = time.perf_counter() - start
        opens = []
        for _ in range(5):
            done = subprocess.run([sys.executable, "-c", PROBE, str(directory), str(entries)], capture_output=True, text=True, check=True)
            opens.append(json.loads(done.stdout))
        found[str(entries)] = {name: statistics.median(probe[name] for probe in opens) for name in opens[0]} | {"filled s": filled}
        cells = "   ".join(f"{name} {value:.2f}" for name, value in found[str(entries)].items())
        print(f"\n{entries:,} entries: {cells}")
    small, large = found["10000"], found[str(options.entries)]
    found["ratio"] = {name: large[name] / small[name] for name in ("get us", "set us")}
    print("  against 10,000: get x{get us:.2f}, set x{set us:.2f}".format(**found["ratio"]))
    return found


def misses(report: dict[str, Any]) -> list[str]:
    """Return the targets that the report is below."""
    below = []

    def expect(met: bool, text: str) -> None:
        if not met:
            below.append(text)

    small = report.get("single", {}).get("128", {})
    for operation, factor in TARGETS.items():
        times = small.get(operation, {})
        if OURS in times and "diskcache" in times:
            ratio = times["diskcache"]["median"] / times[OURS]["median"]
            expect(ratio >= factor, f"{operation}: {ratio:.1f} times as fast as diskcache, wanted {factor}")
        if OURS in times and "lmdb" in times and operation in LMDB_TARGETS:
            ratio = times["lmdb"]["median"] / times[OURS]["median"]
            expect(ratio >= 1, f"{operation}: {ratio:.2f} times as fast as lmdb, wanted 1")
    rates = report.get("mixed", {})
    if OURS in rates and "diskcache" in rates:
        ratio = rates[OURS]["median"] / rates["diskcache"]["median"]
        expect(ratio >= 10, f"mixed: {ratio:.1f} times diskcache, wanted 10")
    tails = report.get("tail", {})
    if OURS in tails and "diskcache" in tails:
        ratio = tails["diskcache"]["p99"] / tails[OURS]["p99"]
        expect(ratio >= 10, f"p99 of set with 8 processes: 1/{ratio:.1f} of diskcache's, wanted 1/10")
    if "million" in report:
        large = next(found for entries, found in report["million"].items() if entries not in ("10000", "ratio"))
        ratios = report["million"]["ratio"]
        expect(large["open and first get ms"] <= 5, f"open and first get: {large['open and first get ms']:.1f} ms, wanted 5")
        expect(large["RssAnon MB"] <= 60, f"RssAnon: {large['RssAnon MB']:.0f} MB, wanted 60")
        expect(ratios["get us"] <= 1.5, f"get of a large cache: x{ratios['get us']:.2f}, wanted 1.5")
        expect(ratios["set us"] <= 2, f"set of a large cache: x{ratios['set us']:.2f}, wanted 2")
    return below


MODES = {"single": single, "mixed": mixed, "tail": tail, "million": million}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=[*MODES, "all", "_worker"])
    parser.add_argument("--engines", nargs="+", choices=list(OPENERS), default=list(OPENERS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[128, 4096, 65536])
    parser.add_argument("--rounds", type=int, default=15, help="rounds of `single`")
    parser.add_argument("--count", type=int, default=2000, help="operations of one kind in a round")
    parser.add_argument("--turns", type=int, default=3, help="turns of `mixed` and `tail`")
    parser.add_argument("--seconds", type=float, default=3, help="how long a turn is")
    parser.add_argument("--entries", type=int, default=1_000_000, help="entries of `million`")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", default=os.environ.get("TMPDIR"), help="where the caches are made")
    parser.add_argument("--json", help="write all numbers to this file")
    parser.add_argument("--check", action="store_true", help="exit with 1 below a target")
    parser.add_argument("--role", default="mixed", help=argparse.SUPPRESS)
    parser.add_argument("--directory", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.mode == "_worker":
        work(options)
        return 0
    folder = Path(tempfile.mkdtemp(prefix="compare-", dir=options.folder))
    report: dict[str, Any] = {}
    try:
        for mode in MODES if options.mode == "all" else [options.mode]:
            report[mode] = MODES[mode](options, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    below = misses(report)
    report["below target"] = below
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n")
    if options.check:
        print("\n" + "\n".join(f"below target: {text}" for text in below) if below else "\nevery target is met")
    return 1 if options.check and below else 0


if __name__ == "__main__":
    sys.exit(main())
