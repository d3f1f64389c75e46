"""Runs python-diskcache's tests on diskcache_rs and holds the result against the list of expected failures.

python run.py EXCEPTIONS.toml [--verbose] [-k EXPRESSION], in the folder that has the tests in `tests/`.
`ci/compat` calls it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import pkgutil
import sys
import tomllib
from pathlib import Path

import pytest


class Results:
    """Gathers what became of each test: `file.py::[Class::]test`."""

    def __init__(self) -> None:
        self.failed: dict[str, str] = {}
        self.passed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a test, or its set-up or clean-up, that failed or passed."""
        name = report.nodeid.removeprefix("tests/")
        if report.failed or report.skipped:
            self.failed[name] = report.longreprtext
        elif report.when == "call":
            self.passed.add(name)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a file that could not be imported: all its tests are one failure."""
        if report.failed:
            self.failed[report.nodeid.removeprefix("tests/")] = report.longreprtext


def alias() -> None:
    """Make this package and its modules importable as `diskcache`."""
    import diskcache_rs

    sys.modules["diskcache"] = diskcache_rs
    for module in pkgutil.iter_modules(diskcache_rs.__path__):
        sys.modules[f"diskcache.{module.name}"] = importlib.import_module(f"diskcache_rs.{module.name}")


def expected_failures(path: Path) -> dict[str, str]:
    """Return the tests that cannot pass, with the reason of each."""
    listed: dict[str, str] = {}
    for group in tomllib.loads(path.read_text())["exception"]:
        if not group["reason"].strip() or not group["tests"]:
            raise SystemExit(f"{path}: every exception names its tests and its reason")
        for name in group["tests"]:
            if name in listed:
                raise SystemExit(f"{path}: {name} is listed twice")
            listed[name] = group["reason"]
    return listed


def run(verbose: bool, expression: str | None) -> Results:
    """Run the tests of this folder."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    sys.path.insert(0, os.getcwd())
    alias()
    import django
    from django.test.utils import get_runner, setup_test_environment, teardown_test_environment

    django.setup()
    from django.conf import settings

    runner = get_runner(settings)(verbosity=0, interactive=False)
    setup_test_environment()
    databases = runner.setup_databases()
    results = Results()
    options = [
        "tests",
        "-q",
        "--continue-on-collection-errors",
        "-p",
        "no:cacheprovider",
        "--color=no",
        "--timeout=300",
        "--rootdir=.",
        "-c",
        "pytest.ini",
    ]
    Path("pytest.ini").write_text("[pytest]\n")
    if expression:
        options += ["-k", expression]
    try:
        with contextlib.nullcontext() if verbose else contextlib.redirect_stdout(io.StringIO()):
            pytest.main(options, plugins=[results])
    finally:
        runner.teardown_databases(databases)
        teardown_test_environment()
    results.passed -= results.failed.keys()
    return results


def main() -> int:
    """Run, compare, report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("exceptions", type=Path)
    parser.add_argument("--verbose", "-v", action="store_true")
    parser.add_argument("-k", dest="expression")
    arguments = parser.parse_args()
    expected = expected_failures(arguments.exceptions)
    results = run(arguments.verbose, arguments.expression)

    unexpected = sorted(results.failed.keys() - expected.keys())
    surprising = sorted(expected.keys() & results.passed)
    absent = [] if arguments.expression else sorted(expected.keys() - results.failed.keys() - results.passed)
    for name in unexpected:
        print(f"\n=== {name} fails, and is not listed in {arguments.exceptions.name}:\n{results.failed[name]}")
    for name in surprising:
        print(f"=== {name} passes, and is listed in {arguments.exceptions.name}: strike it there")
    for name in absent:
        print(f"=== {name} is listed in {arguments.exceptions.name}, and there is no such test")
    wrong = len(unexpected) + len(surprising) + len(absent)
    as_listed = len(results.failed.keys() & expected.keys())
    print(f"checks: {len(results.passed)} passed, {wrong} failed, {as_listed} skipped: they fail as listed")
    print(f"{len(results.passed)} passed, {len(results.failed)} failed")
    return 1 if wrong or not results.passed else 0


if __name__ == "__main__":
    sys.exit(main())
