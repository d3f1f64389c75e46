"""Several hosts share one cache while their processes are killed; then every promise is checked.

    torture run --host hA=/run/nfs@123 --host hB=/run/nfs@124 --cold hC=/run/nfs@125 --logs DIR --out result.json

A host is NAME=FOLDER, with @PID when it has namespaces of its own: then everything of that host runs in those of the
process PID. A cold host takes no part, and looks at the end with nothing in its caches. Two plain folders serve as
well, which is how this program is tried out: `--host a=/tmp/x --host b=/tmp/x`. DIR is on a local disk; what was
acknowledged stands there.

Exit status: 0 all promises kept, 1 some broken, 2 it could not be run.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from engine import GRACE, MODULES, START_LIMIT, TIMEOUT
from host import be_host, read_line, read_view
from trips import print_trips
from verdict import Check, judge, read_calls
from view import view
from worker import work

ME = str(Path(__file__).parent)


class Place:
    """Where one host's processes run, and what folder they share."""

    def __init__(self, text: str) -> None:
        self.name, _, rest = text.partition("=")
        mount, _, pid = rest.partition("@")
        self.folder = mount
        self.enter = ["nsenter", "-t", pid, "-m", "-u", "-i", "-n", "-p"] if pid else []

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Starts a process of this program there."""
        return subprocess.Popen([*self.enter, sys.executable, ME, *words], text=True, **options)


def run(args: argparse.Namespace) -> int:
    """Plays the whole thing."""
    if args.quick:
        args.seconds, args.kills = 8.0, 1
    os.makedirs(args.logs, exist_ok=True)
    places = [Place(text) for text in args.host]
    trips = {} if args.no_trips else count_trips(args, places[0])
    plan = {
        "engine": args.engine,
        "procs": args.procs,
        "hosts": [place.name for place in places],
        "seed": args.seed,
        "logs": args.logs,
        "seconds": args.seconds,
        "kill_rounds": args.kills,
    }
    print(
        f"torture: {args.engine}, {len(places)} hosts of {args.procs} processes, {args.seconds} s, {args.kills} rounds "
        f"of kill -9, seed {args.seed}",
        flush=True,
    )
    try:
        reports, times = play(plan, places)
    except NotReady as error:
        print(f"torture: could not begin: {error}", file=sys.stderr)
        return 2
    views = {f"{name} {which}": seen for name, report in reports.items() for which, seen in report["views"].items()}
    for place in map(Place, args.cold):
        views[f"{place.name} cold"] = read_view(
            place.start("view", "--check", args.engine, place.folder + "/cache", stdout=-1)
        )
    calls = read_calls(args.logs)
    checks = judge(calls, views, list(reports.values()), plan | times)
    if len(reports) < len(places):
        checks.append(Check("every host reports", len(places) - len(reports)))
    print_checks(checks)
    warnings = [warning for seen in views.values() for warning in seen.get("warnings", [])]
    result = {
        "engine": args.engine,
        "seconds": args.seconds,
        "kill_rounds": args.kills,
        "procs": args.procs,
        "seed": args.seed,
        "calls": len(calls),
        "calls_per_second": len(calls) / args.seconds,
        "checks": [vars(check) for check in checks],
        "trips": trips,
        "check_warnings": warnings,
    }
    Path(args.out).write_text(json.dumps(result, indent=1))
    broken = sum(check.broken > 0 for check in checks)
    print(
        f"\n{len(calls) / args.seconds:.0f} calls a second in all; `check` has {len(warnings)} remarks"
        f"\nchecks: {len(checks) - broken} passed, {broken} failed",
        flush=True,
    )
    return 1 if broken else 0


class NotReady(Exception):
    """A host could not start its processes."""


def play(plan: dict[str, Any], places: list[Place]) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Runs all hosts side by side and returns their reports, by name, and when what began and ended.

    The clock starts once every process of every host is ready.
    """
    outs = {place.name: f"{plan['logs']}/{place.name}.json" for place in places}
    agents = [
        place.start(
            "host", json.dumps(plan), place.name, place.folder + "/cache", outs[place.name], stdin=-1, stdout=-1
        )
        for place in places
    ]
    answers = [read_line(agent, 2 * START_LIMIT) for agent in agents]
    wrong = [
        f"{place.name}: {answer or 'no answer'}"
        for place, answer in zip(places, answers, strict=True)
        if answer != "ready"
    ]
    if wrong:
        for agent in agents:
            agent.kill()
        raise NotReady("; ".join(wrong))
    began = time.monotonic() + 0.5
    times = {
        "began": began,
        "kills": [began + plan["seconds"] * (n + 1) / (plan["kill_rounds"] + 1) for n in range(plan["kill_rounds"])],
        "until": began + plan["seconds"],
    }
    for agent in agents:
        print(json.dumps(times), file=agent.stdin, flush=True)
    deadline = times["until"] + 10 * (TIMEOUT + GRACE)
    for agent in agents:
        try:
            agent.wait(max(1.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            agent.kill()
    return {name: json.loads(Path(out).read_text()) for name, out in outs.items() if os.path.exists(out)}, times


def count_trips(args: argparse.Namespace, place: Place) -> dict[str, Any]:
    """Counts server requests in a folder of its own, before the noise, and prints them."""
    trips = read_view(place.start("trips", args.engine, place.folder + "/trips", stdout=-1))
    if trips.get("error") or trips.get("errors"):
        print(f"no count of server requests: {trips.get('error') or trips.get('errors')}")
    print(f"{'server requests':<28}{'an operation':>12}{'later':>8}   of these")
    for row in trips.get("rows", []):
        kinds = ", ".join(f"{count:g} {kind}" for kind, count in row["by_kind"].items() if count >= 0.1)
        print(f"{row['operation']:<28}{row['trips']:>12.2f}{row['later']:>8.2f}   {kinds}", flush=True)
    print()
    return trips


def print_checks(checks: list[Check]) -> None:
    """Prints a row a promise, and under a broken one its first cases."""
    for check in checks:
        print(
            f"{'kept' if not check.broken else f'BROKEN {check.broken}':<12} {check.promise}"
            f"{f'  ({check.note})' if check.note else ''}"
        )
        for example in check.examples:
            print(f"{'':<15}{example}")


def main() -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="torture", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run", help="the whole torture")
    runs.add_argument("--engine", choices=MODULES, default="ours")
    runs.add_argument("--host", action="append", required=True, help="NAME=FOLDER[@PID]")
    runs.add_argument(
        "--cold", action="append", default=[], help="NAME=FOLDER[@PID]: a host that only looks at the end"
    )
    runs.add_argument("--procs", type=int, default=2, help="worker processes a host")
    runs.add_argument("--seconds", type=float, default=30.0)
    runs.add_argument("--kills", type=int, default=3, help="rounds of kill -9 of every worker")
    runs.add_argument("--seed", default="1")
    runs.add_argument("--logs", required=True)
    runs.add_argument("--out", required=True)
    runs.add_argument("--no-trips", action="store_true", help="do not count server requests")
    runs.add_argument("--quick", action="store_true", help="8 s and one round of kills")
    for name, words in {
        "host": ("plan", "name", "folder", "out"),
        "worker": ("plan", "me", "folder", "log", "seed"),
        "trips": ("engine", "folder"),
        "view": ("engine", "folder"),
    }.items():
        inner = commands.add_parser(name, help="(used by run)")
        for word in words:
            inner.add_argument(word)
        if name == "view":
            inner.add_argument("--witness", action="store_true")
            inner.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if args.command == "run":
        return run(args)
    if args.command == "host":
        be_host(json.loads(args.plan), args.name, args.folder, args.out)
    elif args.command == "trips":
        print_trips(args.engine, args.folder)
    elif args.command == "view":
        view(args.engine, args.folder, args.witness, args.check)
    else:
        plan = json.loads(args.plan)
        everybody = [f"{host}{n}" for host in plan["hosts"] for n in range(plan["procs"])]
        work(plan["engine"], args.folder, args.me, everybody, args.log, args.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
