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


class SynchronousUseError(CacheError):
    """A synchronous call needs I/O on an asynchronous engine outside of a greenlet."""
