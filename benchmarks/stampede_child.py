"""One of the processes of `benchmarks.stampede`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from sqlalchemy import make_url

from coherent_cache import CacheManager
from tests.databases import Database

KEY = "benchmarks.report"


class Place(NamedTuple):
    """Where the case runs, and the seconds that its retriever takes."""

    kind: str
    url: str
    redis: str
    prefix: str
    work: float


class Answer(NamedTuple):
    """What a process did in one round; times of the clock that all processes share."""

    calls: int
    begin: float
    end: float


#: How to read the value, and how to invalidate it.
Case = tuple[Callable[[], Any], Callable[[], None]]


def _coherent(place: Place, compute: Callable[[], Any], *, tier: bool, once: Any = None) -> Case:
    options: dict[str, Any] = {}
    if tier:
        from dogpile.cache import make_region

        from coherent_cache.tier import Tier

        region = make_region().configure(
            "dogpile.cache.redis",
            arguments={
                "url": place.redis,
                "redis_expiration_time": 300,
                "distributed_lock": True,
                "thread_local_lock": False,
            },
        )
        options["tier"] = Tier(region, application=place.prefix)
    engine = Database(place.kind, make_url(place.url)).engine()
    manager = CacheManager(engine, **options)
    manager.create_table()

    def read() -> Any:
        return manager.get(KEY, compute, once=once)

    return read, lambda: manager.invalidate(KEY)


def _dogpile(place: Place, compute: Callable[[], Any]) -> Case:
    from dogpile.cache import make_region

    region = make_region().configure(
        "dogpile.cache.redis",
        arguments={
            "url": place.redis,
            "redis_expiration_time": 300,
            "distributed_lock": True,
            "thread_local_lock": False,
            "lock_timeout": 30,
        },
    )
    key = f"{place.prefix}-{KEY}"
    return lambda: region.get_or_create(key, compute), lambda: region.delete(key)


def _flask_caching(place: Place, compute: Callable[[], Any]) -> Case:
    from flask import Flask
    from flask_caching import Cache

    app = Flask("stampede")
    cache = Cache(
        app,
        config={
            "CACHE_TYPE": "RedisCache",
            "CACHE_REDIS_URL": place.redis,
            "CACHE_KEY_PREFIX": place.prefix,
            "CACHE_DEFAULT_TIMEOUT": 300,
        },
    )

    @cache.memoize()
    def report() -> Any:
        return compute()

    def read() -> Any:
        with app.app_context():
            return report()

    def forget() -> None:
        with app.app_context():
            cache.delete_memoized(report)

    return read, forget


CASES: dict[str, Callable[[Place, Callable[[], Any]], Case]] = {
    "coherent_cache, no tier": lambda p, c: _coherent(p, c, tier=False),
    "coherent_cache, tier": lambda p, c: _coherent(p, c, tier=True),
    'coherent_cache, tier, once="host"': lambda p, c: _coherent(p, c, tier=True, once="host"),
    'coherent_cache, tier, once="cluster"': lambda p, c: _coherent(p, c, tier=True, once="cluster"),
    "dogpile.cache, Redis, distributed_lock": _dogpile,
    "Flask-Caching, Redis": _flask_caching,
}


def main(
    case: str, place: Place, is_first: bool, threads: int, rounds: int, barrier: Any, answers: Any
) -> None:
    """Take part in *rounds* stampedes with so many threads; put an `Answer` for each."""
    lock = threading.Lock()
    calls = [0] * rounds
    now = 0

    def compute() -> dict[str, int]:
        with lock:
            calls[now] += 1
        time.sleep(place.work)
        return {"pages": 3}

    read, forget = CASES[case](place, compute)

    def take_part(number: int) -> list[tuple[float, float]]:
        nonlocal now
        found = []
        for each in range(rounds):
            barrier.wait()
            if number == 0:
                now = each
                if is_first:
                    forget()
            barrier.wait()
            begin = time.monotonic()
            read()
            found.append((begin, time.monotonic()))
        return found

    with ThreadPoolExecutor(threads) as pool:
        times = list(pool.map(take_part, range(threads)))
    answers.put(
        [
            Answer(calls[each], min(t[each][0] for t in times), max(t[each][1] for t in times))
            for each in range(rounds)
        ]
    )
