"""A tier named by the text that stands in an environment variable: ``redis://localhost/0``."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import unquote, urlsplit

from dogpile.cache import CacheRegion, make_region

from ..errors import ConfigurationError

#: A lock of the server's own, for those who compute once for all.
_LOCK: dict[str, Any] = {"distributed_lock": True, "thread_local_lock": False}

_KNOWN = "redis://, rediss://, unix://, valkey://, memcached://host:port or file:///path"


def region_from_url(url: str) -> CacheRegion:
    """Return the region of dogpile.cache that *url* stands for.

    ============================================ =================================================
    ``redis://user:password@host:6379/0``        Redis; ``rediss://`` over TLS, ``unix://`` a socket
    ``valkey://…``                               Valkey, likewise
    ``memcached://host:11211,other:11211``       memcached, one or more
    ``file:///path/to/values.dbm``               a file of this host
    ============================================ =================================================

    No I/O.  Raises `ConfigurationError` for another scheme, or if the client is not installed.
    """
    scheme = urlsplit(url).scheme
    try:
        if scheme in ("redis", "rediss", "unix"):
            return _region("redis", url=url, **_LOCK)
        if scheme in ("valkey", "valkeys"):
            return _region("valkey", url=url, **_LOCK)
        if scheme == "memcached":
            servers = [each for each in urlsplit(url).netloc.split(",") if each]
            if servers:
                return _region("pymemcache", url=servers, distributed_lock=True)
        if scheme == "file":
            path = unquote(urlsplit(url).path)
            if path and not os.path.isdir(path):
                return _region("dbm", filename=path)
    except ImportError as error:
        raise ConfigurationError(
            f"the tier {scheme}:// needs a client that is not installed ({error}): "
            f"pip install coherent-cache[redis] or [memcached]"
        ) from error
    # Not the URL itself, which may have a password.
    raise ConfigurationError(f"a tier of the scheme {scheme!r} is not known: give {_KNOWN}")


def _region(name: str, **arguments: Any) -> CacheRegion:
    return make_region().configure(f"dogpile.cache.{name}", arguments=arguments)
