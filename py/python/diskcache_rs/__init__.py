"""A disk cache that is safe on network drives, with the interface of python-diskcache.

>>> from diskcache_rs import Cache
>>> with Cache() as cache:
...     cache['key'] = 'value'
...     cache['key']
'value'
"""

import atexit as _atexit
import importlib as _importlib
import os as _os
import warnings as _warnings
from typing import TYPE_CHECKING as _TYPE_CHECKING

from . import _native
from . import core as core  # programs say `diskcache.core.x` after `import diskcache`
from ._cache import Cache
from ._constants import DEFAULT_SETTINGS, ENOVAL, EVICTION_POLICY, UNKNOWN, Constant
from ._disk import Disk, JSONDisk
from ._exceptions import (
    CacheError,
    ClosedError,
    DamagedError,
    EmptyDirWarning,
    IncompatibleError,
    OutcomeUnknown,
    RefusedError,
    Timeout,
    TransactionConflict,
    UnknownFileWarning,
)
from ._install import install_as_diskcache
from ._limit import SizeLimitWarning
from .aio import AsyncCache, AsyncFanoutCache
from .fanout import FanoutCache
from .persistent import Deque, Index
from .recipes import Averager, BoundedSemaphore, Lock, LockLost, RLock, barrier, memoize_stampede, throttle

if _TYPE_CHECKING:
    from .djangocache import DjangoCache as DjangoCache

__all__ = [
    "DEFAULT_SETTINGS",
    "ENOVAL",
    "EVICTION_POLICY",
    "UNKNOWN",
    "AsyncCache",
    "AsyncFanoutCache",
    "Averager",
    "BoundedSemaphore",
    "Cache",
    "CacheError",
    "ClosedError",
    "Constant",
    "DamagedError",
    "Deque",
    "Disk",
    "EmptyDirWarning",
    "FanoutCache",
    "IncompatibleError",
    "Index",
    "JSONDisk",
    "Lock",
    "LockLost",
    "OutcomeUnknown",
    "RLock",
    "RefusedError",
    "SizeLimitWarning",
    "Timeout",
    "TransactionConflict",
    "UnknownFileWarning",
    "barrier",
    "install_as_diskcache",
    "memoize_stampede",
    "throttle",
]

__version__: str = _native.VERSION

# Threads that are in the middle of a call when the program ends: see py/src/released.rs.
_atexit.register(_native._end)
_os.register_at_fork(after_in_child=_native._forked)

if _native.DEBUG_BUILD:
    _warnings.warn("diskcache_rs was built without optimization: do not measure it", RuntimeWarning, stacklevel=2)


def __getattr__(name: str) -> object:
    # Django is imported only by those who use it.
    if name == "DjangoCache":
        return _importlib.import_module(".djangocache", __name__).DjangoCache
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
