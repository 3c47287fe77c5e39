"""`Tier`: values shared between processes and hosts, by dogpile.cache's backends.

What a value is found by is made of its key, its variant and the key's generation, so a value that
was invalidated is not found and needs not be deleted (`docs/protocol.md`).  What is found is opened
only if it was sealed for exactly that (`envelope`).
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dogpile.cache import CacheRegion
from dogpile.cache.api import CacheBackend

from ..errors import BadPayload, ConfigurationError, NotSerializable, TooLarge
from ..forking import tell_after_fork
from ..sealing import Envelope, Opened, Serializer, TypedSerializer
from .chain import Chain, LayerStatistics, Mutex
from .urls import region_from_url

_log = logging.getLogger("coherent_cache")

#: Keys that a warning was given for.
_REMEMBERED_WARNINGS = 1_000


@dataclass(frozen=True, slots=True)
class TierStatistics:
    """What a tier did in this process.

    *rejected* counts payloads that were found and not opened, by reason: something else writes
    there, or a key or the version was changed.  *not_serializable* and *too_large* count values
    that stayed in this process.
    """

    found: int
    missed: int
    put: int
    rejected: Mapping[str, int]
    not_serializable: int
    too_large: int
    layers: tuple[LayerStatistics, ...]


class Tier:
    """A shared tier for `CacheManager(tier=…)`.

    ::

        region = make_region().configure("dogpile.cache.redis", arguments={"url": "redis://…"})
        manager = CacheManager(engine, tier=Tier(region, application="shop"))

    :param layers: configured regions (or backends) of dogpile.cache, or URLs (`region_from_url`);
        several from the most local to the most global.  They belong to the tier from then on.
    :param application: tells the values of applications apart that share a server.
    :param version: change it with code that computes something else under the same keys.
    :param serializer: None for a `TypedSerializer`: plain values, exactly.
    :param keys: secrets of 16 bytes or more that authenticate payloads; needed with pickle, and
        wherever others can write to the server.  The first one seals, all open.
    :param algorithm: of the authentication, see `Envelope`.
    :param compress_above: bytes from which a value is compressed; None: never.
    :param compression_level: of zlib, 1 (fast) to 9 (small).
    :param max_bytes: the most that a payload may have; larger values stay in the process.

    Thread-safe.  A server that is away, slow or full is a miss and a count.  Raises
    `ConfigurationError`.

    .. versionadded:: 0.1.0
    """

    def __init__(
        self,
        *layers: CacheRegion | CacheBackend | str,
        application: str = "coherent_cache",
        version: str = "",
        serializer: Serializer | None = None,
        keys: Sequence[bytes | str] = (),
        algorithm: str = "sha256",
        compress_above: int | None = 1_024,
        compression_level: int = 6,
        max_bytes: int = 1_000_000,
    ) -> None:
        if not layers:
            raise ConfigurationError("a Tier has a layer: Tier(make_region().configure(…))")
        self._chain = Chain(
            region_from_url(each) if isinstance(each, str) else each for each in layers
        )
        self._envelope = Envelope(
            application=application,
            version=version,
            serializer=TypedSerializer() if serializer is None else serializer,
            keys=keys,
            algorithm=algorithm,
            compress_above=compress_above,
            compression_level=compression_level,
            max_bytes=max_bytes,
        )
        self._space = f"{len(application)} {application} {len(version)} {version}"
        self.after_fork()
        tell_after_fork(self)

    def after_fork(self) -> None:
        """In a child: nothing of the parent's lock and counts."""
        # Guards the counts and the warnings; a leaf.
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._warned: dict[str, None] = {}

    def find(self, key: str, variant: str, generation: str) -> Opened | None:
        """Return the value that stands there with what it depends on, or None.  I/O; raises
        nothing for a server's sake, nor for what is found."""
        (found,) = self.find_many([(key, variant, generation)])
        return found

    def find_many(self, places: Sequence[tuple[str, str, str]]) -> list[Opened | None]:
        """`find` for several keys, variants and generations, with one question to each layer."""
        payloads = self._chain.get([self._address(*place) for place in places])
        return [self._open(*each) for each in zip(payloads, places, strict=True)]

    def _open(self, payload: bytes | None, place: tuple[str, str, str]) -> Opened | None:
        if payload is None:
            self._count("missed")
            return None
        key, variant, generation = place
        try:
            opened = self._envelope.open(payload, key=key, variant=variant, generation=generation)
        except BadPayload as error:
            with self._lock:
                self._rejected[error.reason] += 1
            return None
        self._count("found")
        return opened

    def put(
        self, key: str, variant: str, generation: str, dependencies: Mapping[str, str], value: Any
    ) -> None:
        """Let others find *value*.  One that cannot be serialised, or is too large, stays in this
        process: it is counted, with one warning for each key.  I/O; raises nothing."""
        self.put_many([(key, variant, generation, dependencies, value)])

    def put_many(self, values: Iterable[tuple[str, str, str, Mapping[str, str], Any]]) -> int:
        """`put` for several, with one message to each layer; return how many could leave the
        process."""
        payloads: dict[str, bytes] = {}
        for key, variant, generation, dependencies, value in values:
            try:
                payload = self._envelope.seal(key, variant, generation, dependencies, value)
            except NotSerializable as error:
                self._stays("not_serializable", key, error)
            except TooLarge as error:
                self._stays("too_large", key, error)
            else:
                payloads[self._address(key, variant, generation)] = payload
                self._count("put")
        self._chain.put(payloads)
        return len(payloads)

    def mutex(self, key: str, variant: str, generation: str) -> Mutex | None:
        """Return the lock that all processes share for that value; None if no layer has such."""
        return self._chain.mutex(self._address(key, variant, generation) + ".lock")

    @property
    def statistics(self) -> TierStatistics:
        """What it did in this process.  No I/O."""
        with self._lock:
            counts, rejected = dict(self._counts), dict(self._rejected)
        return TierStatistics(
            found=counts.get("found", 0),
            missed=counts.get("missed", 0),
            put=counts.get("put", 0),
            rejected=rejected,
            not_serializable=counts.get("not_serializable", 0),
            too_large=counts.get("too_large", 0),
            layers=self._chain.statistics(),
        )

    def close(self) -> None:
        """Close its connections, but for those of a `connection_pool` that was given; they open
        again when they are needed."""
        for layer in self._chain.layers:
            layer.close()

    def _address(self, key: str, variant: str, generation: str) -> str:
        # A digest, since servers limit the length of a key: what is found is compared in full.
        text = f"{self._space} {len(key)} {key} {len(variant)} {variant} {generation}"
        data = text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(data, digest_size=24).hexdigest()

    def _count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1

    def _stays(self, name: str, key: str, error: Exception) -> None:
        with self._lock:
            self._counts[name] += 1
            known = key in self._warned
            if not known and len(self._warned) < _REMEMBERED_WARNINGS:
                self._warned[key] = None
            else:
                known = True
        if not known:
            _log.warning("a value of %r stays in this process: %s", key, error)


def as_tier(given: Any) -> Any:
    """Return what ``CacheManager(tier=…)`` means: a tier, or a region or URL, or several."""
    if hasattr(given, "find") and hasattr(given, "put"):
        return given
    if isinstance(given, Sequence) and not isinstance(given, str):
        return Tier(*given)
    return Tier(given)
