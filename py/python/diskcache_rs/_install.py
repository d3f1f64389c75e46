"""`install_as_diskcache`: programs that say ``import diskcache`` get this package."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_NAME, _OURS = "diskcache", "diskcache_rs"


def install_as_diskcache() -> None:
    r"""Make ``import diskcache``, and of its submodules, give this package, for the rest of the process.

    Call it before anything imports diskcache; it is an error afterwards, since there would be two of each class. Calling it
    again does nothing. The package of that name need not be installed, and is not touched if it is.

    >>> import subprocess, sys
    >>> program = '''
    ... import diskcache_rs
    ... diskcache_rs.install_as_diskcache()
    ... from diskcache import Cache
    ... print(Cache)
    ... '''
    >>> subprocess.run([sys.executable, '-c', program], capture_output=True, text=True).stdout
    "<class 'diskcache_rs._cache.Cache'>\n"
    """
    ours = sys.modules[_OURS]
    for name, module in sorted(sys.modules.items()):
        if (name == _NAME or name.startswith(f"{_NAME}.")) and not _is_ours(module):
            where = getattr(module, "__file__", None) or "an unknown place"
            too_late = f"install_as_diskcache() came too late: {name} is imported already, from {where}"
            raise ImportError(f"{too_late}. Call it before anything imports diskcache", name=name)
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    sys.modules[_NAME] = ours


def _is_ours(module: object) -> bool:
    name = getattr(module, "__name__", "")
    return name == _OURS or name.startswith(f"{_OURS}.")


class _Finder(MetaPathFinder):
    """Finds ``diskcache.x`` where ``diskcache_rs.x`` is."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """Return the spec of a submodule that this package has."""
        if not fullname.startswith(f"{_NAME}."):
            return None
        ours = _OURS + fullname.removeprefix(_NAME)
        if importlib.util.find_spec(ours) is None:
            return None
        return ModuleSpec(fullname, _Loader(ours))


class _Loader(Loader):
    """Gives the module itself, not a second copy of it."""

    def __init__(self, ours: str) -> None:
        self._ours = ours

    def create_module(self, spec: ModuleSpec) -> ModuleType:  # noqa: ARG002
        """Return the module of this package."""
        module = importlib.import_module(self._ours)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module its own spec back: it was executed already."""
        module.__spec__ = self._spec
