"""Programs of users pass mypy and pyright at their strictest, and their mistakes are found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(300)

FOLDER = Path(__file__).parent / "typing"
PROGRAMS = sorted(path.name for path in FOLDER.glob("*.py") if path.name != "mistakes.py")
MISTAKES = {number for number, line in enumerate((FOLDER / "mistakes.py").read_text().splitlines(), 1) if line.endswith("# wrong")}


def mypy(tmp_path: Path, *names: str) -> dict[str, set[int]]:
    """Return the lines with errors, by file."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path / 'mypy'}", "--no-error-summary"]
    done = subprocess.run([*command, *names], capture_output=True, text=True, check=False, cwd=FOLDER)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: dict[str, set[int]] = {}
    for line in done.stdout.splitlines():
        name, number, *_ = line.split(":")
        if ": error:" in line:
            found.setdefault(name, set()).add(int(number))
    print(done.stdout)
    return found


def pyright(tmp_path: Path, *names: str) -> dict[str, set[int]]:
    """Return the lines with errors, by file."""
    for name in names:
        (tmp_path / name).write_text((FOLDER / name).read_text())
    # What a program does with a value that it did not type itself is its own affair: `get` returns anything.
    settings = {"typeCheckingMode": "strict", "reportUnknownVariableType": False, "reportUnknownMemberType": False}
    settings |= {"reportUnknownArgumentType": False, "reportUnknownLambdaType": False, "reportUnusedExpression": False}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "--project", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "summary" not in done.stdout:
        pytest.skip(f"pyright does not run here (it needs node, and the npm registry once): {done.stderr.strip()[-200:]}")
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == len(names)
    found: dict[str, set[int]] = {}
    for problem in report["generalDiagnostics"]:
        if problem["severity"] == "error":
            print(problem["file"], problem["range"]["start"]["line"] + 1, problem["message"])
            found.setdefault(Path(problem["file"]).name, set()).add(problem["range"]["start"]["line"] + 1)
    return found


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_programs_of_users_have_no_errors(checker: object, tmp_path: Path) -> None:
    assert callable(checker)
    assert len(PROGRAMS) >= 5
    assert checker(tmp_path, *PROGRAMS) == {}


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_mistakes_are_found(checker: object, tmp_path: Path) -> None:
    assert callable(checker)
    assert checker(tmp_path, "mistakes.py") == {"mistakes.py": MISTAKES}
