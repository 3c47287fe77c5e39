"""How new a request's values have to be: the modes of a `CacheManager`, and what each promises."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from .errors import ConfigurationError

_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)


def _seconds_on_end() -> float:
    """A clock that nobody sets and that goes on while the machine sleeps, if there is one."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)


@dataclass(frozen=True)
class Strict:
    """A request sees every commit that had returned when it began: one check a request.

    With *shared_memory* a check on SQLite in WAL mode, on Linux, asks nothing if the memory that
    SQLite shares between processes shows that nothing was committed since the last (`wal_index`).
    Where that cannot be shown, checks ask as they do without it.
    """

    shared_memory: bool = False


@dataclass(frozen=True)
class Bounded:
    """A request sees every commit that had returned *seconds* before it first read a cached value,
    and all that this process committed: at most one check in *seconds*, beside own commits.

    *clock* returns seconds and never goes back.
    """

    seconds: float
    clock: Callable[[], float] = field(default=_seconds_on_end, repr=False, compare=False)

    def __post_init__(self) -> None:
        _require_seconds(self)


@dataclass(frozen=True)
class Push(Bounded):
    """What `Bounded` promises, and normally much fresher: on PostgreSQL processes tell each other
    of their commits, and a thread makes the checks, so that requests ask nothing.

    The thread looks at the ledger when another process with `Push` has committed invalidations,
    when this one has, and each *seconds* / 2.  Where it is late or gone, requests check as in
    `Bounded`.  Needs a synchronous engine with psycopg 3.
    """


@dataclass(frozen=True)
class OneHost:
    """What `Strict` promises, of commits by processes that have the same *path*; and of those by
    others what `Bounded` promises with *seconds*.  On PostgreSQL and MariaDB/MySQL, on one host.

    The processes announce their commits to each other in a file at *path*, which they map into
    memory (`announcements`).  A check asks nothing where that shows that nothing was committed
    since the last one.

    *path* names a file on a local disk, best one in memory (``/dev/shm``, ``/run``), which is made
    if it is not there.  No other program may write it, and nobody remove it while it is in use.
    """

    path: str | os.PathLike[str]
    seconds: float = 1.0
    clock: Callable[[], float] = field(default=_seconds_on_end, repr=False, compare=False)

    def __post_init__(self) -> None:
        _require_seconds(self)
        if not os.fspath(self.path):
            raise ConfigurationError("OneHost(path) needs the path of a file")


Freshness: TypeAlias = Strict | Bounded | OneHost


def _require_seconds(mode: Bounded | OneHost) -> None:
    if not mode.seconds > 0:
        raise ConfigurationError(
            f"{type(mode).__name__}(seconds=...) is more than 0, not {mode.seconds!r}; "
            f"Strict() checks at each request"
        )


def freshness_of(setting: Any) -> Freshness:
    """Return what a configuration means: a mode, "strict", "shared-memory", seconds, "push:" and
    seconds, or "one-host:" and a path."""
    if isinstance(setting, Strict | Bounded | OneHost):
        return setting
    if setting == "strict":
        return Strict()
    if setting == "shared-memory":
        return Strict(shared_memory=True)
    if isinstance(setting, str) and setting.startswith("one-host:"):
        return OneHost(setting.removeprefix("one-host:"))
    try:
        if isinstance(setting, str) and setting.startswith("push:"):
            return Push(float(setting.removeprefix("push:")))
        return Bounded(float(setting))
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"freshness is Strict(), OneHost(path), Bounded(seconds=...), Push(seconds=...), "
            f"'strict', 'shared-memory', seconds, 'push:SECONDS' or 'one-host:PATH', "
            f"not {setting!r}"
        ) from None


class LastLook:
    """Whether the newest look at the ledger is new enough to do without another."""

    # No lock: `_look` is one tuple that is replaced as a whole.  Two looks that end at once may
    # leave the older of them, which costs a check.

    def __init__(self, freshness: Freshness) -> None:
        self._bound = freshness if isinstance(freshness, Bounded | OneHost) else None
        self._commits = 0
        self._look: tuple[float, int] | None = None

    def will_do(self) -> bool:
        """Whether the newest look began within the bound and after the last own commit."""
        bound, look = self._bound, self._look
        if bound is None or look is None:
            return False
        began, commits = look
        return commits == self._commits and bound.clock() - began <= bound.seconds

    def begin(self) -> tuple[float, int] | None:
        """Call before a look; hand what it returns to `end` when the news are applied."""
        return None if self._bound is None else (self._bound.clock(), self._commits)

    def end(self, begun: tuple[float, int] | None) -> None:
        """The look that began with *begun* is complete."""
        self._look = begun

    def outdate(self) -> None:
        """This process has committed an invalidation, or may have: look before the next read."""
        # A look that is under way began before: it carries the old number, or counts as such if
        # two commits of threads coincide here and one number is lost.
        self._commits += 1

    def forget(self) -> None:
        """Nothing vouches any more for what is in memory."""
        self._look = None
