"""What others keep in the storage that a tier uses, as their documentations show it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

from .storages import Storage


class Rival(NamedTuple):
    """A library: *get* returns the value called so, which it computes if it has none."""

    name: str
    get: Callable[[str], Any]


def rivals(storage: Storage, value: object) -> Iterator[AbstractContextManager[Rival]]:
    """One for each library that is installed and can use *storage*."""
    yield _dogpile(storage, value)
    if importlib.util.find_spec("flask_caching") is not None and storage.kind != "memcached":
        yield _flask_caching(storage, value)


@contextmanager
def _dogpile(storage: Storage, value: object) -> Iterator[Rival]:
    region = storage.region("dogpile")

    def create() -> object:
        return value

    yield Rival("dogpile.cache", lambda name: region.get_or_create(name, create))


@contextmanager
def _flask_caching(storage: Storage, value: object) -> Iterator[Rival]:
    from flask import Flask
    from flask_caching import Cache

    app = Flask(__name__)
    place = (
        {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_PORT": storage.port}
        if storage.kind == "redis"
        # The threshold: else it counts its files at each miss to remove some.
        else {
            "CACHE_TYPE": "FileSystemCache",
            "CACHE_DIR": str(storage.directory / "flask"),
            "CACHE_THRESHOLD": 0,
        }
    )
    cache = Cache(app, config={"CACHE_DEFAULT_TIMEOUT": 300, **place})

    @cache.memoize()
    def content(name: str) -> object:
        return value

    with app.app_context():
        yield Rival("Flask-Caching", content)
