"""Which benchmarks there are."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from .progress import Progress
from .tables import Table

#: Modules of this package, in the order they run in.
NAMES = (
    "hit",
    "check",
    "steps",
    "news",
    "crowd",
    "asynchronous",
    "many_keys",
    "writers",
    "tier",
    "push",
    "memory",
    "eviction",
    "restart",
    "churn",
    "stampede",
    "requests",
    "load",
)


@dataclass(frozen=True)
class Options:
    """What a run was asked for."""

    #: Fewer and shorter rounds: to see that it works, not to publish.
    quick: bool = False
    #: How long benchmarks that watch something over time go on; None leaves it to them.
    minutes: float | None = None
    #: Kinds of databases, as in `tests.databases`: those that do not answer are left out.
    databases: tuple[str, ...] = ("sqlite-wal", "postgresql", "mariadb")
    #: Only tables whose title contains this.  (Where a table is dear; others ignore it.)
    only: str = ""
    progress: Progress = field(default_factory=Progress)

    @property
    def rounds(self) -> int:
        """How many ratios the median is taken of."""
        return 5 if self.quick else 15


@dataclass(frozen=True)
class Benchmark:
    """One module."""

    name: str
    #: The module's docstring: what it does and what the limit is.
    says: str
    run: Callable[[Options], Iterable[Table]]


def find(name: str) -> Benchmark:
    """Import the benchmark called *name*."""
    module = importlib.import_module(f"{__package__}.{name}")
    return Benchmark(name, (module.__doc__ or "").strip(), module.run)
