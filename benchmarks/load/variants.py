"""The same application with another cache: its cached attributes are replaced.

``@cached`` stays in the application's code.  For every variant but ours each cached attribute is
exchanged for one that asks the variant; ``del`` tells it.  Those that keep values in Redis delete
them after the COMMIT, as their documentations show it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from dogpile.cache import CacheRegion, make_region
from sqlalchemy import event

from coherent_cache import CachedPropertyBase, OneHost, Strict
from coherent_cache.freshness import Freshness

#: In the order of the tables.
NAMES = (
    "no cache",
    "Flask-Caching, Redis",
    "dogpile.cache, Redis",
    "trac.cache",
    "coherent_cache",
    "coherent_cache, tier in Redis",
    "coherent_cache, one host",
    "coherent_cache, one host, tier in Redis",
    "a dict that nobody tells",
)
OURS = tuple(name for name in NAMES if name.startswith("coherent_cache"))
#: The limit, which shows what is not so any more.
WRONG = ("a dict that nobody tells",)

_SECONDS = 300  # how long Redis keeps what is never deleted
_MISSING: Any = object()

Load = Callable[[], Any]


class Variant(Protocol):
    """A cache."""

    def begin_request(self) -> None:
        """A request begins in this thread."""

    def get(self, key: str, load: Load) -> Any:
        """Return the value of *key*, by *load* if it is not known."""

    def forget(self, key: str) -> None:
        """*key* changes with the transaction of the session."""


def chosen() -> str:
    """The variant that this process is to use."""
    return os.environ["LOAD_VARIANT"]


def freshness(dialect: str) -> Freshness:
    """How the chosen one of ours knows that nothing was committed: by a statement, or, where all
    workers are on one host, by memory that they share."""
    if "one host" not in chosen():
        return Strict()
    if dialect == "sqlite":
        return Strict(shared_memory=True)
    return OneHost(Path(os.environ["LOAD_INSTANCE"], "announcements"))


def region() -> CacheRegion | None:
    """Where the chosen one of ours shares its values; None if it does not."""
    if "tier" not in chosen():
        return None
    prefix = os.environ["LOAD_PREFIX"]
    return make_region(key_mangler=lambda key: prefix + key).configure(
        "dogpile.cache.redis",
        arguments={"url": os.environ["LOAD_REDIS"], "redis_expiration_time": 2 * _SECONDS},
    )


def switch(session: Any, engine: Any, classes: Iterable[type]) -> Variant | None:
    """Replace the cached attributes of *classes* as `chosen`; None if ours stays."""
    name = chosen()
    if name in OURS:
        return None
    variant: Variant
    if name == "no cache":
        variant = NoCache()
    elif name == "a dict that nobody tells":
        variant = Untold()
    elif name == "trac.cache":
        from .trac_cache import TracCache

        variant = TracCache(session, engine)
    else:
        variant = AfterCommit(session, FlaskCaching() if "Flask" in name else Dogpile())
    for owner in classes:
        for attribute, found in list(vars(owner).items()):
            if isinstance(found, CachedPropertyBase):
                setattr(owner, attribute, _Switched(found, variant))
    return variant


class _Switched:
    """A cached attribute that asks another cache."""

    def __init__(self, attribute: CachedPropertyBase[Any], variant: Variant) -> None:
        self._attribute = attribute
        self._variant = variant

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        attribute = self._attribute
        return self._variant.get(attribute.key_of(instance), lambda: attribute.retriever(instance))

    # With it the attribute goes before what stands in the instance's dictionary, as ours does.
    def __set__(self, instance: Any, value: Any) -> None:
        raise AttributeError(self._attribute.prefix)

    def __delete__(self, instance: Any) -> None:
        self._variant.forget(self._attribute.key_of(instance))


class NoCache:
    """Computes everything each time."""

    def begin_request(self) -> None:
        """See `Variant`."""

    def get(self, key: str, load: Load) -> Any:
        """See `Variant`."""
        return load()

    def forget(self, key: str) -> None:
        """See `Variant`."""


class Untold:
    """Keeps everything, whatever is written: the limit of what a cache can save, and wrong."""

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}

    def begin_request(self) -> None:
        """See `Variant`."""

    def get(self, key: str, load: Load) -> Any:
        """See `Variant`."""
        try:
            return self._known[key]
        except KeyError:
            return self._known.setdefault(key, load())

    def forget(self, key: str) -> None:
        """See `Variant`."""


class _Redis(Protocol):
    def get(self, key: str, load: Load) -> Any: ...
    def delete(self, keys: list[str]) -> None: ...


class AfterCommit:
    """Deletes keys when the session has committed."""

    def __init__(self, session: Any, redis: _Redis) -> None:
        self._session = session
        self._redis = redis
        self.get = redis.get
        factory = session.session_factory
        event.listen(factory, "after_commit", self._committed)
        event.listen(factory, "after_rollback", self._rolled_back)

    def begin_request(self) -> None:
        """See `Variant`."""

    def forget(self, key: str) -> None:
        """See `Variant`."""
        self._session().info.setdefault("forgotten", []).append(key)

    def _committed(self, session: Any) -> None:
        keys = session.info.pop("forgotten", None)
        if keys:
            self._redis.delete(keys)

    def _rolled_back(self, session: Any) -> None:
        session.info.pop("forgotten", None)


class FlaskCaching:
    """Flask-Caching's backend for Redis, by its plain interface (`memoize` asks twice)."""

    def __init__(self) -> None:
        from flask import Flask
        from flask_caching import Cache

        app = Flask(__name__)
        cache = Cache(
            app,
            config={
                "CACHE_TYPE": "RedisCache",
                "CACHE_REDIS_URL": os.environ["LOAD_REDIS"],
                "CACHE_KEY_PREFIX": os.environ["LOAD_PREFIX"],
                "CACHE_DEFAULT_TIMEOUT": _SECONDS,
            },
        )
        with app.app_context():
            self._cache = cache.cache

    def get(self, key: str, load: Load) -> Any:
        """The value in Redis, or a new one."""
        found = self._cache.get(key)
        if found is None:
            found = load()
            self._cache.set(key, found)
        return found

    def delete(self, keys: list[str]) -> None:
        """Delete *keys* in one round trip."""
        self._cache.delete_many(*keys)


class Dogpile:
    """A region of dogpile.cache on Redis."""

    def __init__(self) -> None:
        prefix = os.environ["LOAD_PREFIX"]
        self._region = make_region(key_mangler=lambda key: prefix + key).configure(
            "dogpile.cache.redis",
            expiration_time=_SECONDS,
            arguments={"url": os.environ["LOAD_REDIS"], "redis_expiration_time": 2 * _SECONDS},
        )

    def get(self, key: str, load: Load) -> Any:
        """The value in Redis, or a new one."""
        return self._region.get_or_create(key, load)

    def delete(self, keys: list[str]) -> None:
        """Delete *keys* in one round trip."""
        self._region.delete_multi(keys)
