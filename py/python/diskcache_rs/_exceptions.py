"""Exceptions, each with the builtin base that programs catch already."""

from __future__ import annotations


class Timeout(TimeoutError):
    """The cache could not be locked or reached in time, and nothing took effect.

    >>> issubclass(Timeout, TimeoutError)
    True
    """


class OutcomeUnknown(Timeout):
    """The time was over while a write was under way: it may or may not have taken effect."""


class TransactionConflict(Timeout):
    """A transaction lost its hold to another host, and nothing of it took effect: run it again."""


class CacheError(OSError):
    """The cache cannot do what was asked."""


class IncompatibleError(CacheError):
    """The directory holds a newer format or something else, and was left untouched."""


class RefusedError(CacheError, PermissionError):
    """The drive or the way the cache was opened does not allow it."""


class DamagedError(CacheError):
    """Bytes that the operation needs are damaged: run ``check(fix=True)``."""


class ClosedError(CacheError):
    """The cache was closed while it was in use."""


class UnknownFileWarning(UserWarning):
    """Warning used by ``Cache.check`` for unknown files."""


class EmptyDirWarning(UserWarning):
    """Warning used by ``Cache.check`` for empty directories."""
