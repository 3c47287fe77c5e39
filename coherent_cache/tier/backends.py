"""What a dogpile.cache region or backend is used for here: bytes in, bytes out, and in time.

Left to itself dogpile.cache unpickles what it finds: a region by its deserializer, and the clients
of memcached by the flags of an item, which whoever can write to the server chooses.  So a region's
own `get` and `set` are never called, only its backend's ``get_serialized_multi`` and
``set_serialized_multi``; and a client that cannot be kept from unpickling is refused
(`docs/tier.md` has the list).
"""

from __future__ import annotations

import dbm
import functools
import importlib
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from dogpile.cache import CacheRegion
from dogpile.cache.api import BytesBackend, CacheBackend, NoValue
from dogpile.cache.backends import memcached, memory, null
from dogpile.cache.backends.file import DBMBackend, FileLock
from dogpile.cache.exception import RegionNotConfigured

from ..errors import ConfigurationError

_log = logging.getLogger("coherent_cache")

TIMEOUT = 0.25  # seconds: for a connection, for an answer, for the lock of a file
LOCK_TIMEOUT = 30  # seconds after which a server lets go of a lock nobody released

_LOCAL = (memory.MemoryBackend, memory.MemoryPickleBackend, null.NullBackend)
_SERVER_CLASSES = {"RedisBackend", "RedisSentinelBackend", "ValkeyBackend", "ValkeySentinelBackend"}
_CLUSTER_CLASSES = {"RedisClusterBackend", "ValkeyClusterBackend"}

#: Errors that are an answer: the server is there, and does not want this (it is full, say).
_ANSWERS = {
    ("redis.exceptions", "ResponseError"),
    ("redis.exceptions", "LockError"),  # it had ended
    ("valkey.exceptions", "ResponseError"),
    ("valkey.exceptions", "LockError"),
    ("pymemcache.exceptions", "MemcacheServerError"),
    ("pymemcache.exceptions", "MemcacheClientError"),
}
#: To pymemcache a kind of MemcacheServerError.
_HUNG_UP = ("pymemcache.exceptions", "MemcacheUnexpectedCloseError")


class BytesSerde:
    """For pymemcache: bytes as they are.  An item whose flags say anything else is a miss."""

    def serialize(self, key: object, value: bytes | int) -> tuple[bytes, int]:
        """Return *value* with the flags for bytes (an int is what dogpile's lock stores)."""
        return (value if isinstance(value, bytes) else b"%d" % value), 0

    def deserialize(self, key: object, value: bytes, flags: int) -> bytes | None:
        """Return *value*, or None where another client stored something that is not bytes."""
        return value if flags == 0 else None


BYTES = BytesSerde()


class Storage(NamedTuple):
    """A backend as the tier uses it.  Every method may raise whatever its client raises."""

    name: str
    timeout: float
    backend: CacheBackend
    mangle: Callable[[str], str] | None
    disconnect: Callable[[], None]  # after an error, and in a forked child
    close: Callable[[], None]
    has_mutex: bool

    def get(self, addresses: Sequence[str]) -> Sequence[object]:
        """Return what is stored at each address, None for nothing.  I/O."""
        keys = [self.mangle(each) for each in addresses] if self.mangle else list(addresses)
        found = self.backend.get_serialized_multi(keys)
        if len(found) != len(keys):
            raise ValueError(f"{len(keys)} keys were asked for and {len(found)} values came")
        return [None if isinstance(each, NoValue) else each for each in found]

    def set(self, items: Mapping[str, bytes]) -> None:
        """Store *items*.  I/O."""
        mangle = self.mangle
        if mangle:
            items = {mangle(address): value for address, value in items.items()}
        self.backend.set_serialized_multi(items)

    def mutex(self, address: str) -> Any:
        """Return the lock that all processes share for *address*; None if there is none."""
        if not self.has_mutex:
            return None
        return self.backend.get_mutex(self.mangle(address) if self.mangle else address)


def adopt(source: CacheRegion | CacheBackend) -> Storage:
    """Return *source*, a configured region or a backend, as a storage of bytes.

    It belongs to the tier from here on: time-outs that it does not have are set, and what would
    unpickle or wait for long is switched off, in place.  No I/O, except that a file is looked at.
    Raises `ConfigurationError` for one that cannot be made safe; the message names another.
    """
    backend: Any
    if isinstance(source, CacheRegion):
        try:
            backend = source.backend
        except RegionNotConfigured as error:
            raise ConfigurationError(
                "the region is not configured; call its configure() before the tier is made"
            ) from error
        mangle = source.key_mangler
    elif isinstance(source, CacheBackend):
        backend = source
        mangle = source.key_mangler
    else:
        raise ConfigurationError(
            f"{source!r} is neither a region nor a backend of dogpile.cache; "
            "make one by dogpile.cache.make_region().configure(...)"
        )
    actual: Any = backend
    while hasattr(actual, "proxied"):
        actual = actual.proxied
    kinds = {each.__name__ for each in type(actual).__mro__}
    timeout, disconnect = TIMEOUT, _nothing
    close: Callable[[], None] | None = None
    if isinstance(actual, _LOCAL):
        pass
    elif isinstance(actual, memcached.PyMemcacheBackend):
        timeout, disconnect = _prepare_pymemcache(actual)
    elif isinstance(actual, memcached.GenericMemcachedBackend):
        raise ConfigurationError(
            f"{type(actual).__name__} cannot be used: its client unpickles any item whose flags "
            "say so; configure dogpile.cache.pymemcache"
        )
    elif kinds & _CLUSTER_CLASSES:
        raise ConfigurationError(
            f"{type(actual).__name__} cannot be used: it reads and writes several keys by one "
            "command, which a cluster refuses for keys of different slots; configure "
            "dogpile.cache.redis or dogpile.cache.redis_sentinel (or their valkey twins)"
        )
    elif kinds & _SERVER_CLASSES:
        timeout = _prepare_redis(actual)
        close = functools.partial(_close_redis, actual)
    elif isinstance(actual, DBMBackend):
        disconnect = _prepare_dbm(actual)
    elif isinstance(actual, BytesBackend):
        _log.warning(
            "the time-outs of %s are not known to coherent_cache: see that it has short ones",
            type(actual).__name__,
        )
    else:
        raise ConfigurationError(
            f"{type(actual).__name__} cannot be used: only a BytesBackend of dogpile.cache is sure "
            "to hold bytes and to unpickle nothing; configure dogpile.cache.redis, "
            "dogpile.cache.valkey, dogpile.cache.pymemcache or dogpile.cache.dbm"
        )
    return Storage(
        _name(actual), timeout, backend, mangle, disconnect, close or disconnect, _has_mutex(actual)
    )


def is_answer(error: Exception) -> bool:
    """Whether *error* was the server's answer, so that it is there."""
    names = {(each.__module__, each.__name__) for each in type(error).__mro__}
    return not names.isdisjoint(_ANSWERS) and _HUNG_UP not in names


def _nothing() -> None:
    """For storages whose clients look after their connections themselves."""


def _name(backend: Any) -> str:
    """For logs: without user and password, which a URL may have."""
    kind = type(backend).__name__.removesuffix("Backend")
    if isinstance(backend, memcached.GenericMemcachedBackend):
        servers: Any = backend.url
        where = ", ".join(str(each) for each in servers)
    elif isinstance(backend, DBMBackend):
        where = backend.filename
    elif hasattr(backend, "reader_client"):
        options = backend.reader_client.connection_pool.connection_kwargs
        where = options.get("path") or f"{options.get('host', '')}:{options.get('port', '')}"
        where = getattr(backend, "service_name", where)
    else:
        return kind
    return f"{kind} {where}"


def _has_mutex(backend: Any) -> bool:
    """Whether it has a lock for each address; that of a dbm file is one for all of them."""
    if not getattr(backend, "distributed_lock", False):
        return False
    if not backend.lock_timeout:
        # Else the lock of a process that was killed would be held for ever.
        backend.lock_timeout = LOCK_TIMEOUT
    if hasattr(backend, "thread_local_lock"):
        # A coroutine's lock is released by any thread (test_a_servers_lock_of_a_coroutine).
        backend.thread_local_lock = False
    return True


def _prepare_redis(backend: Any) -> float:
    """Set the time-outs that are not given, and return the longest wait for an answer."""
    given = {*backend.connection_kwargs, *_in_url(backend.url)}
    for name in ("socket_timeout", "socket_connect_timeout"):
        if getattr(backend, name, None) is not None:
            given.add(name)
    clients = [backend.writer_client]
    if backend.reader_client is not backend.writer_client:
        clients.append(backend.reader_client)
    # Those who are asked where the server is: they are part of the wait.
    sentinel = getattr(clients[0].connection_pool, "sentinel_manager", None)
    clients += sentinel.sentinels if sentinel is not None else []
    if any(each.connection_pool.connection_kwargs.get("decode_responses") for each in clients):
        raise ConfigurationError("bytes have to come out: leave decode_responses out of the region")
    if backend.connection_pool is not None:
        # Others may use it, so it is not changed.
        timeout = backend.connection_pool.connection_kwargs.get("socket_timeout")
        if timeout is None:
            raise ConfigurationError(
                "the connection_pool of the region has no socket_timeout, so that a server that "
                f"hangs would stop every request; make it with socket_timeout={TIMEOUT}, "
                f"socket_connect_timeout={TIMEOUT}"
            )
        return float(timeout)
    for client in clients:
        options = client.connection_pool.connection_kwargs
        for name in ("socket_timeout", "socket_connect_timeout"):
            if name not in given:
                options[name] = TIMEOUT
        # redis-py tries up to ten times, with pauses.
        if given.isdisjoint({"retry", "retry_on_timeout", "retry_on_error"}):
            package = type(client).__module__.partition(".")[0]
            retry = importlib.import_module(f"{package}.retry")
            backoff = importlib.import_module(f"{package}.backoff")
            client.set_retry(retry.Retry(backoff.NoBackoff(), 0))
        client.connection_pool.disconnect(inuse_connections=False)
    return float(clients[0].connection_pool.connection_kwargs["socket_timeout"])


def _close_redis(backend: Any) -> None:
    """Close its connections, but for those of a pool that was given: others may use it."""
    for client in (backend.writer_client, backend.reader_client):
        client.close()


def _in_url(url: str | None) -> list[str]:
    query = (url or "").partition("?")[2]
    return [each.partition("=")[0] for each in query.split("&")]


def _prepare_pymemcache(backend: Any) -> tuple[float, Callable[[], None]]:
    """See that its clients pass bytes on, wait for a short time, and leave retries to us."""
    default = sys.modules["pymemcache"].serde.pickle_serde
    if backend.serde is not BYTES:
        if backend.serde is not default:
            raise ConfigurationError(
                "leave the argument serde out of the region: the tier has its own, which passes "
                "bytes on and unpickles nothing"
            )
        if "_clients" in vars(backend):
            raise ConfigurationError(
                "the region is in use; the tier needs one of its own, which does not unpickle"
            )
        create = backend._create_client

        def create_client() -> Any:
            client = create()
            # dogpile.cache has no argument for these.
            for name in ("timeout", "connect_timeout"):
                if client.default_kwargs[name] is None:
                    client.default_kwargs[name] = TIMEOUT
            client.default_kwargs["serde"] = BYTES
            for each in client.clients.values():
                for name in ("timeout", "connect_timeout", "serde"):
                    setattr(each, name, client.default_kwargs[name])
            return client

        backend._create_client = create_client
        backend.serde = BYTES
        # Without a reply add() says yes to everyone, and errors are not seen.
        backend.default_noreply = False
        # The breaker decides when to try again.  The client's own way is to answer "nothing there"
        # for a minute (test_memcached_is_not_given_up).
        backend.enable_retry_client = False
        backend.hashclient_retry_attempts = sys.maxsize
        backend.hashclient_retry_timeout = -1

    def disconnect() -> None:
        # After an error the rest of an answer may still come: the connection is not used again.
        # A forked child must not read its parent's answers.
        backend.client.close()

    return float(backend.client.default_kwargs["timeout"]), disconnect


class TimedFileLock(FileLock):
    """dogpile's lock of a file, with an end to the wait (`TIMEOUT` seconds)."""

    def acquire_read_lock(self, wait: bool) -> bool:
        """Raise TimeoutError if others write for too long."""
        return self._before_long(super().acquire_read_lock, wait)

    def acquire_write_lock(self, wait: bool) -> bool:
        """Raise TimeoutError if others read or write for too long."""
        return self._before_long(super().acquire_write_lock, wait)

    def _before_long(self, acquire: Callable[[bool], bool], wait: bool) -> bool:
        end = time.monotonic() + TIMEOUT
        while not acquire(False):
            if not wait:
                return False
            if time.monotonic() >= end:
                raise TimeoutError(f"{self.filename} was locked for {TIMEOUT} seconds")
            time.sleep(0.002)
        return True


def _prepare_dbm(backend: Any) -> Callable[[], None]:
    """Limit the wait for its lock; what is returned makes the file again if it was deleted."""
    if backend._rw_lock is None:
        raise ConfigurationError(
            "leave rw_lockfile=False out of the region: processes that write a dbm file at the "
            "same time destroy it"
        )
    if type(backend._rw_lock) is FileLock:
        backend._rw_lock = TimedFileLock(backend._rw_lock.filename)  # type: ignore[no-untyped-call]
    if dbm.whichdb(backend.filename) == "dbm.dumb":
        _log.warning(
            "%s is read whole at each look-up (dbm.dumb): it is for tests; this Python has neither "
            "dbm.gnu nor dbm.sqlite3",
            backend.filename,
        )
    make_file: Callable[[], None] = backend._init_dbm_file
    return make_file
