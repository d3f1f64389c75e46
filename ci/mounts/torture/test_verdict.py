"""The judge finds each kind of damage when it is planted, and none where there is none."""

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from engine import make_value, read_value
from verdict import Call, judge, read_calls

PLAN = {"hosts": ["a", "b"], "began": 0.0, "until": 30.0}
HOSTS = [{"hung": [], "kills": 1, "crashed": []}, {"hung": [], "kills": 1, "crashed": []}]


def call(
    worker: str, operation: str, key: str, name: str, began: float, result: Any, ended: float | None = None
) -> Call:
    return Call(worker, operation, key, name, began, began + 0.1 if ended is None else ended, result)


def history() -> list[Call]:
    """A sound one: both hosts write in every third of the run."""
    unknown = Call("b0", "set", "b0/1", "b0.1.9", 20.0)  # killed in it: may or may not have happened
    failed = Call("b0", "incr", "counter/0", "b0.1.8", 19.0, error="Timeout: ")
    return [
        call("a0", "set", "a0/1", "a0.1.1", 1, True),
        call("b0", "set", "b0/1", "b0.1.1", 1, True),
        call("b0", "get", "a0/1", "", 2, "a0.1.1"),
        call("a0", "incr", "counter/0", "", 3, 1),
        call("b0", "incr", "counter/0", "", 4, 2),
        call("a0", "add", "add/1", "a0.1.2", 5, True),
        call("b0", "add", "add/1", "b0.1.2", 5, False),
        call("a0", "add", "pop/1", "a0.1.3", 6, True),
        call("b0", "pop", "pop/1", "", 7, "a0.1.3"),
        call("a0", "push", "queue", "a0.1.4", 8, "queue-5"),
        call("a0", "push", "queue", "a0.1.5", 9, "queue-6"),
        call("b0", "pull", "queue", "", 11, "a0.1.4"),
        call("a0", "set", "a0/1", "a0.1.6", 12, True),
        call("b0", "get", "a0/1", "", 12.05, "a0.1.1"),  # overlaps the set: either value is right
        call("a0", "set", "a0/2", "a0.1.7", 13, True),
        call("a0", "delete", "a0/2", "", 21, True),
        call("b0", "set", "shared/1", "b0.1.3", 22, True),
        failed,
        unknown,
    ]


def views() -> dict[str, dict[str, Any]]:
    keys = {
        "a0/1": "a0.1.6",
        "b0/1": "b0.1.9",
        "counter/0": 2,
        "add/1": "a0.1.2",
        "queue-6": "a0.1.5",
        "shared/1": "b0.1.3",
    }
    return {where: {"keys": dict(keys), "errors": [], "began": 40.0} for where in ("a fresh", "b fresh")}


def broken(calls: list[Call], seen: dict[str, dict[str, Any]], hosts: list[dict[str, Any]] = HOSTS) -> set[str]:
    return {
        check.promise
        for check in judge(calls, seen, hosts, PLAN)
        if check.broken and "fails on a drive" not in check.promise
    }


def test_a_sound_history_breaks_no_promise() -> None:
    assert broken(history(), views()) == set()


def test_an_unanswered_write_may_also_not_have_happened() -> None:
    seen = views()
    for view in seen.values():
        view["keys"]["b0/1"] = "b0.1.1"
        view["keys"]["counter/0"] = 3
    assert broken(history(), seen) == set()


SEEN_AT_THE_END = [
    ("a0/1", "a0.1.1", "no acknowledged write is lost at the end"),
    ("a0/1", None, "no acknowledged write is lost at the end"),
    ("a0/2", "a0.1.7", "no acknowledged write is lost at the end"),
    ("add/1", None, "no acknowledged write is lost at the end"),
    ("pop/1", "a0.1.3", "no acknowledged write is lost at the end"),
    ("a0/1", "b0.7.7", "no read returns what nobody wrote"),
    ("x/1", "b0.7.7", "no read returns what nobody wrote"),
    ("a0/1", "!torn head in 5 bytes", "no value is torn, mixed or another key's"),
    ("queue-6", "!foreign: a0/1 under queue-6", "no value is torn, mixed or another key's"),
    ("counter/0", 1, "incr is exact"),
    ("counter/0", 4, "incr is exact"),
    ("queue-6", None, "no pushed item is lost"),
    ("queue-7", "a0.1.4", "what is popped or pulled is taken once"),
]


@pytest.mark.parametrize(("key", "value", "promise"), SEEN_AT_THE_END)
def test_damage_at_the_end_is_found(key: str, value: Any, promise: str) -> None:
    seen = views()
    for view in seen.values():
        if value is None:
            del view["keys"][key]
        else:
            view["keys"][key] = value
    assert promise in broken(history(), seen)


ANSWERED = [
    (call("b0", "get", "a0/1", "", 14, "a0.1.1"), "no read returns what was overwritten before it began"),
    (call("b0", "get", "a0/1", "", 14, None), "no read returns what was overwritten before it began"),
    (call("b0", "get", "shared/1", "", 14, "b0.1.3"), "no read returns what nobody wrote"),
    (call("b0", "get", "shared/1", "", 14, "!torn x: 3 bytes of 9"), "no value is torn, mixed or another key's"),
    (call("b0", "incr", "counter/0", "", 5, 2), "incr is exact"),
    (call("b0", "add", "add/1", "b0.1.5", 6, True), "add has one winner"),
    (call("b0", "pop", "pop/1", "", 7.5, "a0.1.3"), "what is popped or pulled is taken once"),
    (call("b0", "pull", "queue", "", 14, "a0.1.4"), "what is popped or pulled is taken once"),
    (call("b0", "get", "shared/1", "", 0.1, None, 60.0), "every call ends in time"),
]


@pytest.mark.parametrize(("extra", "promise"), ANSWERED)
def test_a_wrong_answer_is_found(extra: Call, promise: str) -> None:
    assert promise in broken([*history(), copy.copy(extra)], views())


def test_hosts_that_differ_are_found() -> None:
    seen = views()
    seen["b fresh"]["keys"]["b0/1"] = "b0.1.1"
    assert broken(history(), seen) == {"all hosts see the same at the end"}


def test_a_cache_that_does_not_open_is_found() -> None:
    seen = views()
    seen["b fresh"] = {"keys": {}, "errors": ["DatabaseError: malformed"]}
    assert broken(history(), seen) == {"it opens without repair, after every kill"}


def test_a_cache_that_nobody_can_read_has_lost_everything() -> None:
    seen = {where: {"keys": {}, "errors": ["DatabaseError: malformed"]} for where in ("a fresh", "b fresh")}
    assert "no acknowledged write is lost at the end" in broken(history(), seen)


def test_a_host_that_waits_is_found() -> None:
    calls = [one for one in history() if one.worker == "a0" or one.operation != "set" or one.began < 20]
    assert broken(calls, {}) == {"every host makes progress"}


def test_a_worker_that_hangs_is_found() -> None:
    hosts = [{"hung": ["a0"], "kills": 0, "crashed": []}, HOSTS[1]]
    assert broken(history(), views(), hosts) == {"every call ends in time"}


def test_an_error_without_a_fault_is_counted() -> None:
    verdicts = {check.promise: check.broken for check in judge(history(), views(), HOSTS, PLAN)}
    assert verdicts["no call fails on a drive without faults"] == 1


def test_a_log_cut_short_by_a_kill_leaves_an_unanswered_call(tmp_path: Path) -> None:
    rows = [["i", 1, 0.0, "set", "a0/1", "a0.1.1"], ["r", 1, 0.5, True], ["i", 2, 1.0, "set", "a0/1", "a0.1.2"]]
    text = "\n".join(json.dumps(row) for row in rows) + '\n["r", 2, 1.'
    (tmp_path / "a0.1.log").write_text(text)
    first, second = read_calls(str(tmp_path))
    assert (first.known, first.result, first.worker) == (True, True, "a0")
    assert not second.known


@pytest.mark.parametrize("cut", [0, 3, 20, 150])
def test_a_value_with_any_part_missing_is_recognised(cut: int) -> None:
    whole = make_value("a0/1", "a0.1.1", 200)
    assert read_value("a0/1", whole) == "a0.1.1"
    assert str(read_value("a0/1", whole[:cut])).startswith("!torn")


def test_a_value_of_another_key_or_of_two_writers_is_recognised() -> None:
    assert str(read_value("a0/2", make_value("a0/1", "a0.1.1", 200))).startswith("!foreign")
    one, two = make_value("a0/1", "a0.1.1", 200), make_value("a0/1", "a0.1.2", 200)
    assert str(read_value("a0/1", one[:100] + two[100:])).startswith("!torn")
