"""A coroutine that uses a cache."""

import asyncio
from typing import Any, assert_type

from diskcache_rs import AsyncCache, Cache


async def main() -> None:
    async with AsyncCache("/tmp/cache", timeout=5) as cache:
        assert_type(cache, AsyncCache)
        assert_type(await cache.set("key", [1, 2], expire=60), bool)
        value: list[int] | None = await cache.get("key")
        assert_type(await cache.count(), int)
        assert_type(await cache.contains("key"), bool)
        async with cache.transact(retry=True):
            total: int = await cache.incr("total")
        async for key in cache:
            print(key)
        queued: tuple[Any, Any] = await cache.pull()
        print(value, total, queued)

        @cache.memoize(expire=60)
        async def double(number: int) -> int:
            return 2 * number

        assert_type(await double(2), int)
    await AsyncCache(Cache()).close()


asyncio.run(main())
