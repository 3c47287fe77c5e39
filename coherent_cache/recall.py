"""Generations to look at: which one a key has, and the value that it had under one."""

from __future__ import annotations

from typing import Any

from .core import Core
from .entry import Slot
from .errors import NotKeptError
from .shared import ValueTier, variant_of


def generation_of(core: Core, key: str) -> str | None:
    """See `CacheManager.generation`."""
    return core.access.generations([key], core.transactions_around()).get(key)


def recall(core: Core, tier: ValueTier | None, slot: Slot, generation: str) -> Any:
    """See `CacheManager.recall`."""
    variant = variant_of(slot)
    if tier is not None and variant is not None:
        found = tier.find(slot.key, variant, generation)
        if found is not None:
            return found.value
    # The store does not know its entries' generations.  One that is there, and still is after a
    # look that comes after the generation was read, is of that generation (see `shared`).
    entry = core.store.get(slot)
    if entry is not None and generation_of(core, slot.key) == generation:
        core.access.check(core.transactions_around())
        if core.store.holds(entry):
            return entry.value
    raise NotKeptError(slot.key, generation)
