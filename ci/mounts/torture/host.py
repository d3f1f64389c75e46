"""One host of the torture: starts its workers, kills them in rounds, starts them again, and looks at the end.

Runs inside the host (its own network, mounts and process ids), so that the files it names are the ones its workers
see. Prints one JSON object: what its witness and a fresh process saw, and which workers hung.
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

from engine import GRACE, TIMEOUT

ME = Path(__file__).parent


def start(*words: str, **options: Any) -> subprocess.Popen[str]:
    """Starts another process of this program."""
    return subprocess.Popen([sys.executable, str(ME), *words], text=True, **options)


class Host:
    """The workers of one host."""

    def __init__(self, plan: dict[str, Any], name: str, folder: str) -> None:
        self.plan, self.name, self.folder = plan, name, folder
        self.workers: dict[str, subprocess.Popen[str]] = {}
        self.incarnations = 0
        self.kills = 0
        self.hung: list[str] = []

    def start_worker(self, me: str) -> None:
        self.incarnations += 1
        seed = f"{me}.{self.incarnations}"
        log = f"{self.plan['logs']}/{seed}.log"
        self.workers[me] = start(
            "worker",
            json.dumps(self.plan),
            me,
            self.folder,
            log,
            seed,
            stderr=open(log + ".err", "w"),  # noqa: SIM115
        )

    def kill_round(self) -> None:
        """Kills each worker at a moment of its own, and starts it again at once."""
        rng = random.Random(f"{self.plan['seed']} {self.name} {self.kills}")
        for me in list(self.workers):
            time.sleep(rng.random() * 0.3)
            self.workers[me].send_signal(signal.SIGKILL)
            self.workers[me].wait()
            self.kills += 1
            self.start_worker(me)

    def run(self) -> dict[str, Any]:
        """Plays the whole plan."""
        witness = start("view", "--witness", self.plan["engine"], self.folder, stdin=-1, stdout=-1)
        ready = read_line(witness, TIMEOUT + GRACE)
        sleep_until(self.plan["began"])
        for number in range(self.plan["procs"]):
            self.start_worker(f"{self.name}{number}")
        for moment in self.plan["kills"]:
            sleep_until(moment)
            self.kill_round()
        for me, worker in self.workers.items():
            try:
                worker.wait(max(0.0, self.plan["until"] - time.monotonic()) + TIMEOUT + GRACE)
            except subprocess.TimeoutExpired:
                self.hung.append(me)
                worker.kill()
        seen = {"witness": {"errors": [f"witness: {ready or 'no answer'}"], "keys": {}}}
        if ready == "ready":
            print("go", file=witness.stdin, flush=True)
            seen["witness"] = read_view(witness)
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
    """Plays the host and leaves its report in a file."""
    report = Host(plan, name, folder).run()
    temporary = f"{out}.part"
    Path(temporary).write_text(json.dumps(report))
    os.replace(temporary, out)
