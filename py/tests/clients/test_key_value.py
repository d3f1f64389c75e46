"""py-key-value has a store on disk."""

from __future__ import annotations

from conftest import Client

PROGRAM = """
import asyncio, diskcache
from key_value.aio.stores.disk import DiskStore

async def main():
    async with DiskStore(directory=folder) as store:
        await store.put(key="a", value={"number": 1, "list": [1, None]}, collection="c")
        assert await store.get(key="a", collection="c") == {"number": 1, "list": [1, None]}
        assert await store.get(key="a") is None
        await store.put(key="b", value={"x": "y"}, collection="c", ttl=3600)
        value, ttl = await store.ttl(key="b", collection="c")
        assert value == {"x": "y"} and 3500 < ttl <= 3600, ttl
        await store.put(key="short", value={"x": 1}, ttl=0.05)
        await asyncio.sleep(0.1)
        assert await store.get(key="short") is None
        await store.put_many(keys=["k1", "k2"], values=[{"n": 1}, {"n": 2}])
        assert await store.get_many(keys=["k1", "k2", "k3"]) == [{"n": 1}, {"n": 2}, None]
        assert await store.delete(key="a", collection="c") is True
        assert await store.delete(key="a", collection="c") is False
    cache = diskcache.Cache(folder)
    assert cache.eviction_policy == "none"
    # A store on a cache that somebody else opened leaves it open.
    store = DiskStore(disk_cache=cache)
    assert await store.get(key="b", collection="c") == {"x": "y"}
    limited = DiskStore(directory=folder + "-limited", max_size=10_000_000)
    await limited.put(key="a", value={"n": 1})
    assert diskcache.Cache(folder + "-limited").size_limit == 10_000_000

asyncio.run(main())
"""


def test_the_store_on_disk_works(client: Client) -> None:
    client(PROGRAM, needs=("key_value",))
