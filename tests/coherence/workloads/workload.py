"""What a workload is made of."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .attributes import Attribute
    from .client import Client

#: A kind of request.
Kind = Callable[["Client"], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Workload:
    """The requests of a run, and the application that they are made to."""

    about: str
    #: Kinds of requests (`Kind`) by how often each is made.
    kinds: Mapping[Any, int]
    #: The attributes that are read, by how often each is.
    shows: Mapping[type[Attribute], int]
    #: How many items there are.  The first ones are hot.
    items: int = 12
    #: The tables that are written to, by the first letter of their keys.
    tables: str = "i"
    #: How many keys a transaction writes at most.
    keys: int = 3
    #: A request has an ORM session, whose objects are read and written.
    orm: bool = False
    expire_on_commit: bool = True
    #: Tasks of an event loop instead of threads.
    is_async: bool = False
    #: How often a retriever is slow, and for how many seconds at most.
    slow: tuple[float, float] = (0.1, 0.004)
    #: Transactions that are held open are so for so many seconds at most.
    longest: float = 0.15
    #: How many rows a pruning leaves in the ledger.
    keep: int = 20
