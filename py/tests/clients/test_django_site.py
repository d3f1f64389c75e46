"""Django keeps sessions, pages and parts of pages in a cache whose backend is `diskcache.DjangoCache`."""

from __future__ import annotations

from conftest import Client

SITE = """
import sys, threading, time
from django.conf import settings
settings.configure(
    DEBUG=True, SECRET_KEY="secret", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, USE_TZ=True,
    INSTALLED_APPS=["django.contrib.sessions", "django.contrib.messages"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware", "django.contrib.messages.middleware.MessageMiddleware"],
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    CACHES={"default": {
        "BACKEND": "diskcache.DjangoCache", "LOCATION": folder, "TIMEOUT": 300, "SHARDS": 4, "DATABASE_TIMEOUT": 10.0,
        "OPTIONS": {"size_limit": 2**26},
    }},
)
import django
django.setup()
from django.core.cache import cache, caches
from django.http import HttpResponse
from django.template import Context, Template
from django.test import Client
from django.urls import path
from django.views.decorators.cache import cache_page, never_cache

calls = []

def count(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(str(request.session["visits"]))

def forget(request):
    request.session.flush()
    return HttpResponse("forgotten")

@cache_page(60)
def page(request):
    calls.append(request.get_full_path())
    return HttpResponse("page %s" % request.GET.get("q"))

FRAGMENT = Template("{% load cache %}{% cache 60 part user %}{{ work }}{% endcache %}")

def fragment(request):
    class Work:
        def __str__(self):
            calls.append("fragment")
            return "made for " + request.GET["user"]
    return HttpResponse(FRAGMENT.render(Context({"user": request.GET["user"], "work": Work()})))

urlpatterns = [path("count", count), path("forget", forget), path("page", page), path("fragment", fragment)]

# Sessions: each client has its own, and it ends when it is flushed.
ada, bob = Client(), Client()
assert [ada.get("/count").content, ada.get("/count").content, bob.get("/count").content] == [b"1", b"2", b"1"]
ada.get("/forget")
assert [ada.get("/count").content, bob.get("/count").content] == [b"1", b"2"]

# Whole pages, by address.
first = ada.get("/page?q=1")
assert [first.content, ada.get("/page?q=1").content, bob.get("/page?q=2").content] == [b"page 1", b"page 1", b"page 2"]
assert len(calls) == 2, calls
assert "max-age=60" in first["Cache-Control"]

# Parts of pages, by what they vary on; and gone when their key is deleted.
from django.core.cache.utils import make_template_fragment_key
calls.clear()
assert [ada.get("/fragment?user=ada").content, bob.get("/fragment?user=ada").content] == [b"made for ada"] * 2
assert ada.get("/fragment?user=bob").content == b"made for bob"
assert calls == ["fragment"] * 2
assert cache.delete(make_template_fragment_key("part", ["ada"]))
assert ada.get("/fragment?user=ada").content == b"made for ada" and len(calls) == 3

# The low-level interface, over threads, with versions, and as coroutines.
assert cache.add("a", 1) and not cache.add("a", 2)
assert (cache.incr("a"), cache.get_or_set("b", lambda: "made"), cache.get("b")) == (2, "made", "made")
cache.set_many({"c": 1, "d": 2}, timeout=60)
assert cache.get_many(["c", "d", "e"]) == {"c": 1, "d": 2}
cache.set("v", "new", version=2)
assert (cache.get("v"), cache.get("v", version=2)) == (None, "new")
cache.set("short", 1, timeout=0.05)
time.sleep(0.1)
assert cache.get("short", "gone") == "gone" and cache.touch("c", 10) and not cache.touch("nothing")
threads = [threading.Thread(target=lambda: [caches["default"].incr("a") for _ in range(50)]) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert cache.get("a") == 202
import asyncio
assert asyncio.run(cache.aget("a")) == 202
cache.clear()
assert cache.get("a") is None
cache.close()
"""


def test_sessions_pages_fragments_and_the_low_level_interface_work(client: Client) -> None:
    client(SITE, needs=("django",))
