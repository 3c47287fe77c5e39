"""What the workers of a run are told."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from coherent_cache import Bounded, OneHost
from coherent_cache.freshness import freshness_of

if TYPE_CHECKING:
    from .workloads.worker import Inside

#: Errors, by the name of a class of theirs, that somebody who disturbs a run explains: whatever
#: SQLAlchemy, a driver or the system says.  "Error" is what each driver calls its own.
FAULTS = ("SQLAlchemyError", "Error", "OSError", "TimeoutError")


@dataclass(frozen=True)
class Plan:
    """What the workers are told."""

    kind: str
    url: URL
    isolation: str
    seconds: float = 3.0
    #: Threads of each worker, or tasks.
    threads: int = 2
    seed: int = 0
    #: What they do, see `workloads.catalogue`.
    workload: str = "mixed"
    #: How many items there are, 0 for what the workload says.
    items: int = 0
    #: A cache with a protection taken out, see `broken`.
    broken: str = ""
    #: The tier of all workers, see `tiers`; "" for none.
    tier: str = ""
    #: Keyword arguments for the workers' `CacheManager`.
    options: Mapping[str, Any] = field(default_factory=dict)
    #: Keyword arguments for their engines, beside those for the isolation level.
    engine: Mapping[str, Any] = field(default_factory=dict)
    #: Context managers that each worker runs its threads in: what goes wrong from within.
    within: tuple[Callable[[Inside], AbstractContextManager[None]], ...] = ()
    #: A value may be so many milliseconds behind the newest commit when the request begins.
    bound: float = 0.0
    #: Names of classes of errors that do not count as a failure, beside what a database says of
    #: conflicts.
    tolerate: tuple[str, ...] = ()

    def explains(self, error: BaseException) -> bool:
        """Whether a worker goes on after *error*: the request met with a conflict that its
        isolation level or its locks lead to, or with a fault."""
        if isinstance(error, DBAPIError):
            return True
        return any(kind.__name__ in self.tolerate for kind in type(error).__mro__)


def in_mode(setting: str) -> dict[str, Any]:
    """What a `Plan` needs to try a mode of the manager, and to judge by its promise; *setting* as
    in a configuration, or "one-host", for one round in a file of its own."""
    if setting == "one-host":
        # By the clock nobody looks, so what is announced is all there is.
        directory = tempfile.mkdtemp(prefix="coherent_cache_")
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
        path = Path(directory, "announcements")
        return {"options": {"freshness": OneHost(path, seconds=3600)}, "bound": 0.0}
    freshness = freshness_of(setting)
    bound = freshness.seconds * 1_000 if isinstance(freshness, Bounded) else 0.0
    return {"options": {"freshness": freshness}, "bound": bound}
