"""Many entries on one machine: does anything grow that should not?"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from array import array
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import Any

from .engines import OURS, open_engine, text_key
from .loops import Failed
from .results import Results
from .space import anonymous, disk
from .statistic import percentile

VALUE = 100
SMALL = 10_000
BATCH = 5_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--entries",
        type=int,
        default=1_000_000,
        help="how many, of 100 bytes each (default: %(default)s; the bars are for 10,000,000)",
    )


def run(options: argparse.Namespace, folder: Path, results: Results) -> None:
    """Load, open, read, write, overwrite all, and walk, each beside a cache of ten thousand."""
    many: int = options.entries
    small, large = folder / "scale-small", folder / "scale-large"
    load(small, SMALL)
    seconds = load(large, many)
    name = f"{many:,} entries"
    results.fact(f"{name}: load by set_many", seconds, "s", 60 * many / 10_000_000, most=True)
    probes = [[child("probe", where, entries) for _ in range(5)] for where, entries in ((small, SMALL), (large, many))]
    few, lots = ({key: sorted(each[key] for each in found)[2] for key in found[0]} for found in probes)
    results.fact(f"{name}: open and first get", lots["open"], "ms", 10, most=True)
    results.fact(f"{name}: get hit, times that of {SMALL:,}", lots["get"] / few["get"], "x", 2, most=True)
    results.fact(f"{name}: set, times that of {SMALL:,}", lots["set"] / few["set"], "x", 2, most=True)
    results.fact(f"{name}: iterate, a key, times that of {SMALL:,}", lots["iterate"] / few["iterate"], "x", 2, most=True)
    results.fact(f"{name}: anonymous memory of a reader", lots["memory"], "MB", 200, most=True)
    overwritten = child("overwrite", large, many)
    results.fact(f"{name}: overwrite, all once", overwritten["seconds"], "s")
    for column in ("median", "p99", "p99_9", "p99_99"):
        results.fact(f"{name}: overwrite, {column}", overwritten[column], "us")
    results.fact(f"{name}: longest overwrite", overwritten["max"] / 1e3, "ms", 50, most=True)
    live = many * (VALUE + len(text_key(0)))
    results.fact(f"{name}: disk after overwriting all, a live byte", disk(large) / live, "x", 2.2, most=True)


def load(directory: Path, entries: int) -> float:
    engine = open_engine(OURS, directory)
    value = random.Random(1).randbytes(VALUE)
    start = perf_counter()
    done = 0
    for first in range(0, entries, BATCH):
        done += engine.set_many([(text_key(number), value) for number in range(first, min(first + BATCH, entries))])
    engine.close()
    if done != entries:
        raise Failed(f"{done} of {entries} entries were loaded")
    return perf_counter() - start


def child(role: str, directory: Path, entries: int) -> dict[str, Any]:
    """Measure in a process of its own: its memory and its first call count."""
    command = [sys.executable, "-m", "bench", "_scale", role, str(directory), str(entries)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(done.stderr.strip())
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def work(role: str, directory: str, entries: str) -> None:
    """Be the process that is measured."""
    measured = probe(Path(directory), int(entries)) if role == "probe" else overwrite(Path(directory), int(entries))
    print(json.dumps(measured))


def probe(directory: Path, entries: int) -> dict[str, float]:
    rng = random.Random()
    start = perf_counter()
    engine = open_engine(OURS, directory)
    first = engine.get(text_key(rng.randrange(entries)))
    opened = (perf_counter() - start) * 1e3
    keys = [text_key(rng.randrange(entries)) for _ in range(50_000)]
    if first is None or not all(engine.get(key) for key in keys[:40_000]):
        raise Failed("an entry is missing")
    memory = anonymous() / 1e6
    get, set_, value = engine.get, engine.set, first
    start = perf_counter()
    for key in keys:
        get(key)
    got = perf_counter()
    for key in keys:
        set_(key, value)
    stored = perf_counter()
    found = engine.keys()
    walked = perf_counter()
    engine.close()
    if found != entries:
        raise Failed(f"walked over {found} keys of {entries}")
    return {
        "open": opened,
        "memory": memory,
        "get": (got - start) / len(keys),
        "set": (stored - got) / len(keys),
        "iterate": (walked - stored) / found,
    }


def overwrite(directory: Path, entries: int) -> dict[str, float]:
    """Set as often as there are entries, at random, one by one."""
    rng = random.Random(5)
    engine = open_engine(OURS, directory)
    value, took = random.Random(2).randbytes(VALUE), array("q")
    note, set_, clock = took.append, engine.set, perf_counter_ns
    start = perf_counter()
    for _ in range(entries):
        key = text_key(rng.randrange(entries))
        begun = clock()
        done = set_(key, value)
        note(clock() - begun)
        if not done:
            raise Failed(f"{key} was not set")
    seconds = perf_counter() - start
    engine.close()
    ordered = sorted(took)
    shares = {"median": 0.5, "p99": 0.99, "p99_9": 0.999, "p99_99": 0.9999, "max": 1.0}
    return {"seconds": seconds} | {name: percentile(ordered, share) / 1e3 for name, share in shares.items()}
