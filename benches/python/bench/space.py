"""What a cache takes: memory of a process, room on the disk, and bytes written for each byte stored.

Each figure is that of a process of its own, by the kernel's accounts: `RssAnon` for memory, the blocks of all files for the disk, and
`write_bytes` for what went to the disk (pages of mapped files too), up to the sync at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from .engines import open_engine
from .loops import Failed
from .results import Results

SIZES = {128: 100_000, 4096: 20_000, 65536: 1_500}
"""Bytes of a value, and how many entries of them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--passes",
        type=int,
        default=3,
        help="how often every entry is overwritten, in random order (default: %(default)s)",
    )


def run(options: argparse.Namespace, folder: Path, results: Results) -> None:
    names = [name for name in options.engines if name != "floor"]
    for size, entries in SIZES.items():
        for name in results.progress(names, f"space, {size} bytes"):
            directory = folder / f"space-{size}" / name
            group = f"space, {entries:,} entries"
            written = results.unless_void(
                f"{group}, {size} bytes, {name}", partial(child, "write", name, directory, size, entries, options.passes)
            )
            if written is None:
                continue
            live = entries * size
            read = child("read", name, directory, size, entries, 0)
            for operation, unit, value in [
                ("bytes written a byte set", "x", written["written"] / (live * (1 + options.passes))),
                ("disk a byte that lives", "x", disk(directory) / live),
                ("memory of a reader", "MB", read["anonymous"] / 1e6),
            ]:
                results.row(group, operation, size, name, unit, {"median": value, "low": value, "high": value, "samples": 1}, {})


def child(role: str, name: str, directory: Path, size: int, entries: int, passes: int) -> dict[str, Any]:
    command = [
        sys.executable,
        "-m",
        "bench",
        "_space",
        role,
        name,
        str(directory),
        str(size),
        str(entries),
        str(passes),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"{name}: {done.stderr.strip().splitlines()[-1:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def work(role: str, name: str, directory: str, size: str, entries: str, passes: str) -> None:
    """Be the process that is measured."""
    rng = random.Random(3)
    engine = open_engine(name, Path(directory))
    keys = [engine.key(number) for number in range(int(entries))]
    value = rng.randbytes(int(size))
    if role == "read":
        found = sum(engine.get(key) == value for key in rng.choices(keys, k=40_000))
        if found != 40_000:
            raise Failed(f"{name}: {40_000 - found} of 40,000 reads failed")
        print(json.dumps({"anonymous": anonymous()}))
        engine.close()
        return
    before = written()
    done = sum(engine.set(key, value) for key in keys)
    for _ in range(int(passes)):
        done += sum(engine.set(key, value) for key in rng.sample(keys, len(keys)))
    if done != len(keys) * (1 + int(passes)):
        raise Failed(f"{name}: sets failed")
    engine.close()
    os.sync()
    print(json.dumps({"written": written() - before}))


def anonymous() -> int:
    """Return the bytes of memory that are this process's alone and back no file."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise Failed("the kernel does not tell RssAnon")


def written() -> int:
    """Return the bytes that this process caused to be written to disks."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    raise Failed("the kernel does not tell write_bytes")


def disk(directory: Path) -> int:
    """Return the bytes that the files of a folder take on the disk."""
    return sum(path.stat().st_blocks * 512 for path in directory.rglob("*") if path.is_file())
