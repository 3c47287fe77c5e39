"""How new a request's values have to be: the modes of a `CacheManager`, and what each promises."""

from __future__ import annotations

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
        if not self.seconds > 0:
            raise ConfigurationError(
                f"{type(self).__name__}(seconds=...) is more than 0, not {self.seconds!r}; "
                f"Strict() checks at each request"
            )


@dataclass(frozen=True)
class Push(Bounded):
    """What `Bounded` promises, and normally much fresher: on PostgreSQL processes tell each other
    of their commits, and a thread makes the checks, so that requests ask nothing.

    The thread looks at the ledger when another process with `Push` has committed invalidations,
    when this one has, and each *seconds* / 2.  Where it is late or gone, requests check as in
    `Bounded`.  Needs a synchronous engine with psycopg 3.
    """


Freshness: TypeAlias = Strict | Bounded


def freshness_of(setting: Any) -> Freshness:
    """Return what a configuration means: a mode, "strict", "shared-memory", seconds, or
    "push:" and seconds."""
    if isinstance(setting, Strict | Bounded):
        return setting
    if setting == "strict":
        return Strict()
    if setting == "shared-memory":
        return Strict(shared_memory=True)
    try:
        if isinstance(setting, str) and setting.startswith("push:"):
            return Push(float(setting.removeprefix("push:")))
        return Bounded(float(setting))
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"freshness is Strict(), Bounded(seconds=...), Push(seconds=...), 'strict', "
            f"'shared-memory', seconds or 'push:SECONDS', not {setting!r}"
        ) from None


class LastLook:
    """Whether the newest look at the ledger is new enough to do without another."""

    # No lock: `_look` is one tuple that is replaced as a whole.  Two looks that end at once may
    # leave the older of them, which costs a check.

    def __init__(self, freshness: Freshness) -> None:
        self._bound = freshness if isinstance(freshness, Bounded) else None
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
