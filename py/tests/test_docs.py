"""Every public class and method says what it does, with examples that run."""

from __future__ import annotations

import asyncio
import doctest
import inspect
import sys
from pathlib import Path
from typing import Any

import pytest

import diskcache_rs
import diskcache_rs.core

# What needs no example: errors and warnings say when they are raised, constants what they mean.
NO_EXAMPLE = (BaseException,)


def documented() -> list[tuple[str, Any]]:
    """Return every public class and function, and every public method of a class, from whichever base it comes."""
    found: list[tuple[str, Any]] = []
    for name in [*diskcache_rs.__all__, "DjangoCache"]:
        public = getattr(diskcache_rs, name)
        if not callable(public):
            continue
        found.append((name, public))
        if not inspect.isclass(public) or issubclass(public, NO_EXAMPLE):
            continue
        for attribute, member in inspect.getmembers(public):
            if not attribute.startswith("_") and (callable(member) or isinstance(member, property)) and is_ours(public, attribute):
                found.append((f"{name}.{attribute}", member))
    return found


def is_ours(cls: type, attribute: str) -> bool:
    """Return whether a class, or one of its bases here, defines an attribute: not `tuple.count`, or Django's own."""
    owner = next(base for base in cls.__mro__ if attribute in vars(base))
    return owner.__module__.startswith("diskcache_rs") and attribute != "sync_type"


@pytest.mark.parametrize(("name", "member"), documented(), ids=[name for name, _ in documented()])
def test_the_docstring_says_what_it_does_with_an_example_that_runs(name: str, member: Any, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    text = inspect.getdoc(member)
    assert text, f"{name} has no docstring"
    names = {**vars(diskcache_rs.core), **vars(diskcache_rs), "DjangoCache": diskcache_rs.DjangoCache, "asyncio": asyncio}
    test = doctest.DocTestParser().get_doctest(text, names, name, None, None)
    needs_none = inspect.isclass(member) and issubclass(member, NO_EXAMPLE)
    assert test.examples or needs_none, f"{name} has no example"
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
    assert result.failed == 0


def test_nothing_public_is_left_out() -> None:
    names = {name for name, _ in documented()}
    some = {"Cache.get", "FanoutCache.set", "Deque.rotate", "Lock.acquire", "AsyncCache.pop", "AsyncFanoutCache.pop", "barrier"}
    assert some <= names
    assert len(names) > 200


@pytest.mark.parametrize("module", ["__init__.py", "_cache.py", "_constants.py", "_exceptions.py", "fanout.py"])
def test_examples_of_modules_run(module: str, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    name = "diskcache_rs" if module == "__init__.py" else f"diskcache_rs.{module.removesuffix('.py')}"
    assert doctest.testmod(sys.modules[name]).failed == 0
