"""What a directory of python-diskcache looks like, and what to do about one."""

from __future__ import annotations

import os

from ._exceptions import CacheError, IncompatibleError, RefusedError

DATABASE = "cache.db"


def explained(error: CacheError, directory: str) -> CacheError:
    """Return `error`, with what to do if the directory is one of python-diskcache.

    >>> str(explained(IncompatibleError(22, 'no cache'), '/tmp'))
    '[Errno 22] no cache'
    """
    if not isinstance(error, (IncompatibleError, RefusedError)) or not os.path.exists(os.path.join(directory, DATABASE)):
        return error
    parent, name = os.path.split(os.path.abspath(directory))
    # A shard is migrated along with the others.
    is_shard = len(name) == 3 and name.isdigit() and os.path.exists(os.path.join(parent, "000", DATABASE))
    command = f"python -m diskcache_rs migrate {parent if is_shard else directory} NEW"
    return type(error)(error.errno, f"{error.strerror} To copy what it holds: {command}")
