"""The command line: `python -m bench`, or `./ci/bench`."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from . import crowd, hits, scale, single, space
from .engines import OURS, available
from .results import Results, say

PARTS: dict[str, tuple[ModuleType, str]] = {
    "single": (single, "one process: every operation, 128 B to 1 MiB, engines in turns"),
    "crowd": (
        crowd,
        "1 to 8 processes and threads at once: rates and latencies, tails, python-diskcache's own workload, synced writes",
    ),
    "space": (space, "memory, room on the disk, bytes written a byte stored"),
    "hits": (hits, "hit ratios of the eviction policies beside LRU and the optimum"),
    "scale": (scale, "many entries against ten thousand"),
}


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="bench",
        description="Benchmarks through Python, of DiskCache RS beside python-diskcache, LMDB and RocksDB. Ratios are of one run, in which "
        "the engines took turns; every operation's success is counted, and a row in which one failed is void.",
    )
    commands = top.add_subparsers(dest="part", metavar="PART", required=True)
    for name, (module, text) in PARTS.items():
        one = commands.add_parser(name, help=text, description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        common(one)
        module.add_arguments(one)
    everything = commands.add_parser("all", help="all of these, with their defaults", description="All parts, with their defaults.")
    common(everything)
    everything.add_argument("--quick", action="store_true", help="few and short rounds: to see that it works, not to quote")
    return top


def common(one: argparse.ArgumentParser) -> None:
    one.add_argument("--engines", nargs="+", choices=available(), default=available(), metavar="NAME", help=", ".join(available()))
    one.add_argument(
        "--folder",
        type=Path,
        default=None,
        help="where the caches are made (default: the system's folder for temporary files)",
    )
    one.add_argument("--json", type=Path, default=Path("target/reports/bench/results.json"), help="where the results are written")
    one.add_argument("--seed", type=int, default=1, help="of keys, values and the order of turns")
    one.add_argument("--check", action="store_true", help="end with 1 when a figure is short of its bar, or a row is void")


QUICK = {
    "single": ["--rounds", "3", "--sizes", "128", "65536"],
    "crowd": ["--workers", "1", "2", "--turns", "1", "--seconds", "0.3"],
    "space": ["--passes", "1"],
    "hits": ["--length", "20000"],
    "scale": ["--entries", "100000"],
}


def run(options: argparse.Namespace, results: Results, folder: Path) -> None:
    for name, (module, text) in PARTS.items():
        if options.part not in (name, "all"):
            continue
        mine = options
        if options.part == "all":
            shared = ["--engines", *options.engines, "--seed", str(options.seed)]
            mine = parser().parse_args([name, *shared, *(QUICK[name] if options.quick else [])])
        say(f"\n{name}: {text}")
        random.seed(mine.seed)
        module.run(mine, folder / name, results)


def main() -> int:
    """Measure, print, and write the results."""
    if sys.argv[1:2] and sys.argv[1] in HELPERS:
        HELPERS[sys.argv[1]](*sys.argv[2:])
        return 0
    options = parser().parse_args()
    if OURS not in available():
        raise SystemExit("diskcache_rs is not installed here: ./ci/setup builds and installs it")
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=options.folder))
    results = Results(["./ci/bench", *sys.argv[1:]], folder)
    try:
        run(options, results, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        results.save(options.json)
    missed = results.missed()
    met = sum(fact["met"] is True for fact in results.facts)
    say(f"\n{met} bars met, {len(missed)} missed, {len(results.void)} rows void; {options.json}")
    for fact in missed:
        to_be = "at most" if fact["at_most"] else "at least"
        say(f"  missed: {fact['name']}: {fact['value']:,.2f} {fact['unit']}, to be {to_be} {fact['bar']:g}")
    return 1 if options.check and (missed or results.void) else 0


# The processes that the parts start, each a call of this program.
HELPERS: dict[str, Callable[..., None]] = {"_worker": crowd.worker, "_space": space.work, "_scale": scale.work}

if __name__ == "__main__":
    sys.exit(main())
