"""Many processes or threads on one cache: how much they do in all, and how long single calls take.

Each worker knows its keys and values before the clock starts. A hit is compared with the one value that all keys have; a set must say that
it was done. The tables have the columns that python-diskcache publishes for its own benchmarks, and two more percentiles.
"""

from __future__ import annotations

import argparse
import bisect
import itertools
import json
import random
import subprocess
import sys
import tempfile
import threading
from array import array
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import Any

from .engines import OURS, UPSTREAM, Engine, open_engine
from .loops import Failed
from .results import Results, say
from .statistic import percentile, ratio, spread

ACTIONS = ("get", "set", "delete")
MIXES = {"90/9/1": (0.90, 0.99), "50/50": (0.50, 1.0), "sets": (0.0, 1.0)}
"""By name: up to which random number in [0, 1) an operation is a get, and up to which a set; above it is a delete."""
ONE_PROCESS = ("rocksdict",)
"""What only one process at a time can open."""
CHUNK = 256
"""Operations between two looks at the clock that ends the run."""
ZIPF_EXPONENT = 1.0


@dataclass(frozen=True)
class Job:
    """What one worker process does."""

    engine: str
    directory: str
    mix: str
    keys: int
    zipf: bool
    size: int
    seconds: float
    operations: int
    threads: int
    durability: str
    seed: int
    vary: bool = False
    """Values of many lengths up to `size`, each the beginning of one text."""


def plan(job: Job, seed: int) -> list[tuple[int, int]]:
    """Return operations as pairs of action and key, enough to go round several times in no order that repeats soon."""
    rng = random.Random(seed)
    gets, sets = MIXES[job.mix]
    many = 32_768
    if job.zipf:
        weights = list(itertools.accumulate(1 / rank**ZIPF_EXPONENT for rank in range(1, job.keys + 1)))
        # Which key has which rank is shuffled, alike in every process: neighbours in rank must not be neighbours in the file.
        order = random.Random(7).sample(range(job.keys), job.keys)
        keys = [order[bisect.bisect_left(weights, rng.random() * weights[-1])] for _ in range(many)]
    else:
        keys = [rng.randrange(job.keys) for _ in range(many)]
    actions = [0 if dice < gets else 1 if dice < sets else 2 for dice in (rng.random() for _ in range(many))]
    return list(zip(actions, keys, strict=True))


@dataclass
class Took:
    """What one thread measured: nanoseconds of every call by action, and how many of each found nothing."""

    times: tuple[array[int], array[int], array[int]]
    misses: list[int]


def work(engine: Engine, job: Job, seed: int, start: threading.Barrier) -> Took:
    """Do the mix until the time is over or the operations are done."""
    whole = random.Random(7).randbytes(job.size)
    lengths = random.Random(seed)
    values = [whole[: lengths.randrange(1, job.size)] if job.vary else whole for _ in range(64)]
    steps = [(action, engine.key(key), values[number % 64]) for number, (action, key) in enumerate(plan(job, seed))]
    took = Took((array("q"), array("q"), array("q")), [0, 0, 0])
    get, set_, delete, clock = engine.get, engine.set, engine.delete, perf_counter_ns
    note = [times.append for times in took.times]
    left = job.operations or 1 << 62
    start.wait()
    end = perf_counter() + job.seconds
    for first in itertools.cycle(range(0, len(steps), CHUNK)):
        for action, key, value in steps[first : first + min(CHUNK, left)]:
            begun = clock()
            if action == 0:
                found = get(key)
                note[0](clock() - begun)
                if found is None:
                    took.misses[0] += 1
                elif not whole.startswith(found) or (len(found) != job.size and not job.vary):
                    raise Failed(f"{engine.name}: a wrong value")
            elif action == 1:
                done = set_(key, value)
                note[1](clock() - begun)
                if not done:
                    raise Failed(f"{engine.name}: a set failed")
            else:
                done = delete(key)
                note[2](clock() - begun)
                took.misses[2] += not done
        left -= CHUNK
        if left <= 0 or perf_counter() >= end:
            break
    return took


def worker() -> None:
    """Be one worker process: the job on standard input, `go` behind it, samples into files, counts on standard output."""
    request = json.loads(sys.stdin.readline())
    job, out = Job(**request["job"]), Path(request["out"])
    engine = open_engine(job.engine, Path(job.directory), "host" if job.durability == "host" else "process")
    start = threading.Barrier(job.threads + 1)
    done: list[Took | BaseException] = []

    def one(number: int) -> None:
        try:
            done.append(work(engine, job, job.seed + number, start))
        except BaseException as failure:
            done.append(failure)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(job.threads)]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    sys.stdin.readline()
    start.wait()
    begun = perf_counter()
    for thread in threads:
        thread.join()
    took = perf_counter() - begun
    engine.close()
    if failures := [each for each in done if isinstance(each, BaseException)]:
        print(json.dumps({"failure": str(failures[0])}), flush=True)
        return
    whole = [each for each in done if isinstance(each, Took)]
    for index, action in enumerate(ACTIONS):
        with (out / f"{job.seed}.{action}").open("wb") as file:
            for each in whole:
                each.times[index].tofile(file)
    print(json.dumps({"seconds": took, "misses": [sum(each.misses[i] for each in whole) for i in range(3)]}), flush=True)


@dataclass
class Run:
    """What a whole team did in one turn."""

    rate: float
    times: list[list[int]]
    misses: list[int]


def team(job: Job, processes: int) -> Run:
    """Run worker processes at once; return operations a second in all, and what each took."""
    command = [sys.executable, "-m", "bench", "_worker"]
    workers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    try:
        with tempfile.TemporaryDirectory() as out:
            return conducted(job, workers, Path(out))
    finally:
        for process in workers:  # those that are left when one of them failed
            process.kill()
            process.wait()


def conducted(job: Job, workers: list[subprocess.Popen[str]], out: Path) -> Run:
    """Let the workers begin at once, and collect what they measured."""
    for number, process in enumerate(workers):
        mine = asdict(job) | {"seed": job.seed + 1000 * number}
        tell(process, json.dumps({"job": mine, "out": str(out)}))
    for process in workers:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise Failed(f"{job.engine}: a worker did not start")
    for process in workers:
        tell(process, "go")
    reports: list[dict[str, Any]] = []
    for process in workers:
        answer, _ = process.communicate(timeout=job.seconds * 10 + 300)
        if process.returncode != 0 or "failure" in (report := json.loads(answer)):
            raise Failed(f"{job.engine}: a worker failed: {answer.strip()}")
        reports.append(report)
    times = [[took for path in out.glob(f"*.{action}") for took in samples(path)] for action in ACTIONS]
    rate = sum(map(len, times)) / max(report["seconds"] for report in reports)
    return Run(rate, times, [sum(report["misses"][index] for report in reports) for index in range(3)])


def tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def samples(path: Path) -> array[int]:
    found = array("q")
    found.frombytes(path.read_bytes())
    return found


def figures(times: list[int], misses: int) -> dict[str, float]:
    """Return a line of a latency table: microseconds, `total` in seconds."""
    ordered = sorted(times)
    shares = {"median": 0.5, "p90": 0.9, "p99": 0.99, "p99_9": 0.999, "p99_99": 0.9999, "max": 1.0}
    line = {name: percentile(ordered, share) / 1e3 for name, share in shares.items()}
    return {"count": len(ordered), "miss": misses, **line, "total": sum(ordered) / 1e9}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8], metavar="N", help="how many at once")
    parser.add_argument("--kinds", nargs="+", choices=["processes", "threads"], default=["processes", "threads"])
    parser.add_argument("--mixes", nargs="+", choices=list(MIXES), default=["90/9/1", "50/50"])
    parser.add_argument("--distributions", nargs="+", choices=["uniform", "zipf"], default=["uniform", "zipf"], help="of keys")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each turn (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="turns of each engine (default: %(default)s)")


def run(options: argparse.Namespace, folder: Path, results: Results) -> None:
    """The whole grid."""
    engines = [name for name in options.engines if name != "floor"]
    directories = filled(engines, folder / "crowd", keys=10_000, size=128)
    grid = [
        (kind, workers, mix, distribution)
        for kind in options.kinds
        for workers in options.workers
        for mix in options.mixes
        for distribution in options.distributions
        if kind == "processes" or workers > 1
    ]
    for kind, workers, mix, distribution in results.progress(grid, "crowd"):
        group = f"{workers} {kind if workers > 1 else kind.removesuffix('es')}, {mix}, {distribution} keys"
        base = Job("", "", mix, 10_000, distribution == "zipf", 128, options.seconds, 0, 1, "process", options.seed)
        rates = compare(options, engines, directories, base, kind, workers, group, results)
        if kind == "processes" and workers == 4 and mix == "90/9/1" and distribution == "uniform" and OURS in rates and UPSTREAM in rates:
            results.fact(f"{group}: operations a second", spread(rates[OURS])["median"], "/s", 500_000)
            results.fact(f"{group}: times as many as {UPSTREAM}", ratio(rates[OURS], rates[UPSTREAM])["ratio"], "x", 20)
    tails(options, engines, directories, results)
    classic(options, engines, folder, results)
    syncs(options, folder, results)


def filled(engines: list[str], folder: Path, *, keys: int, size: int) -> dict[str, Path]:
    found = {}
    for name in engines:
        found[name] = folder / name
        engine = open_engine(name, found[name])
        value = random.Random(7).randbytes(size)
        done = engine.set_many([(engine.key(number), value) for number in range(keys)])
        engine.close()
        if done != keys:
            raise Failed(f"{name}: filled {done} of {keys}")
    return found


def compare(
    options: argparse.Namespace,
    engines: list[str],
    directories: dict[str, Path],
    base: Job,
    kind: str,
    workers: int,
    group: str,
    results: Results,
) -> dict[str, list[float]]:
    """Let engines take turns; return operations a second in all by engine, a number a turn."""
    if kind == "processes" and workers > 1:
        engines = [name for name in engines if name not in ONE_PROCESS]
    runs: dict[str, list[Run]] = {name: [] for name in engines}
    rng = random.Random(options.seed)
    for turn in range(options.turns):
        for name in rng.sample(engines, len(engines)):
            threads, processes = (workers, 1) if kind == "threads" else (1, workers)
            job = Job(
                **(
                    asdict(base)
                    | {
                        "engine": name,
                        "directory": str(directories[name]),
                        "threads": threads,
                        "seed": base.seed + 7919 * turn,
                    }
                )
            )
            done = results.unless_void(f"{group}, {name}", partial(team, job, processes))
            if done is not None:
                runs[name].append(done)
    whole = {name: found for name, found in runs.items() if len(found) == options.turns}
    say(f"\n  {group}")
    rates = {name: [each.rate for each in found] for name, found in whole.items()}
    for name, found in whole.items():
        ratios = {other: ratio(rates[OURS], rates[other]) for other in rates if other != OURS} if name == OURS else {}
        results.row(group, "all", base.size, name, "/s", spread(rates[name]), ratios)
        table(group, name, found, results)
    return rates


def table(group: str, name: str, runs: list[Run], results: Results) -> None:
    for index, action in enumerate(ACTIONS):
        times = [took for each in runs for took in each.times[index]]
        if times:
            line = figures(times, sum(each.misses[index] for each in runs))
            results.latency(group, name, action, line)
            shown = "  ".join(f"{column} {line[column]:,.1f}" for column in ("median", "p90", "p99", "p99_9", "max"))
            say(f"    {name:20s} {action:7s} {int(line['count']):>9,}  miss {int(line['miss']):>7,}  us: {shown}")


def tails(options: argparse.Namespace, engines: list[str], directories: dict[str, Path], results: Results) -> None:
    """8 processes that do nothing but set: how long the slowest hundredth waits."""
    group = "8 processes, sets only"
    base = Job("", "", "sets", 10_000, False, 128, options.seconds, 0, 1, "process", options.seed)
    compare(options, engines, directories, base, "processes", 8, group, results)
    lines = {line["engine"]: line for line in results.latencies if line["group"] == group and line["action"] == "set"}
    if OURS in lines and UPSTREAM in lines:
        results.fact(f"{group}: p99 of {UPSTREAM}, times ours", lines[UPSTREAM]["p99"] / lines[OURS]["p99"], "x", 20)


def classic(options: argparse.Namespace, engines: list[str], folder: Path, results: Results) -> None:
    """The workload of python-diskcache's own `benchmark_core`: 8 processes, 100,000 operations each, 100 keys, short values."""
    directories = filled(engines, folder / "classic", keys=100, size=500)
    base = Job("", "", "90/9/1", 100, False, 500, 600, 100_000, 1, "process", options.seed, vary=True)
    once = argparse.Namespace(**(vars(options) | {"turns": 1}))
    compare(once, engines, directories, base, "processes", 8, "python-diskcache's benchmark_core", results)


def syncs(options: argparse.Namespace, folder: Path, results: Results) -> None:
    """Writes that are synced before they are acknowledged: threads that wait at once share a sync."""
    engines = [name for name in options.engines if name in (OURS, UPSTREAM, "lmdb")]
    directories = filled(engines, folder / "crowd-synced", keys=1_000, size=128)
    rates: dict[int, dict[str, list[float]]] = {}
    for threads in (1, 8):
        group = f"{threads} thread{'s' if threads > 1 else ''}, sets only, every one synced"
        base = Job("", "", "sets", 1_000, False, 128, options.seconds, 0, 1, "host", options.seed)
        rates[threads] = compare(options, engines, directories, base, "threads", threads, group, results)
    if OURS in rates[1] and OURS in rates[8]:
        results.fact("synced sets of 8 threads, times those of one", ratio(rates[8][OURS], rates[1][OURS])["ratio"], "x", 3)
