"""How a cached attribute finds its `CacheManager`.

In this order: the application's own rule (`set_manager_resolver`), ``instance.env.cache_manager``,
``instance.cache_manager``, and what a framework integration supplies (`add_manager_source`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from .errors import MissingManagerError

if TYPE_CHECKING:
    from .manager import CacheManager

Resolver: TypeAlias = "Callable[[Any], CacheManager | None]"

_resolver: Resolver | None = None
_sources: list[Resolver] = []


def set_manager_resolver(resolver: Resolver | None) -> None:
    """Set the application's own rule: an instance in, its manager out, or None to go on with
    the other ways.  None takes the rule away."""
    global _resolver
    _resolver = resolver


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
