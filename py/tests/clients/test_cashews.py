"""cashews has a backend on disk, of one cache or of several shards."""

from __future__ import annotations

import pytest
from conftest import Client

PROGRAM = """
import asyncio
from datetime import timedelta
from cashews import Cache

async def main():
    cache = Cache()
    cache.setup("disk://?directory=" + folder + "&shards={shards}")
    await cache.init()
    await cache.set("key", {{"a": [1]}}, expire="1h")
    assert await cache.get("key") == {{"a": [1]}}
    assert 3500 < await cache.get_expire("key") <= 3600
    assert await cache.set("key", 2, exist=False) is False
    assert await cache.exists("key")
    assert [await cache.incr("count") for _ in range(3)] == [1, 2, 3]
    await cache.set_many({{"m1": 1, "m2": "two"}}, expire=60)
    assert await cache.get_many("m1", "m2", "m3", default=0) == (1, "two", 0)
    if {shards} == 1:
        assert sorted([key async for key in cache.scan("m*")]) == ["m1", "m2"]
        await cache.delete_match("m*")
        assert await cache.exists("m1") is False
    calls = []

    @cache(ttl=timedelta(minutes=1), key="user:{{number}}")
    async def user(number):
        calls.append(number)
        return {{"number": number}}

    assert [await user(1), await user(1), await user(2)] == [{{"number": 1}}, {{"number": 1}}, {{"number": 2}}]
    assert calls == [1, 2]

    @cache.early(ttl="10m", early_ttl="7m", key="early:{{number}}")
    async def early(number):
        calls.append(("early", number))
        return number

    @cache.locked(key="lock:{{number}}", ttl="10s")
    async def locked(number):
        return await cache.incr("locked")

    assert [await early(1), await early(1)] == [1, 1]
    assert calls.count(("early", 1)) == 1
    assert sorted(await asyncio.gather(*(locked(1) for _ in range(5)))) == [1, 2, 3, 4, 5]
    assert await cache.delete("key")
    assert await cache.get("key") is None
    await cache.clear()
    assert await cache.get("count") is None
    await cache.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("shards", [1, 4])
def test_the_backend_on_disk_works(client: Client, shards: int) -> None:
    client(PROGRAM.format(shards=shards), needs=("cashews",))
