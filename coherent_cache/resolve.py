"""How a cached attribute finds its `CacheManager`.

In this order: the application's own rule (`set_manager_resolver`), ``instance.env.cache_manager``,
``instance.cache_manager``, and what a framework integration supplies (`add_manager_source`).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from .errors import MissingManagerError

if TYPE_CHECKING:
    from .core import Core
    from .manager import CacheManager

Resolver: TypeAlias = "Callable[[Any], CacheManager | None]"

_resolver: Resolver | None = None
_sources: list[Resolver] = []

#: Those of all managers that this process ever made.
_cores: list[weakref.ref[Core]] = []


def set_manager_resolver(resolver: Resolver | None) -> None:
    """Set the application's own rule: an instance in, its manager out, or None to go on with
    the other ways.  None takes the rule away."""
    global _resolver
    _resolver = resolver
    _tell_the_first()


def note_manager(core: Core) -> None:
    """A manager with *core* is being made."""
    _cores.append(weakref.ref(core))
    _tell_the_first()


def _tell_the_first() -> None:
    """Let the first manager know whether it is the only one that a value may be of: then a read
    need not ask an instance for its manager.  Once there was another it never is again.

    Of two threads that make managers one sees both; it is asked again after it was told, for the
    other may have told it in between.  (Test: test_the_only_manager.)
    """
    first = _cores[0]() if _cores else None
    if first is not None:
        first.is_only = _is_only()
        if not _is_only():
            first.is_only = False


def _is_only() -> bool:
    return len(_cores) == 1 and _resolver is None


def add_manager_source(source: Resolver) -> None:
    """Let a framework integration supply managers where an instance names none."""
    if source not in _sources:
        _sources.append(source)


def manager_of(instance: Any, attribute: str) -> CacheManager:
    """Return the manager for *instance*, or raise `MissingManagerError`."""
    if _resolver is not None:
        ruled = _resolver(instance)
        if ruled is not None:
            return ruled
    found: CacheManager | None
    env = getattr(instance, "env", None)
    if env is not None:
        found = getattr(env, "cache_manager", None)
        if found is not None:
            return found  # type: ignore[no-any-return]
    found = getattr(instance, "cache_manager", None)
    if found is not None:
        return found  # type: ignore[no-any-return]
    for source in _sources:
        found = source(instance)
        if found is not None:
            return found
    raise MissingManagerError(
        f"{attribute} is cached and found no CacheManager for the instance of "
        f"{type(instance).__qualname__}: give the instance 'cache_manager' (or 'env' with one), "
        f"initialise the framework's extension, or call coherent_cache.set_manager_resolver()",
        instance=instance,
    )
