"""Every public class, method and function takes what that of python-diskcache takes: names, order, kinds and defaults."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from typing import Any

import diskcache
import pytest

import diskcache_rs

MODULES = ["core", "fanout", "persistent", "recipes"]
# What is ours alone: further arguments, each by keyword only, or (in these) at the end.
AT_THE_END = {("DjangoCache.set_many", "tag"), ("DjangoCache.set_many", "retry"), ("DjangoCache.delete_many", "retry")}
# Positional-only there, `*args` here: every call that is right there is right here.
LOOSER = {"Index.update"}
# Their arguments are given by syntax (`cache[key]`, `del cache[key]`), never by name.
BY_SYNTAX = {"__contains__", "__getitem__", "__setitem__", "__delitem__", "__ne__", "__exit__", "__init_subclass__"}


NONE = "no default"


def shown(default: Any) -> Any:
    """Return what stands for a default value: constants and classes of two libraries are equal by name."""
    if default is inspect.Parameter.empty:
        return NONE
    return getattr(default, "__name__", None) or (repr(default) if type(default).__name__ == "Constant" else default)


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    return [(p.name, p.kind, shown(p.default)) for p in inspect.signature(function).parameters.values()]


def difference(name: str, ours: Any, theirs: Any) -> str | None:
    """Return how a call that is right there may be wrong here, if it may."""
    if name in LOOSER:
        return None
    wanted, found = parameters(theirs), parameters(ours)
    is_extra = [kind is inspect.Parameter.KEYWORD_ONLY or (name, parameter) in AT_THE_END for parameter, kind, _ in found]
    extra = [p for p, own in zip(found, is_extra, strict=True) if own]
    rest = [p for p, own in zip(found, is_extra, strict=True) if not own]
    if any(default == NONE for _, _, default in extra):
        return f"{name} cannot be called without {extra}"
    if [kind for _, kind, _ in found] != sorted(kind for _, kind, _ in found):
        return f"{name}: {extra} do not come last"
    # `self` of a native method is positional only, as it is in every call.
    if [p for p in rest if p[0] != "self"] != [(n, k, d) for n, k, d in wanted if n != "self"]:
        return f"{name}{inspect.signature(ours)} is not {inspect.signature(theirs)}"
    return None


def compared(name: str, ours: Any, theirs: Any) -> list[str]:
    """Return the differences of a class and its methods, or of a function."""
    found = []
    if not inspect.isclass(theirs):
        found.append(difference(name, ours, theirs))
        return [text for text in found if text]
    for attribute, method in inspect.getmembers(theirs):
        place = f"{name}.{attribute}"
        is_private = attribute.startswith("_") and not attribute.endswith("__") and place != "Disk._write"
        if attribute in BY_SYNTAX or is_private:
            continue
        if not inspect.isfunction(inspect.unwrap(getattr(method, "__func__", method))):
            is_theirs = isinstance(method, property) and attribute in vars(theirs)
            found.append(f"{place} is no property" if is_theirs and not isinstance(getattr(ours, attribute, None), property) else None)
        elif not hasattr(ours, attribute):
            found.append(f"{place} is missing")
        elif getattr(ours, attribute) is not method:  # not one of a base class of both
            found.append(difference(place, getattr(ours, attribute), method))
    return [text for text in found if text]


@pytest.mark.parametrize("name", [name for name in diskcache.__all__ if callable(getattr(diskcache, name, None)) and name != "DjangoCache"])
def test_every_public_name_takes_what_that_of_python_diskcache_takes(name: str) -> None:
    ours, theirs = getattr(diskcache_rs, name), getattr(diskcache, name)
    assert inspect.isclass(ours) == inspect.isclass(theirs)
    assert compared(name, ours, theirs) == []


DJANGO = """
import sys
sys.path.insert(0, sys.argv[1])
from django.conf import settings
settings.configure()
import diskcache.djangocache, diskcache_rs.djangocache
import test_signatures
print(*test_signatures.compared("DjangoCache", diskcache_rs.djangocache.DjangoCache, diskcache.djangocache.DjangoCache), sep="\\n")
"""


def test_the_backend_of_django_takes_what_that_of_python_diskcache_takes() -> None:
    command = [sys.executable, "-W", "ignore", "-c", DJANGO, str(__file__).rpartition("/")[0]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


@pytest.mark.parametrize("module", MODULES)
def test_every_name_that_a_module_defines_is_there(module: str) -> None:
    theirs, ours = importlib.import_module(f"diskcache.{module}"), importlib.import_module(f"diskcache_rs.{module}")
    own = [
        name
        for name, value in vars(theirs).items()
        if not (name.startswith("_") or inspect.ismodule(value))
        and ((name.isupper() and module == "core") or getattr(value, "__module__", None) == theirs.__name__)
    ]
    assert own
    # The name of the database's file: there is none.
    assert [name for name in own if not hasattr(ours, name) and name != "DBNAME"] == []


def test_what_may_be_caught_there_may_be_caught_here() -> None:
    for name in ("Timeout", "EmptyDirWarning", "UnknownFileWarning"):
        theirs = {base.__name__ for base in getattr(diskcache, name).__mro__}
        assert theirs <= {base.__name__ for base in getattr(diskcache_rs, name).__mro__}


def test_a_comparison_would_find_a_difference() -> None:
    def theirs(key: Any, default: Any = None) -> None: ...

    def renamed(name: Any, default: Any = None) -> None: ...

    def other_default(key: Any, default: Any = 0) -> None: ...

    def more(key: Any, default: Any = None, more: Any = None) -> None: ...

    def more_by_name(key: Any, default: Any = None, *, more: Any = None) -> None: ...

    def needed(key: Any, default: Any = None, *, more: Any) -> None: ...

    assert [difference("f", ours, theirs) is None for ours in (theirs, renamed, other_default, more, more_by_name, needed)] == [
        True,
        False,
        False,
        False,
        True,
        False,
    ]
