"""What is tortured, and the values that it is fed.

A value says whose it is: `key|writer's name for it|length|` and then bytes that follow from those. Whatever comes
back is rebuilt from its own head and compared, so a value that is torn, mixed from two, or another key's is
recognised as such.
"""

import hashlib
import importlib
from typing import Any

MODULES = {"ours": "diskcache_rs", "diskcache": "diskcache"}

# Seconds that a call of the engine may block. A call that takes longer than this and `GRACE` broke its word.
TIMEOUT = 20.0
GRACE = 10.0
# Seconds that interpreters may take to start, all of them at once on a slow machine.
START_LIMIT = 120.0


def module_of(engine: str) -> Any:
    """Imports the engine's module."""
    return importlib.import_module(MODULES[engine])


def open_cache(engine: str, folder: str, **settings: Any) -> Any:
    """Opens the cache: no eviction, so that whatever is gone is lost."""
    return module_of(engine).Cache(folder, timeout=TIMEOUT, eviction_policy="none", cull_limit=0, **settings)


def make_value(key: str, name: str, length: int) -> bytes:
    """Returns the one value that `name` stands for."""
    head = f"{key}|{name}|{length}|".encode()
    filling = hashlib.blake2b(head).digest()
    return head + (filling * (length // len(filling) + 1))[:length]


def read_value(key: str, value: object) -> str | int | None:
    """Returns the name of a sound value, a counter as it is, None as it is, or `!` and what is wrong."""
    if value is None or isinstance(value, int):
        return value
    if not isinstance(value, bytes):
        return f"!type {type(value).__name__}"
    try:
        of_key, name, length, _ = value.split(b"|", 3)
        whole = make_value(of_key.decode(), name.decode(), int(length))
    except (ValueError, UnicodeDecodeError):
        return f"!torn head in {len(value)} bytes"
    if value != whole:
        return f"!torn {name.decode()}: {len(value)} bytes of {len(whole)}"
    # The values of a queue carry the queue's name: the key under which one lies is the engine's choice.
    if of_key.decode() not in (key, key.split("-")[0]):
        return f"!foreign: {of_key.decode()} under {key}"
    return name.decode()
