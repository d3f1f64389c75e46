"""`DjangoCache`: Django's interface, in a project of its own process, and no Django for those who do not use it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECT = """
import sys
from django.conf import settings

settings.configure(CACHES={'default': {
    'BACKEND': 'diskcache_rs.DjangoCache', 'LOCATION': sys.argv[1], 'SHARDS': 3, 'DATABASE_TIMEOUT': 5, 'TIMEOUT': 60,
    'KEY_PREFIX': 'site', 'OPTIONS': {'size_limit': 3 * 2 ** 26},
}})
from django.core.cache import cache

assert cache._cache._count == 3 and cache._cache.timeout == 5 and cache._cache.size_limit == 2 ** 26
assert cache.set_many({'a': 1, 'b': 2}) == [] and cache.set_many({'a': 'second'}, version=2) == []
assert cache.get_many(['a', 'b', 'c']) == {'a': 1, 'b': 2}
assert cache.get_many(iter(['a', 'b']), version=2) == {'a': 'second'}
assert sorted(cache._cache) == ['site:1:a', 'site:1:b', 'site:2:a']
assert 50 < cache.get('a', expire_time=True)[1] - __import__('time').time() <= 60
assert cache.touch('a', None) and cache.get('a', expire_time=True) == (1, None)
assert cache.set_many({str(number): 'x' * 200_000 for number in range(150)}, None) == []
assert cache.incr('a', 5) == 6 and cache.decr('a') == 5
assert cache.incr_version('a') == 2 and cache.get('a') is None and cache.get('a', version=2) == 5
cache.set_many({'x': 1, 'y': 2}, timeout=0)
assert cache.get_many(['x', 'y']) == {}
cache.set_many({'x': 1, 'y': 2}, tag='t')
assert cache.evict('t') == 2
cache.set_many({'x': 1, 'y': 2})
assert cache.delete_many(['x', 'z']) is None and cache.get_many(['x', 'y']) == {'y': 2}
assert cache.get_or_set('new', lambda: 3) == 3 and cache.has_key('new') and 'new' in cache
cache.index('i')['k'] = 1
cache.deque('d', maxlen=1).extend('ab')
assert dict(cache.index('i')) == {'k': 1} and list(cache.deque('d')) == ['b'] and len(cache.cache('c')) == 0

import asyncio
calls = []

@cache.memoize(timeout=60, version=2, key=lambda request: request['id'])
async def answer(request):
    calls.append(request['id'])
    return len(calls)

async def ask():
    return [await answer({'id': number, 'at': object()}) for number in (1, 1, 2)]

assert asyncio.run(ask()) == [1, 1, 2] and calls == [1, 2]
assert cache.get(answer.__cache_key__({'id': 1}), version=2) == 1

@cache.memoize(timeout=0)
def never(number):
    calls.append(number)

assert never(3) is never(3) is None and calls == [1, 2, 3, 3]
assert cache.stats() == (0, 0) and cache.stats().dropped == {}
print('all right')
"""


def test_a_project_uses_it_as_its_cache(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", PROJECT, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "all right\n"), run.stderr


def test_importing_the_package_does_not_import_django() -> None:
    code = "import sys, diskcache_rs; sys.exit(any(name.split('.')[0] == 'django' for name in sys.modules))"
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=False).returncode == 0


def test_without_django_the_package_works_and_the_backend_says_what_is_missing() -> None:
    code = """
import sys
sys.modules['django'] = None
import diskcache_rs
assert diskcache_rs.FanoutCache().get('a') is None
assert not hasattr(diskcache_rs, 'no_such_name')
try:
    diskcache_rs.DjangoCache
except ImportError as error:
    print('django' in str(error))
"""
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "True\n"), run.stderr
