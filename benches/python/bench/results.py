"""What was measured, as data with a version, and as tables in the terminal."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from .engines import versions
from .loops import Failed

VERSION = 1
T = TypeVar("T")


class Results:
    """Collects rows, latency tables, curves and facts. Each is printed as it comes."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self.rows: list[dict[str, Any]] = []
        self.latencies: list[dict[str, Any]] = []
        self.curves: list[dict[str, Any]] = []
        self.facts: list[dict[str, Any]] = []
        self.void: list[str] = []
        self.started = time.time()
        self.command = list(command)
        self.folder = folder

    def row(
        self,
        group: str,
        operation: str,
        size: int,
        engine: str,
        unit: str,
        figures: dict[str, float],
        ratios: dict[str, dict[str, float]],
    ) -> None:
        """Add a figure of one engine. `ratios`: by other engine, how many times as slow that is."""
        self.rows.append(
            {
                "group": group,
                "operation": operation,
                "size_bytes": size,
                "engine": engine,
                "unit": unit,
                **figures,
                "ratio_to": ratios,
            }
        )
        beside = "   ".join(f"x{r['ratio']:.2f} ({r['ci_low']:.2f}-{r['ci_high']:.2f}) of {other}" for other, r in ratios.items())
        say(
            f"  {operation:10s} {size:>8d} B  {engine:20s} {figures['median']:14,.0f} {unit} "
            f"({figures['low']:,.0f}-{figures['high']:,.0f})  {beside}"
        )

    def latency(self, group: str, engine: str, action: str, figures: dict[str, float]) -> None:
        """Add a line of a latency table, in microseconds; `total` in seconds."""
        self.latencies.append({"group": group, "engine": engine, "action": action, **figures})

    def curve(self, title: str, x: str, y: str, series: dict[str, list[tuple[float, float]]]) -> None:
        self.curves.append({"title": title, "x": x, "y": y, "series": series})
        say(f"  {title}")
        for name, points in series.items():
            say("    " + f"{name:30s} " + "  ".join(f"{x:g}: {y:.3f}" for x, y in points))

    def fact(self, name: str, value: float, unit: str, bar: float | None = None, *, most: bool = False) -> None:
        """Add a figure by itself. `bar`: what it is to be at least, or with `most` at most."""
        met = None if bar is None else (value <= bar if most else value >= bar)
        self.facts.append({"name": name, "value": value, "unit": unit, "bar": bar, "at_most": most, "met": met})
        if bar is not None:
            say(f"  {'met    ' if met else 'MISSED '} {name}: {value:,.2f} {unit}, to be {'at most' if most else 'at least'} {bar:g}")
        else:
            say(f"  {name}: {value:,.2f} {unit}")

    def unless_void(self, what: str, measure: Callable[[], T]) -> T | None:
        """Measure; if an operation fails, its row is void, which is said and kept."""
        if any(row.startswith(what + ":") for row in self.void):
            return None
        try:
            return measure()
        except Failed as failure:
            self.void.append(f"{what}: {failure}")
            say(f"  VOID {what}: {failure}")
            return None

    def progress(self, items: Sequence[T], what: str) -> Iterator[T]:
        """Go through the items, and show in the terminal's last line how far."""
        for number, item in enumerate(items):
            if sys.stderr.isatty():
                sys.stderr.write(f"\r\x1b[K{what}: {number + 1} of {len(items)}, {item}")
                sys.stderr.flush()
            yield item
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")

    def missed(self) -> list[dict[str, Any]]:
        return [fact for fact in self.facts if fact["met"] is False]

    def as_data(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "kind": "bench",
            "started": self.started,
            "seconds": time.time() - self.started,
            "environment": environment(self.command, self.folder),
            "rows": self.rows,
            "latencies": self.latencies,
            "curves": self.curves,
            "facts": self.facts,
            "void": self.void,
        }

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.as_data(), indent=1) + "\n")


def say(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
    print(text, flush=True)


def environment(command: Iterable[str], folder: Path) -> dict[str, Any]:
    """Say on what it was measured."""
    return {
        "kernel": platform.release(),
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1_000_000,
        "file_system": file_system(folder),
        "python": platform.python_version(),
        "versions": versions(),
        "command": " ".join(command),
    }


def cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def file_system(folder: Path) -> str:
    """Return the type of the file system that holds a folder: of the longest mount point that leads to it."""
    best = ("", "unknown")
    there = str(folder.resolve())
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        point = before.split()[4]
        if (there == point or there.startswith(point.rstrip("/") + "/")) and len(point) >= len(best[0]):
            best = (point, after.split()[0])
    return best[1]
