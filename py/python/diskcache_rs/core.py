"""The module path that programs import from: everything of `Cache` and `Disk`.

An ``open`` that somebody puts here (to let files fail on purpose, or to count them) opens the files of values, as in python-diskcache:
as long as it is here, values of 1 KiB and more that a cache keeps in files go through `Disk`.
"""

from ._cache import Cache
from ._constants import (
    DEFAULT_SETTINGS,
    ENOVAL,
    EVICTION_POLICY,
    METADATA,
    MODE_BINARY,
    MODE_NONE,
    MODE_PICKLE,
    MODE_RAW,
    MODE_TEXT,
    UNKNOWN,
    Constant,
)
from ._disk import Disk, JSONDisk
from ._exceptions import EmptyDirWarning, Timeout, UnknownFileWarning
from ._memoize import args_to_key, full_name

__all__ = [
    "DEFAULT_SETTINGS",
    "ENOVAL",
    "EVICTION_POLICY",
    "METADATA",
    "MODE_BINARY",
    "MODE_NONE",
    "MODE_PICKLE",
    "MODE_RAW",
    "MODE_TEXT",
    "UNKNOWN",
    "Cache",
    "Constant",
    "Disk",
    "EmptyDirWarning",
    "JSONDisk",
    "Timeout",
    "UnknownFileWarning",
    "args_to_key",
    "full_name",
]
