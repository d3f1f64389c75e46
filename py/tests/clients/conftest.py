"""Programs that use python-diskcache run here unedited, each in a process of its own where `diskcache` is this package."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HEAD = """
import sys
import diskcache_rs
diskcache_rs.install_as_diskcache()
folder = sys.argv[1]
"""
TAIL = """
import diskcache
assert diskcache is diskcache_rs, "the real one was used"
import os
assert any("CACHE" in files for _, _, files in os.walk(folder)), "nothing was stored by diskcache_rs"
print("done")
"""
# Made by ci/setup.
PYTHON = Path(__file__).parents[3] / "target" / "ci" / "clients" / "bin" / "python"
Client = Callable[..., None]


@pytest.fixture
def client(tmp_path: Path) -> Client:
    """Run a program that needs some modules; `folder` is a new directory for it."""

    def run(program: str, needs: tuple[str, ...] = ()) -> None:
        if needs and not PYTHON.exists():
            pytest.skip(f"{needs[0]} is not installed: ci/setup could not get it from the package registry")
        file = tmp_path / "program.py"
        file.write_text(HEAD + program + TAIL)
        command = [str(PYTHON if needs else sys.executable), str(file), str(tmp_path / "folder")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
        assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["done"]), done.stdout + done.stderr

    return run
