"""One host of the torture: starts its workers, kills them in rounds, starts them again, and looks at the end.

Runs inside the host (its own network, mounts and process ids), so that the files it names are the ones its workers
see. Leaves one JSON object: what its witness and a fresh process saw, and which workers hung.

Every worker that will ever be needed is started before the torture and waits with everything imported, so that what is
measured and judged (progress above all) is the engine, not how long an interpreter takes to start on this machine.
"""

import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from engine import GRACE, START_LIMIT, TIMEOUT

ME = Path(__file__).parent


def start(*words: str, **options: Any) -> subprocess.Popen[str]:
    """Starts another process of this program."""
    return subprocess.Popen([sys.executable, str(ME), *words], text=True, **options)


class Host:
    """The workers of one host."""

    def __init__(self, plan: dict[str, Any], name: str, folder: str) -> None:
        self.plan, self.name, self.folder = plan, name, folder
        self.workers: dict[str, subprocess.Popen[str]] = {}
        self.waiting: dict[str, list[subprocess.Popen[str]]] = {}
        self.kills = 0
        self.hung: list[str] = []

    def prepare(self) -> list[str]:
        """Starts the witness and every incarnation of every worker. Returns what went wrong."""
        self.witness = start("view", "--witness", self.plan["engine"], self.folder, stdin=-1, stdout=-1)
        lives = [(f"{self.name}{number}", life) for number in range(self.plan["procs"]) for life in range(self.rounds)]
        for me, life in lives:
            seed = f"{me}.{life + 1}"
            log = f"{self.plan['logs']}/{seed}.log"
            with open(log + ".err", "w") as errors:
                words = ("worker", json.dumps(self.plan), me, self.folder, log, seed)
                self.waiting.setdefault(me, []).append(start(*words, stdin=-1, stdout=-1, stderr=errors))
        wrong = []
        for process in [self.witness, *(worker for workers in self.waiting.values() for worker in workers)]:
            answer = read_line(process, START_LIMIT)
            if answer != "ready":
                wrong.append(f"{'witness' if process is self.witness else 'worker'}: {answer or 'no answer'}")
        return wrong

    @property
    def rounds(self) -> int:
        """Lives of each worker."""
        return int(self.plan["kill_rounds"]) + 1

    def let_go(self, me: str) -> None:
        """Lets the next incarnation of a worker begin."""
        self.workers[me] = self.waiting[me].pop(0)
        print(json.dumps(self.times), file=self.workers[me].stdin, flush=True)

    def kill_round(self) -> None:
        """Kills each worker at a moment of its own, and starts it again at once."""
        rng = random.Random(f"{self.plan['seed']} {self.name} {self.kills}")
        for me in list(self.workers):
            time.sleep(rng.random() * 0.3)
            self.workers[me].send_signal(signal.SIGKILL)
            self.workers[me].wait()
            self.kills += 1
            self.let_go(me)

    def run(self, times: dict[str, Any]) -> dict[str, Any]:
        """Plays the whole plan."""
        self.times = times
        sleep_until(times["began"])
        for me in list(self.waiting):
            self.let_go(me)
        for moment in times["kills"]:
            sleep_until(moment)
            self.kill_round()
        for me, worker in self.workers.items():
            try:
                worker.wait(max(0.0, times["until"] - time.monotonic()) + TIMEOUT + GRACE)
            except subprocess.TimeoutExpired:
                self.hung.append(me)
                worker.kill()
        print("go", file=self.witness.stdin, flush=True)
        seen = {"witness": read_view(self.witness)}
        seen["fresh"] = read_view(start("view", self.plan["engine"], self.folder, stdout=-1))
        crashed = [path.name for path in Path(self.plan["logs"]).glob(f"{self.name}*.err") if path.stat().st_size]
        return {"views": seen, "kills": self.kills, "hung": self.hung, "crashed": crashed}


def sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def read_line(process: subprocess.Popen[str], seconds: float) -> str:
    """Returns the process's next line, or nothing if it does not come in time."""
    assert process.stdout
    readable, _, _ = select.select([process.stdout], [], [], seconds)
    return process.stdout.readline().strip() if readable else ""


def read_view(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Returns what a `view` process prints, or that it did not."""
    try:
        return dict(json.loads(process.communicate(timeout=3 * TIMEOUT)[0].strip().splitlines()[-1]))
    except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
        process.kill()
        return {"errors": [f"no view: {type(error).__name__}"], "keys": {}}


def be_host(plan: dict[str, Any], name: str, folder: str, out: str) -> None:
    """Plays the host and leaves its report in a file. Says `ready`, or what is wrong, and then waits for the times."""
    host = Host(plan, name, folder)
    wrong = host.prepare()
    print(wrong[0] if wrong else "ready", flush=True)
    times = json.loads(sys.stdin.readline() or "null")
    if times is None:
        return
    report = host.run(times)
    temporary = f"{out}.part"
    Path(temporary).write_text(json.dumps(report))
    os.replace(temporary, out)
