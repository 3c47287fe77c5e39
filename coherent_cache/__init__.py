"""In-process caching that stays coherent with the SQL database it was computed from.

See `CacheManager` and `cached`.
"""

from .descriptors import CachedProperty, CachedPropertyBase, CachedSingletonProperty, cached
from .errors import (
    BadPayload,
    CacheError,
    ConfigurationError,
    InvalidationError,
    KeyTypeError,
    MissingManagerError,
    NotKeptError,
    NotSerializable,
    PayloadError,
    RecursiveRetrieverError,
    SealingError,
    SynchronousUseError,
    TableError,
    TooLarge,
    UnsupportedDatabaseError,
)
from .freshness import Bounded, OneHost, Push, Strict
from .keys import make_key
from .ledger import LedgerStatus
from .manager import CacheManager, Statistics
from .resolve import add_manager_source, set_manager_resolver
from .schema import LedgerTables, add_tables
from .source import ConnectionSource
from .view import View

__version__ = "0.1.0"

__all__ = [
    "BadPayload",
    "Bounded",
    "CacheError",
    "CacheManager",
    "CachedProperty",
    "CachedPropertyBase",
    "CachedSingletonProperty",
    "ConfigurationError",
    "ConnectionSource",
    "InvalidationError",
    "KeyTypeError",
    "LedgerStatus",
    "LedgerTables",
    "MissingManagerError",
    "NotKeptError",
    "NotSerializable",
    "OneHost",
    "PayloadError",
    "Push",
    "RecursiveRetrieverError",
    "SealingError",
    "Statistics",
    "Strict",
    "SynchronousUseError",
    "TableError",
    "TooLarge",
    "UnsupportedDatabaseError",
    "View",
    "add_manager_source",
    "add_tables",
    "cached",
    "make_key",
    "set_manager_resolver",
]
