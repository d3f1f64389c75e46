"""Says that entries are evicted because of a size limit that nobody chose."""

from __future__ import annotations

import os
import warnings


class SizeLimitWarning(UserWarning):
    """Entries are evicted because the cache has reached the default size limit."""


_warned: set[str] = set()


def warn(directory: str | os.PathLike[str], limit: int) -> None:
    """Warn about the cache in `directory`, once in a process."""
    path = os.fspath(directory)
    if path in _warned:
        return
    _warned.add(path)
    warnings.warn(
        f"the cache in {path} has reached the default size limit of {limit >> 20} MiB and begins to evict entries; choose a limit, "
        "and this is not said again: Cache(directory, size_limit=...) or cache.reset('size_limit', ...); with "
        "eviction_policy='none' nothing is evicted",
        SizeLimitWarning,
        stacklevel=2,
    )
