"""The figures of the READMEs, out of a file of results: never by hand."""
# ruff: noqa: RUF001 (one of them is in Chinese)

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .engines import OURS, UPSTREAM
from .results import VERSION

BEGIN, END = "<!-- figures of ./ci/bench --readme: begin -->", "<!-- end -->"
RIVALS = {UPSTREAM: "python-diskcache", "lmdb": "LMDB"}

TEXTS = {
    "README.md": {
        "intro": "How many times as fast as {rivals}, one process on a local disk ({fs}), through Python; medians of {command}, with "
        "95 % intervals of the paired rounds. {date}, {cpu}, {cores} cores, Python {python}.",
        "operation": "operation",
        "facts": "Goals of the same run that were missed: {missed}.",
        "none": "No goal of the same run was missed.",
        "sep": ", ",
    },
    "README.zh-CN.md": {
        "intro": "单进程、本地磁盘（{fs}）、经由 Python，速度是 {rivals} 的多少倍；{command} 的中位数，附成对轮次的 95% 置信区间。"
        "{date}，{cpu}，{cores} 核，Python {python}。",
        "operation": "操作",
        "facts": "同一次运行中未达到的目标：{missed}。",
        "none": "同一次运行中没有未达到的目标。",
        "sep": "；",
    },
}


def size_of(size: int) -> str:
    """Write a length as people say it."""
    for unit, bytes_ in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= bytes_ and size % bytes_ == 0:
            return f"{size // bytes_} {unit}"
    return f"{size} B"


def figure(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 3 else f"{value:.2f}"


def table(data: dict[str, Any], texts: dict[str, str]) -> str:
    """Return the lines that go between the marks of one README."""
    rows = [row for row in data["rows"] if row["engine"] == OURS and row["group"] == "one process" and row["ratio_to"]]
    if not rows:
        raise SystemExit("the results hold no figures of one process: measure with `./ci/bench single` first")
    sizes = sorted({row["size_bytes"] for row in rows})
    operations = list(dict.fromkeys(row["operation"] for row in rows))
    columns = [(size, rival) for size in sizes for rival in RIVALS if any(rival in r["ratio_to"] for r in rows if r["size_bytes"] == size)]
    cells = {(row["operation"], row["size_bytes"], rival): ratio for row in rows for rival, ratio in row["ratio_to"].items()}

    def cell(operation: str, size: int, rival: str) -> str:
        ratio = cells.get((operation, size, rival))
        return f"{figure(ratio['ratio'])} ({figure(ratio['ci_low'])}-{figure(ratio['ci_high'])})" if ratio else ""

    where = data["environment"]
    intro = texts["intro"].format(
        rivals=" / ".join(RIVALS.values()),
        fs=where["file_system"],
        command=f"`{where['command']}`",
        date=datetime.fromtimestamp(data["started"], UTC).date().isoformat(),
        cpu=where["cpu"],
        cores=where["cores"],
        python=where["python"],
    )
    lines = [
        intro,
        "",
        "| ".join(["", f"{texts['operation']} ", *(f"{size_of(size)}: {RIVALS[rival]} " for size, rival in columns), ""]).strip(),
        "|" + "---|" * (len(columns) + 1),
        *(f"| {operation} | " + " | ".join(cell(operation, size, rival) for size, rival in columns) + " |" for operation in operations),
        "",
        verdict(data, texts),
    ]
    return "\n".join(lines)


def verdict(data: dict[str, Any], texts: dict[str, str]) -> str:
    """Say which goals were missed, and by how much."""
    missed = [
        f"{fact['name']} {figure(fact['value'])} ({'≤' if fact['at_most'] else '≥'} {fact['bar']:g})"
        for fact in data["facts"]
        if fact["met"] is False
    ]
    return texts["facts"].format(missed=texts["sep"].join(missed)) if missed else texts["none"]


def rewritten(text: str, between: str, name: str) -> str:
    """Return a README's text with other lines between its marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{name} has no place for the figures: put the two lines `{BEGIN}` and `{END}` where they belong")
    return f"{before}{BEGIN}\n\n{between}\n\n{END}{after}"


def main(argv: list[str] | None = None, write: Callable[[Path, str], object] = Path.write_text) -> int:
    """Write the figures of a file of results into the READMEs of a folder."""
    parser = argparse.ArgumentParser(prog="bench.readme", description=main.__doc__)
    parser.add_argument("results", type=Path, help="what ./ci/bench wrote")
    parser.add_argument("folder", type=Path, help="where the READMEs are")
    options = parser.parse_args(argv)
    data = json.loads(options.results.read_text())
    if data.get("kind") != "bench" or data.get("version") != VERSION:
        raise SystemExit(f"{options.results} is no file of results of version {VERSION}")
    for name, texts in TEXTS.items():
        path = options.folder / name
        write(path, rewritten(path.read_text(), table(data, texts), name))
        print(f"wrote the figures into {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
