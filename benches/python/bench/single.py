"""One process: every operation on values of several sizes, engines in turns."""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from .engines import OURS, UPSTREAM
from .loops import OPERATIONS, Bench
from .results import Results
from .statistic import ratio, spread

# How many times as fast as python-diskcache an operation is to be, by bytes of a value, and as LMDB.
BARS: dict[tuple[str, int], tuple[float | None, float | None]] = {
    ("get hit", 128): (15, 2),
    ("get hit", 65536): (4, 1),
    ("get hit", 1048576): (3.5, 1),
    ("get miss", 128): (12, None),
    ("set new", 128): (25, 1),
    ("set new", 65536): (15, None),
    ("set new", 1048576): (10, None),
    ("overwrite", 128): (25, 1),
    ("overwrite", 65536): (15, None),
    ("overwrite", 1048576): (10, None),
    ("delete", 128): (25, None),
    ("delete", 65536): (30, None),
    ("delete", 1048576): (30, None),
    ("incr", 128): (15, None),
    ("bulk set", 128): (40, None),
    ("iterate", 128): (5, None),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 4096, 65536, 1048576], metavar="BYTES", help="of a value")
    parser.add_argument(
        "--operations",
        nargs="+",
        choices=OPERATIONS,
        default=list(OPERATIONS),
        metavar="NAME",
        help=", ".join(OPERATIONS),
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=15,
        help="how often each engine has its turn at each operation (default: %(default)s)",
    )
    parser.add_argument(
        "--durability",
        choices=["process", "host"],
        default="process",
        help="host: every write is synced, in every engine",
    )


def turn_of(operation: str, size: int, durability: str) -> int:
    """Return how many operations one turn has: tens of milliseconds of the slower engines."""
    if operation == "open":
        return 3
    if durability == "host":
        return 20
    return max(8, min(5_000, (8 << 20) // size))


def run(options: argparse.Namespace, folder: Path, results: Results) -> None:
    for size in options.sizes:
        with benches(options, folder / f"single-{size}", size) as found:
            samples = rounds(options, found, size, results)
        report(options, size, samples, results)


@contextmanager
def benches(options: argparse.Namespace, folder: Path, size: int) -> Iterator[list[Bench]]:
    """Open every engine, filled."""
    found: list[Bench] = []
    try:
        for name in options.engines:
            found.append(Bench(name, folder / name, size, durability=options.durability, seed=options.seed))
        yield found
    finally:
        for bench in found:
            bench.close()


def rounds(options: argparse.Namespace, found: list[Bench], size: int, results: Results) -> dict[str, dict[str, list[float]]]:
    """Return nanoseconds an operation, by operation and engine, a number a round; what fails is void and has none."""
    rng = random.Random(options.seed)
    samples: dict[str, dict[str, list[float]]] = {}
    for operation in results.progress([o for o in OPERATIONS if o in options.operations], f"{size} bytes"):
        times = turn_of(operation, size, options.durability)
        taking_part = [bench for bench in found if bench.has(operation)]
        for _ in range(options.rounds):
            for bench in rng.sample(taking_part, len(taking_part)):
                took = results.unless_void(f"{operation}, {size} bytes, {bench.name}", partial(turn, bench, operation, times))
                if took is not None:
                    samples.setdefault(operation, {}).setdefault(bench.name, []).append(took)
    return samples


def turn(bench: Bench, operation: str, times: int) -> float:
    """One engine's turn: a tenth unmeasured, since the engine before it has had the processor's caches."""
    if operation not in ("open", "iterate", "bulk set"):
        bench.run(operation, max(1, times // 10))
    took, done = bench.measured(operation, times)
    return took / done


def report(options: argparse.Namespace, size: int, samples: dict[str, dict[str, list[float]]], results: Results) -> None:
    group = "one process" if options.durability == "process" else "one process, every write synced"
    for operation, engines in samples.items():
        whole = {name: took for name, took in engines.items() if len(took) == options.rounds}
        for name, took in whole.items():
            ratios: dict[str, Any] = {}
            if name == OURS:
                ratios = {other: ratio(whole[other], took) for other in whole if other not in (OURS, "floor")}
            results.row(group, operation, size, name, "ns", spread(took), ratios)
        if options.durability != "process" or OURS not in whole:
            continue
        for rival, bar in zip((UPSTREAM, "lmdb"), BARS.get((operation, size), (None, None)), strict=True):
            if bar is not None and rival in whole:
                results.fact(
                    f"{operation}, {size} bytes: times as fast as {rival}",
                    ratio(whole[rival], whole[OURS])["ratio"],
                    "x",
                    bar,
                )
