"""A worker of `benchmarks.restart`: ``restart_child KIND URL WAY REQUESTS SEED SAVE``."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

from sqlalchemy import make_url

from coherent_cache import CacheManager
from coherent_cache.snapshot import Snapshot
from tests.databases import Database

from .restart import PAGES, Body, body_of

_A_REQUEST = 10

#: Opens what a request is made in, and reads a page.
Way = tuple[Callable[[], AbstractContextManager[Any]], Callable[[int], str]]


def main(kind: str, url: str, way: str, requests: int, seed: int, *, save: bool) -> None:
    """Print a line when ready; after one was read, what `benchmarks.restart` wants to know."""
    database = Database(kind, make_url(url))
    chosen = random.Random(seed)
    pages = [int(PAGES * chosen.random() ** 3) for _ in range(requests * _A_REQUEST)]
    name, _, place = way.partition(":")
    with ExitStack() as stack:
        request, read = stack.enter_context(_WAYS[name](database, place, save))
        print("ready", flush=True)
        sys.stdin.readline()
        start = time.perf_counter()
        times = []
        for first in range(0, len(pages), _A_REQUEST):
            with request():
                for page in pages[first : first + _A_REQUEST]:
                    read(page)
            times.append(time.perf_counter() - start)
        print(json.dumps({"calls": Body.calls, "times": times}), flush=True)


@contextmanager
def _managed(database: Database, save: bool, **options: Any) -> Iterator[Way]:
    manager = CacheManager(database.engine(), **options)
    yield manager.request, lambda page: Body(manager, page).rendered
    if save:
        manager.save_snapshot()
    manager.core.keeper = None  # the rounds begin with the same file
    manager.close()


def _nothing(database: Database, place: str, save: bool) -> AbstractContextManager[Way]:
    return _managed(database, save=False)


def _snapshot(database: Database, place: str, save: bool) -> AbstractContextManager[Way]:
    return _managed(database, save, snapshot=Snapshot(place, every=None))


def _tier(database: Database, place: str, save: bool) -> AbstractContextManager[Way]:
    return _managed(database, save=False, tier=f"redis://127.0.0.1:{place}/0")


@contextmanager
def _dogpile(database: Database, place: str, save: bool) -> Iterator[Way]:
    from dogpile.cache import make_region

    region = make_region().configure("dogpile.cache.redis", arguments={"port": int(place), "db": 1})
    engine = database.engine()

    def read(page: int) -> str:
        value: str = region.get_or_create(f"body {page}", lambda: body_of(engine, page))
        return value

    yield nullcontext, read


@contextmanager
def _flask_caching(database: Database, place: str, save: bool) -> Iterator[Way]:
    from flask import Flask
    from flask_caching import Cache

    app = Flask(__name__)
    cache = Cache(app, config={"CACHE_TYPE": "RedisCache", "CACHE_REDIS_PORT": int(place)})
    engine = database.engine()

    @cache.memoize(timeout=3_600)
    def body(page: int) -> str:
        return body_of(engine, page)

    yield app.app_context, body


_WAYS = {
    "nothing": _nothing,
    "snapshot": _snapshot,
    "tier": _tier,
    "dogpile": _dogpile,
    "flask": _flask_caching,
}


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5]), save=sys.argv[6] == "save")
