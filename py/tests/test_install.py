"""`install_as_diskcache`: every way to import diskcache gives this package, or a clear refusal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import diskcache_rs

BOTH_WAYS = """
import sys
import diskcache_rs
diskcache_rs.install_as_diskcache()
diskcache_rs.install_as_diskcache()
import diskcache
assert diskcache is diskcache_rs
import diskcache.core as core
from diskcache.recipes import Lock
from diskcache import Cache, Timeout
import diskcache_rs.core, diskcache_rs.recipes
assert core is diskcache_rs.core is diskcache.core is sys.modules["diskcache.core"]
assert Lock is diskcache_rs.recipes.Lock
assert core.__name__ == core.__spec__.name == "diskcache_rs.core"
assert Cache is diskcache_rs.Cache and Timeout is core.Timeout
import importlib, pkgutil
for module in {modules!r}:
    assert importlib.import_module("diskcache." + module) is importlib.import_module("diskcache_rs." + module)
import pickle
assert pickle.loads(b"cdiskcache.core\\nConstant\\n(VENOVAL\\ntR.") == diskcache_rs.ENOVAL
try:
    import diskcache.nonsense
except ModuleNotFoundError as error:
    assert "diskcache.nonsense" in str(error), error
else:
    raise AssertionError("found nonsense")
import importlib
importlib.reload(core)
print("ok")
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_every_way_to_import_gives_the_one_package() -> None:
    # The module for Django needs Django, which is no part of this.
    folder = Path(diskcache_rs.__file__).parent
    modules = [name for name in ("core", "recipes", "fanout", "persistent") if (folder / f"{name}.py").exists()]
    done = run(BOTH_WAYS.format(modules=modules))
    assert (done.stdout, done.stderr) == ("ok\n", "")


def test_a_module_that_cannot_be_imported_says_so_itself() -> None:
    done = run("import diskcache_rs; diskcache_rs.install_as_diskcache(); import diskcache.djangocache")
    there = (Path(diskcache_rs.__file__).parent / "djangocache.py").exists()
    assert done.returncode == 0 or ("django" in done.stderr if there else "No module named 'diskcache.djangocache'" in done.stderr)


def test_after_the_real_one_was_imported_it_is_refused_and_nothing_changes() -> None:
    done = run(
        "import diskcache, sys\n"
        "theirs, finders = dict(sys.modules), list(sys.meta_path)\n"
        "import diskcache_rs\n"
        "try:\n    diskcache_rs.install_as_diskcache()\n"
        "except ImportError as error:\n    print(error)\n"
        "assert sys.modules['diskcache'] is diskcache is not diskcache_rs\n"
        "assert sys.meta_path == finders\n"
    )
    assert done.stderr == ""
    assert "came too late" in done.stdout
    assert "diskcache/__init__.py" in done.stdout
