"""Gates around the functions in which the library's named points lie."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from coherent_cache.points import POINTS, Place


@contextmanager
def gates(names: Iterable[str], passing: Callable[[str], None]) -> Iterator[None]:
    """Inside the block *passing* is called, with its name, wherever a thread comes to a point.

    Objects that were made before are concerned too, unless they have kept a bound method.
    """
    functions: dict[tuple[str, str], dict[bool, str]] = {}
    for name in names:
        for place in POINTS[name]:
            functions.setdefault((place.module, place.qualname), {})[place.is_after] = name
    with ExitStack() as stack:
        for (module, qualname), moments in functions.items():
            for owner, attribute in _bindings(Place(module, qualname, False)):
                function = vars(owner)[attribute]
                assert inspect.isfunction(function), f"{module}.{qualname} is not a function"
                stack.enter_context(
                    patch.object(owner, attribute, _gated(function, moments, passing))
                )
        yield


def _bindings(place: Place) -> list[tuple[Any, str]]:
    """Where the function is found by those who call it: its class, or every module that has it."""
    module = sys.modules[place.module]
    *classes, name = place.qualname.split(".")
    if classes:
        return [(functools.reduce(getattr, classes, module), name)]
    function = getattr(module, name)
    ours = [m for n, m in sys.modules.items() if n.partition(".")[0] == "coherent_cache"]
    return [(m, n) for m in ours for n, value in list(vars(m).items()) if value is function]


def _gated(function: Any, moments: dict[bool, str], passing: Callable[[str], None]) -> Any:
    def stop(is_after: bool) -> None:
        if is_after in moments:
            passing(moments[is_after])

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def gated_coroutine(*args: Any, **kwargs: Any) -> Any:
            stop(False)
            found = await function(*args, **kwargs)
            stop(True)
            return found

        return gated_coroutine

    @functools.wraps(function)
    def gated(*args: Any, **kwargs: Any) -> Any:
        stop(False)
        found = function(*args, **kwargs)
        stop(True)
        return found

    return gated
