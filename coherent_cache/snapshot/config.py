"""What can be set of a snapshot."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigurationError
from ..tier.serializers import Serializer, TypedSerializer

#: The most that an `Envelope` can hold, less what stands around the values.
_MOST_BYTES = (1 << 32) - (1 << 20)


@dataclass(frozen=True)
class Snapshot:
    """A file that the values of a process go to, for ``CacheManager(snapshot=…)``.

    ::

        Snapshot("/var/cache/shop/values", version=RELEASE, keys=[SECRET])

    :param path: the file, in a directory that only this application may write to.  Workers share
        it.  Beside it stand a lock (``.lock``) and, for a moment, the file that replaces it.
    :param max_bytes: the most that it holds, not compressed; what is used most goes first.
    :param every: seconds between two savings while the process works; None: only at the end.
    :param application: tells files of applications apart.
    :param version: **change it with code that computes something else under the same keys**, most
        simply with each release.
    :param keys: secrets of 16 bytes or more that authenticate the file; needed with pickle.  The
        first one seals, all open.
    :param serializer: None for a `TypedSerializer`: plain values, exactly.
    :param compress: whether it is compressed.

    Raises `ConfigurationError`.  No I/O.

    .. versionadded:: 0.1.0
    """

    path: str | os.PathLike[str]
    max_bytes: int = 50_000_000
    every: float | None = 300.0
    application: str = "coherent_cache"
    version: str = ""
    keys: Sequence[bytes | str] = field(default=(), repr=False)
    serializer: Serializer | None = None
    compress: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | os.PathLike) or not os.fspath(self.path):
            raise ConfigurationError(f"a snapshot has a path, not {self.path!r}")
        if not 0 < self.max_bytes <= _MOST_BYTES:
            raise ConfigurationError(f"max_bytes= is 1 to {_MOST_BYTES}, not {self.max_bytes!r}")
        if self.every is not None and not self.every > 0:
            raise ConfigurationError(f"every= is in seconds, or None, not {self.every!r}")

    def make_serializer(self) -> Serializer:
        """The serializer of its values."""
        return TypedSerializer() if self.serializer is None else self.serializer


def as_snapshot(given: Any) -> Snapshot:
    """What ``CacheManager(snapshot=…)`` means: a `Snapshot`, or its path."""
    return given if isinstance(given, Snapshot) else Snapshot(given)
