"""What one process sees of the whole cache: `{key: name}` of everything in it, as JSON on standard output.

A witness opens the cache before the torture, looks once, and sleeps until it gets a line on standard input: it comes
back thousands of commits behind, with whatever its host had cached. A fresh process opens the cache at the end.
"""

import json
import sys
import time
from typing import Any

from engine import open_cache, read_value


def view(engine: str, folder: str, witness: bool, check: bool) -> None:
    """Prints one JSON object, whatever happens."""
    seen: dict[str, Any] = {"keys": {}, "errors": [], "warnings": []}
    try:
        cache = open_cache(engine, folder)
        if witness:
            cache.get("shared/0")
            print("ready", flush=True)
            sys.stdin.readline()
        seen["began"] = time.monotonic()
        for key in list(cache):
            seen["keys"][key] = read_value(key, cache.get(key))
        if check:
            seen["warnings"] = [str(getattr(w, "message", w))[:200] for w in cache.check()]
        cache.close()
    except Exception as error:
        seen["errors"].append(f"{type(error).__name__}: {error}"[:300])
    print(json.dumps(seen), flush=True)
