"""The memory caches of other libraries, asked for a value that they have.

Those that are not installed are left out.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Iterator

from .measure import Case, statement


def rivals(value: object) -> Iterator[Case]:
    """One case for each library."""
    makers: dict[str, Callable[[object], Case]] = {
        "dogpile": _dogpile,
        "flask_caching": _flask_caching,
        "cachetools": _cachetools,
    }
    for name, make in makers.items():
        if importlib.util.find_spec(name) is not None:
            yield make(value)


def _dogpile(value: object) -> Case:
    from dogpile.cache import make_region

    region = make_region().configure("dogpile.cache.memory")

    def create() -> object:
        return value

    create()
    get = region.get_or_create
    return Case("dogpile.cache memory", statement("get('front', create)", get=get, create=create))


def _flask_caching(value: object) -> Case:
    from flask import Flask
    from flask_caching import Cache

    app = Flask(__name__)
    cache = Cache(app, config={"CACHE_TYPE": "SimpleCache"})
    with app.app_context():
        simple = cache.cache
    simple.set("front", value)
    return Case("Flask-Caching SimpleCache", statement("get('front')", get=simple.get))


def _cachetools(value: object) -> Case:
    import cachetools

    @cachetools.cached(cachetools.LRUCache(1000), lock=threading.Lock())
    def remembered(name: str) -> object:
        return value

    return Case("cachetools LRU with a lock", statement("f('front')", f=remembered))
