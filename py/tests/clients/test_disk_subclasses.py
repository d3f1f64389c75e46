"""Disk classes of the kinds that known programs write: their ways, in our words.

dvc-data turns errors of pickling into its own and keeps a type with the cache; dspy loads only classes that it trusts, in a
`FanoutCache`; outlines pickles keys and values itself, as bytes.
"""

from __future__ import annotations

from conftest import Client

TRANSLATING = """
import functools, pickle
import diskcache

class BrokenStore(Exception):
    def __init__(self, directory, kind):
        super().__init__(directory, kind)
        self.directory, self.kind = directory, kind

def translated(method):
    @functools.wraps(method)
    def wrapper(self, *args, **kwargs):
        try:
            return method(self, *args, **kwargs)
        except pickle.PickleError as error:
            raise BrokenStore(self._directory, self.kind) from error
        except ValueError as error:
            if "pickle protocol" in str(error):
                raise BrokenStore(self._directory, self.kind) from error
            raise
    return wrapper

class TranslatingDisk(diskcache.Disk):
    put, get = translated(diskcache.Disk.put), translated(diskcache.Disk.get)
    store, fetch = translated(diskcache.Disk.store), translated(diskcache.Disk.fetch)

class TypedCache(diskcache.Cache):
    def __init__(self, directory=None, timeout=60, disk=TranslatingDisk, kind=None, **settings):
        settings.setdefault("disk_pickle_protocol", 4)
        settings.setdefault("cull_limit", 0)
        super().__init__(directory=directory, timeout=timeout, disk=disk, **settings)
        self.kind = self.disk.kind = kind or "default"

    def __getstate__(self):
        return (*super().__getstate__(), self.kind)

class Unpicklable:
    def __reduce__(self):
        raise pickle.PicklingError("no")

with TypedCache(folder, kind="links") as cache:
    cache["key"] = ("a", 1)
    cache[("t", 1)] = "tuple key"
    assert (cache["key"], cache[("t", 1)]) == (("a", 1), "tuple key")
    assert cache.disk.pickle_protocol == 4 and cache.cull_limit == 0
    again = pickle.loads(pickle.dumps(cache))
    assert (again.kind, again["key"], type(again.disk)) == ("links", ("a", 1), TranslatingDisk)
    for call in (lambda: cache.set("x", Unpicklable()), lambda: cache.get(Unpicklable())):
        try:
            call()
        except BrokenStore as error:
            assert (error.directory, error.kind) == (folder, "links")
        else:
            raise AssertionError("no error")
# What a newer protocol wrote is an error of the type that names the store, not a miss.
plain = diskcache.Cache(folder)
class Newer(diskcache.Disk):
    def store(self, value, read, key=None):
        return 0, diskcache.core.MODE_PICKLE, None, memoryview(b"\\x80\\x7f" + pickle.dumps(value)[2:])
diskcache.Cache(folder, disk=Newer)["newer"] = ["x"]
try:
    TypedCache(folder, kind="links")["newer"]
except BrokenStore as error:
    assert error.kind == "links"
else:
    raise AssertionError("no error")
"""

TRUSTING = """
import io, os, pickle, collections, decimal
import diskcache
from diskcache.core import MODE_PICKLE

class Distrusted(Exception):
    pass

class Loader(pickle.Unpickler):
    trusted = frozenset()

    def find_class(self, module, name):
        if (module, name) not in self.trusted:
            raise Distrusted(module, name)
        return super().find_class(module, name)

class TrustingDisk(diskcache.Disk):
    trusted = frozenset()

    def fetch(self, mode, filename, value, read):
        if mode != MODE_PICKLE:
            return super().fetch(mode, filename, value, read)
        if value is None:
            with open(os.path.join(self._directory, filename), "rb") as file:
                data = file.read()
        else:
            data = value
        loader = Loader(io.BytesIO(data))
        loader.trusted = self.trusted
        return loader.load()

kind = type("Trusting", (TrustingDisk,), {"trusted": frozenset({("collections", "OrderedDict")})})
cache = diskcache.FanoutCache(directory=folder, shards=16, timeout=10, size_limit=10**9, disk=kind)
cache["trusted"] = collections.OrderedDict(a=1)
cache["large"] = collections.OrderedDict(a="x" * 500_000)
cache["plain"] = {"response": ["text", 1, None]}
cache["distrusted"] = decimal.Decimal(1)
assert cache["trusted"] == collections.OrderedDict(a=1)
assert cache["large"]["a"] == "x" * 500_000
assert cache.get("plain") == {"response": ["text", 1, None]}
try:
    cache.get("distrusted")
except Distrusted:
    cache.delete("distrusted")
else:
    raise AssertionError("it was loaded")
assert "distrusted" not in cache and cache.get("distrusted") is None
cache.close()
"""

PICKLING = """
import pickle
from diskcache import Cache, Disk
from diskcache.core import ENOVAL, UNKNOWN, args_to_key, full_name

class PicklingDisk(Disk):
    def __init__(self, directory, compress_level=1, **kwargs):
        self.compress_level = compress_level
        super().__init__(directory, **kwargs)

    def put(self, key):
        return super().put(pickle.dumps(key))

    def get(self, key, raw):
        return pickle.loads(super().get(key, raw))

    def store(self, value, read, key=UNKNOWN):
        return super().store(value if read else pickle.dumps(value), read, key=key)

    def fetch(self, mode, filename, value, read):
        data = super().fetch(mode, filename, value, read)
        return data if read else pickle.loads(data)

memory = Cache(folder, eviction_policy="none", cull_limit=0, disk=PicklingDisk)
if memory.get("__version__") != "1":
    memory.clear()
memory["__version__"] = "1"

def cached(function):
    def wrapper(*args, **kwargs):
        key = args_to_key((full_name(function),), args, kwargs, False, ())
        result = memory.get(key, default=ENOVAL, retry=True)
        if result is ENOVAL:
            result = function(*args, **kwargs)
            memory.set(key, result, None, retry=True)
        return result
    return wrapper

calls = []

@cached
def work(pattern, *, size):
    calls.append(pattern)
    return {"pattern": pattern, "table": list(range(size))}

assert work("a*", size=3) == work("a*", size=3) == {"pattern": "a*", "table": [0, 1, 2]}
assert work("large", size=200_000)["table"][-1] == 199_999
assert work("large", size=200_000)["table"][-1] == 199_999
assert calls == ["a*", "large"]
assert "__version__" in list(memory) and len(memory) == 3
memory.close()
again = Cache(folder, eviction_policy="none", cull_limit=0, disk=PicklingDisk)
assert again["__version__"] == "1" and len(again) == 3
"""


def test_a_disk_that_translates_errors_and_a_cache_with_a_type_work(client: Client) -> None:
    client(TRANSLATING)


def test_a_disk_that_loads_only_what_it_trusts_works(client: Client) -> None:
    client(TRUSTING)


def test_a_disk_that_pickles_keys_and_values_itself_works(client: Client) -> None:
    client(PICKLING)
