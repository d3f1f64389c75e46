"""Judges what the workers logged and what was seen at the end. Knows nothing of any engine.

A key is a register. Of a write W and a read R of it: W is *superseded* for R when some acknowledged write began after
W had ended, and itself ended before R began. Whatever order the engine chose, R must not return a superseded value:
during the run that is a stale read, at the end an acknowledged write that is lost. A write without an answer never
ends, so it is never superseded: it may take effect at any time, or not at all.
"""

import json
import math
from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from engine import GRACE, TIMEOUT

REGISTERS = ("set", "get", "delete", "add", "pop")
WRITES = ("set", "delete", "add", "incr", "pop", "push", "pull")


@dataclass
class Call:
    """One call: from when to when, and what came of it."""

    worker: str
    operation: str
    key: str
    name: str
    began: float
    ended: float = math.inf
    result: Any = None
    error: str | None = None

    @property
    def known(self) -> bool:
        return self.ended != math.inf and self.error is None


@dataclass
class Check:
    """One promise, how often it was broken, and the first cases."""

    promise: str
    broken: int = 0
    examples: list[str] = field(default_factory=list)
    note: str = ""

    def blame(self, example: str, times: int = 1) -> None:
        self.broken += times
        if len(self.examples) < 5:
            self.examples.append(example)


def read_calls(folder: str) -> list[Call]:
    """Reads all logs. A last line that a kill cut short is a call that was never made or never answered."""
    calls = []
    for path in sorted(Path(folder).glob("*.log")):
        by_number: dict[int, Call] = {}
        for line in path.read_bytes().split(b"\n"):
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if row[0] == "i":
                by_number[row[1]] = Call(path.name.split(".")[0], row[3], row[4], row[5], row[2])
            elif row[0] == "r":
                by_number[row[1]].ended, by_number[row[1]].result = row[2], row[3]
            else:
                by_number[row[1]].error = row[3]
        calls += by_number.values()
    return calls


class Register:
    """The writes of one key."""

    def __init__(self) -> None:
        self.by_name: dict[str, tuple[float, float]] = {}
        self.removals: list[tuple[float, float]] = [(-math.inf, -math.inf)]
        self.acknowledged: list[tuple[float, float]] = []  # (ended, began)

    def write(self, call: Call, value: str | None) -> None:
        ended = call.ended if call.known else math.inf
        if value is None:
            self.removals.append((call.began, ended))
        else:
            self.by_name[value] = (call.began, ended)
        if call.known:
            self.acknowledged.append((ended, call.began))

    def seal(self) -> None:
        """Prepares for questions: the latest beginning among the writes that ended before a given time."""
        self.acknowledged.sort()
        self.ends = [ended for ended, _ in self.acknowledged]
        self.latest = list(accumulate((began for _, began in self.acknowledged), max))

    def wrong(self, value: str | None, began: float, ended: float) -> str | None:
        """Returns what is wrong with this read, if anything."""
        before = bisect_left(self.ends, began)
        bar = self.latest[before - 1] if before else -math.inf
        if value is None:
            writers = self.removals
        elif value in self.by_name:
            writers = [self.by_name[value]]
        else:
            return "unwritten"
        writers = [writer for writer in writers if writer[0] <= ended]
        if not writers:
            return "unwritten"
        return None if any(writer_ended >= bar for _, writer_ended in writers) else "superseded"


def registers_of(calls: list[Call]) -> dict[str, Register]:
    registers: dict[str, Register] = defaultdict(Register)
    for call in calls:
        if call.operation not in REGISTERS:
            continue
        register = registers[call.key]
        if call.operation == "set" or (call.operation == "add" and (not call.known or call.result)):
            register.write(call, call.name)
        elif call.operation == "delete" or (call.operation == "pop" and (not call.known or call.result is not None)):
            register.write(call, None)
    for register in registers.values():
        register.seal()
    return registers


def judge(
    calls: list[Call], views: dict[str, dict[str, Any]], hosts: list[dict[str, Any]], plan: dict[str, Any]
) -> list[Check]:
    """Returns all promises with their verdicts."""
    return [
        *judge_registers(calls, views),
        judge_counters(calls, views),
        judge_adds(calls),
        *judge_taking(calls, views),
        judge_agreement(views),
        judge_opening(calls, views, hosts),
        judge_time(calls, hosts),
        judge_errors(calls),
        judge_progress(calls, plan),
    ]


def judge_registers(calls: list[Call], views: dict[str, dict[str, Any]]) -> list[Check]:
    damage = Check("no value is torn, mixed or another key's")
    unwritten = Check("no read returns what nobody wrote")
    stale = Check("no read returns what was overwritten before it began")
    lost = Check("no acknowledged write is lost at the end")
    registers = registers_of(calls)

    def look(key: str, value: Any, began: float, ended: float, where: str, late: Check) -> None:
        if isinstance(value, str) and value.startswith("!"):
            damage.blame(f"{where}: {key}: {value}")
            return
        fault = (
            registers[key].wrong(value, began, ended)
            if key in registers
            else "unwritten"
            if value is not None
            else None
        )
        if fault == "unwritten":
            unwritten.blame(f"{where}: {key} = {value}")
        elif fault:
            late.blame(f"{where}: {key} = {value}")

    for call in calls:
        if call.known and call.operation in ("get", "pop"):
            look(call.key, call.result, call.began, call.ended, call.worker, stale)
        elif call.known and call.operation == "pull" and isinstance(call.result, str) and call.result.startswith("!"):
            damage.blame(f"{call.worker}: {call.key}: {call.result}")
    for where, seen in views.items():
        if seen["errors"]:
            continue  # nothing was seen; judged as a failure to open
        for key in set(registers) | {key for key in seen["keys"] if not key.startswith(("counter/", "queue"))}:
            look(key, seen["keys"].get(key), seen["began"], math.inf, where, lost)
        for key, value in seen["keys"].items():
            if key.startswith("queue") and isinstance(value, str) and value.startswith("!"):
                damage.blame(f"{where}: {key}: {value}")
    reads = sum(call.known and call.operation in ("get", "pop") for call in calls)
    stale.note = f"{reads} reads"
    if views and all(seen["errors"] for seen in views.values()):
        written = sum(len(register.acknowledged) for register in registers.values())
        lost.blame("no host can read the cache any more", written)
    lost.note = f"{sum(len(register.acknowledged) for register in registers.values())} writes, {len(registers)} keys"
    return [damage, unwritten, stale, lost]


def judge_counters(calls: list[Call], views: dict[str, dict[str, Any]]) -> Check:
    check = Check("incr is exact")
    done, unknown = 0, 0
    for key in sorted({call.key for call in calls if call.operation == "incr"}):
        mine = [call for call in calls if call.operation == "incr" and call.key == key]
        sure = sorted((call for call in mine if call.known), key=lambda call: call.ended)
        done, unknown = done + len(sure), unknown + len(mine) - len(sure)
        ends = [call.ended for call in sure]
        for result, times in Counter(call.result for call in sure).items():
            if times > 1:
                check.blame(f"{key}: {times} calls were answered {result}", times - 1)
        for call in sure:
            if call.result <= bisect_left(ends, call.began):
                check.blame(
                    f"{key}: {call.worker} was answered {call.result} after {bisect_left(ends, call.began)} were done"
                )
        for where, seen in views.items():
            final = seen["keys"].get(key, 0)
            if not seen["errors"] and not len(sure) <= final <= len(mine):
                check.blame(
                    f"{where}: {key} = {final}, {len(sure)} to {len(mine)} were due", max(1, abs(final - len(sure)))
                )
    check.note = f"{done} done, {unknown} unknown"
    return check


def judge_adds(calls: list[Call]) -> Check:
    check = Check("add has one winner")
    wins = Counter(call.key for call in calls if call.operation == "add" and call.known and call.result)
    for key, times in wins.items():
        if key.startswith("add/") and times > 1:
            check.blame(f"{key}: {times} winners", times - 1)
    check.note = f"{sum(key.startswith('add/') for key in wins)} races"
    return check


def judge_taking(calls: list[Call], views: dict[str, dict[str, Any]]) -> list[Check]:
    once = Check("what is popped or pulled is taken once")
    kept = Check("no pushed item is lost")
    taken = Counter(c.result for c in calls if c.operation in ("pop", "pull") and c.known and isinstance(c.result, str))
    for name, times in taken.items():
        if times > 1 and not name.startswith("!"):
            once.blame(f"{name} was taken {times} times", times - 1)
    once.note = f"{len(taken)} taken"
    pushed = {call.name for call in calls if call.operation == "push" and call.known}
    unknown = sum(call.operation == "pull" and not call.known for call in calls)
    for where, seen in views.items():
        if seen["errors"]:
            continue
        left = {value for key, value in seen["keys"].items() if key.startswith("queue")}
        for name in left & set(taken):
            once.blame(f"{where}: {name} was pulled and is still there")
        missing = sorted(pushed - set(taken) - left)
        if len(missing) > unknown:
            kept.blame(f"{where}: {', '.join(missing[:3])}", len(missing) - unknown)
    kept.note = f"{len(pushed)} pushed"
    return [once, kept]


def judge_agreement(views: dict[str, dict[str, Any]]) -> Check:
    check = Check("all hosts see the same at the end")
    sound = {where: seen["keys"] for where, seen in views.items() if not seen["errors"]}
    for where, keys in list(sound.items())[1:]:
        first = next(iter(sound))
        for key in sorted(set(keys) | set(sound[first])):
            if keys.get(key) != sound[first].get(key):
                check.blame(f"{key}: {first} sees {sound[first].get(key)}, {where} sees {keys.get(key)}")
    check.note = f"{len(sound)} views"
    return check


def judge_opening(calls: list[Call], views: dict[str, dict[str, Any]], hosts: list[dict[str, Any]]) -> Check:
    check = Check("it opens without repair, after every kill")
    for call in calls:
        if call.operation == "open" and call.error:
            check.blame(f"{call.worker}: {call.error}")
    for where, seen in views.items():
        for error in seen["errors"]:
            check.blame(f"{where}: {error}")
    for host in hosts:
        for name in host["crashed"]:
            check.blame(f"worker process ended badly: {name}")
    check.note = (
        f"{sum(call.operation == 'open' for call in calls)} opened, {sum(host['kills'] for host in hosts)} killed"
    )
    return check


def judge_time(calls: list[Call], hosts: list[dict[str, Any]]) -> Check:
    check = Check("every call ends in time")
    for host in hosts:
        for worker in host["hung"]:
            check.blame(f"{worker} did not end")
    spans = sorted(call.ended - call.began for call in calls if call.known)
    for call in calls:
        if call.known and call.ended - call.began > TIMEOUT + GRACE:
            check.blame(f"{call.worker}: {call.operation} took {call.ended - call.began:.1f} s")
    if spans:
        check.note = f"median {spans[len(spans) // 2] * 1e3:.1f} ms, longest {spans[-1]:.2f} s"
    return check


def judge_errors(calls: list[Call]) -> Check:
    check = Check("no call fails on a drive without faults")
    for (operation, error), times in Counter((c.operation, c.error) for c in calls if c.error).most_common():
        check.blame(f"{times} x {operation}: {error}", times)
    check.note = f"{len(calls)} calls"
    return check


def judge_progress(calls: list[Call], plan: dict[str, Any]) -> Check:
    """Every host has writes acknowledged in every third of the run."""
    check = Check("every host makes progress")
    third = (plan["until"] - plan["began"]) / 3
    shares = []
    for host in plan["hosts"]:
        ends = [
            call.ended for call in calls if call.known and call.operation in WRITES and call.worker.startswith(host)
        ]
        shares.append(f"{host} {len(ends)}")
        for part in range(3):
            begin = plan["began"] + part * third
            if not any(begin <= end < begin + third for end in ends):
                check.blame(f"{host}: nothing acknowledged in the {('first', 'second', 'last')[part]} third")
    check.note = ", ".join(shares) + " writes"
    return check
