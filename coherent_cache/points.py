"""Named interleaving points: where a test may stop a thread.

What is hard about the protocol happens between two steps of one thread, while another acts.
`point` gives such a moment a name, next to the code it is in.  It returns the function unchanged
and only takes down where it is: nothing is added at run time, and nothing can be switched on in
production.  The tests put a gate around the functions that a schedule names (``tests/schedules``),
and a test shows that each name is used by one.

A name says what has happened and what has not: ``check: news read, not applied``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Place(NamedTuple):
    """Where a point lies: before or after a function."""

    module: str
    qualname: str
    is_after: bool


#: Name → its places: more than one where each kind of database has an implementation of its own.
POINTS: dict[str, tuple[Place, ...]] = {}


def point(
    *, before: str | None = None, after: str | None = None
) -> Callable[[_Function], _Function]:
    """Name the moment *before* the decorated function runs, or *after* it has returned."""

    def register(function: _Function) -> _Function:
        for name, is_after in ((before, False), (after, True)):
            if name is not None:
                place = Place(function.__module__, function.__qualname__, is_after)
                POINTS[name] = (*POINTS.get(name, ()), place)
        return function

    return register
