"""Every public class and method says what it does, with examples that run."""

from __future__ import annotations

import doctest
import inspect
import sys
from pathlib import Path
from typing import Any

import pytest

import diskcache_rs
import diskcache_rs.core

CLASSES = [
    diskcache_rs.Cache,
    diskcache_rs.FanoutCache,
    diskcache_rs.Deque,
    diskcache_rs.Index,
    diskcache_rs.DjangoCache,
    diskcache_rs.Disk,
    diskcache_rs.JSONDisk,
    diskcache_rs.Timeout,
    diskcache_rs.Constant,
]
# Their methods may come from a native base class.
NATIVE = (diskcache_rs.Cache, diskcache_rs.FanoutCache)


def documented() -> list[tuple[str, Any]]:
    """Return every public class and method that this package defines."""
    found: list[tuple[str, Any]] = []
    for cls in CLASSES:
        found.append((cls.__name__, cls))
        for name, member in inspect.getmembers(cls):
            inherited = cls not in NATIVE and name not in vars(cls)
            if name.startswith("_") or inherited or not (callable(member) or isinstance(member, property)):
                continue
            found.append((f"{cls.__name__}.{name}", member))
    return found


@pytest.mark.parametrize(("name", "member"), documented(), ids=[name for name, _ in documented()])
def test_the_docstring_says_what_it_does_with_an_example_that_runs(name: str, member: Any, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    text = inspect.getdoc(member)
    assert text, f"{name} has no docstring"
    names = {**vars(diskcache_rs.core), **vars(diskcache_rs), "DjangoCache": diskcache_rs.DjangoCache}
    test = doctest.DocTestParser().get_doctest(text, names, name, None, None)
    if not test.examples and name.startswith("JSONDisk."):
        return
    assert test.examples, f"{name} has no example"
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
    assert result.failed == 0


@pytest.mark.parametrize("module", ["__init__.py", "_cache.py", "_constants.py", "_exceptions.py", "fanout.py"])
def test_examples_of_modules_run(module: str, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    name = "diskcache_rs" if module == "__init__.py" else f"diskcache_rs.{module.removesuffix('.py')}"
    assert doctest.testmod(sys.modules[name]).failed == 0
