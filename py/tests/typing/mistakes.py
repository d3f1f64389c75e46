"""Mistakes that a type checker has to find: each line that says so must be reported, and no other."""

from diskcache_rs import AsyncCache, Cache, Lock

cache = Cache()


@cache.memoize()
def double(number: int) -> int:
    return 2 * number


double("two")  # wrong
text: str = double(2)  # wrong
cache.get()  # wrong
cache.set("key")  # wrong
cache.touch("key", expire="soon")  # wrong
Cache(profile="network")  # wrong
Cache(disk=str)  # wrong
Lock(cache, "key").token + 1  # wrong


async def main() -> None:
    stored: int = await AsyncCache(cache).contains("key")
    name: str = await AsyncCache(cache).count()  # wrong
    print(stored, name)
