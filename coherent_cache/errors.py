"""The exceptions of coherent_cache: one tree.

::

    CacheError
    ├── ConfigurationError        something has to be added or changed in the application
    │   ├── MissingManagerError   a cached attribute found no CacheManager
    │   ├── UnsupportedDatabaseError
    │   └── TableError            the ledger's table is missing or of another shape
    ├── KeyTypeError              a key part has no stable text (also a TypeError)
    ├── RecursiveRetrieverError   a retriever needs its own value (also a RecursionError)
    ├── NotKeptError              no value is kept of a generation (also a LookupError)
    ├── InvalidationError         the ledger could not be written, for a reason the user can mend
    ├── PayloadError              values as bytes, outside the process
    │   ├── SealingError          a value cannot leave the process
    │   │   ├── NotSerializable   it is of a type that would not come back as it was
    │   │   └── TooLarge          it has too many bytes
    │   └── BadPayload            bytes are not exactly the payload that was asked for
    └── SynchronousUseError       synchronous use of an asynchronous engine outside a greenlet

What the database driver raises (a lost connection, a full disk, a lock time-out) is passed on
as SQLAlchemy wraps it and is not part of this tree.
"""

from __future__ import annotations

from collections.abc import Sequence


class CacheError(Exception):
    """Base class of every error that coherent_cache itself raises."""


class ConfigurationError(CacheError):
    """Something has to be added or changed before the cache can work."""


class MissingManagerError(ConfigurationError, AttributeError):
    """A cached attribute was used and no `CacheManager` could be found for its instance."""

    def __init__(self, message: str, *, instance: object = None) -> None:
        super().__init__(message)
        self.instance = instance


class UnsupportedDatabaseError(ConfigurationError):
    """The engine's database is none of those the ledger has a proven protocol for."""

    def __init__(self, dialect: str, supported: Sequence[str]) -> None:
        super().__init__(
            f"coherent_cache has no ledger for the dialect {dialect!r}; "
            f"it supports {', '.join(supported)}"
        )
        self.dialect = dialect


class TableError(ConfigurationError):
    """The ledger's table does not exist, or is not one that this release can use."""

    def __init__(self, message: str, *, table: str) -> None:
        super().__init__(message)
        self.table = table


class KeyTypeError(CacheError, TypeError):
    """A key, or a part of one, is of a type that has no stable text."""


class RecursiveRetrieverError(CacheError, RecursionError):
    """A retriever asked for the very value it is computing."""

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__("a retriever needs its own value: " + " → ".join(keys))
        self.keys = tuple(keys)


class NotKeptError(CacheError, LookupError):
    """Neither the tier nor this process has a value of the key under that generation."""

    def __init__(self, key: str, generation: str) -> None:
        super().__init__(f"no value of {key!r} is kept under the generation {generation!r}")
        self.key = key
        self.generation = generation


class InvalidationError(CacheError):
    """Invalidations could not be written into the ledger; their transaction cannot commit."""

    def __init__(self, message: str, *, keys: Sequence[str]) -> None:
        super().__init__(message)
        self.keys = tuple(keys)


class PayloadError(CacheError):
    """Base class of the errors of values that are bytes outside the process."""


class SealingError(PayloadError):
    """A value cannot leave the process; it can still be cached inside it."""


class NotSerializable(SealingError):  # noqa: N818
    """The serializer does not take a value, or something in it.

    *type_name* is the type of what it does not take.
    """

    def __init__(self, message: str, *, type_name: str) -> None:
        super().__init__(message)
        self.type_name = type_name


class TooLarge(SealingError):  # noqa: N818
    """A value has more bytes than the limit allows.

    *size_bytes* is what it has, or had when the serializer gave up; *max_bytes* is the limit.
    """

    def __init__(self, message: str, *, size_bytes: int, max_bytes: int) -> None:
        super().__init__(message)
        self.size_bytes = size_bytes
        self.max_bytes = max_bytes


class BadPayload(PayloadError):  # noqa: N818
    """Bytes from outside the process are not exactly the payload that was asked for.

    *reason* is a short word, the same in every release, to count by: one of
    `coherent_cache.sealing.envelope.REASONS`.
    """

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(f"bad payload ({reason})" + (f": {message}" if message else ""))
        self.reason = reason


class SynchronousUseError(CacheError):
    """A synchronous call needs I/O on an asynchronous engine outside of a greenlet."""
