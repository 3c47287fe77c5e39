"""What is kept of a value: the value, where it came from, and who may see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from .transaction import Outcome, Transaction


class Slot(NamedTuple):
    """Where a value lives in this process.

    *key* is what the ledger knows.  *variant* tells apart values that share a key and must not be
    taken for one another: an attribute inherited by a subclass, or two classes of one name.  An
    invalidation of the key reaches all its variants.
    """

    key: str
    variant: Any = None


class Entry:
    """A value with its label.

    *label* is the state of the ledger the value is at least as new as, counted in the readings of
    this process (`Store.label`).  *keys* are the keys it was computed from: its own and those of
    every cached value its retriever read.  *owners* are the transactions whose uncommitted work
    it may contain (or how one that has ended did so); only a value without owners may be published.
    """

    __slots__ = ("keys", "label", "owners", "value")

    def __init__(
        self,
        value: Any,
        label: int,
        keys: frozenset[str],
        owners: frozenset[Transaction | Outcome] = frozenset(),
    ) -> None:
        self.value = value
        self.label = label
        self.keys = keys
        self.owners = owners


Entries: TypeAlias = dict[Slot, Entry]


def forget(entries: Entries, keys: frozenset[str]) -> None:
    """Remove from *entries* what was computed from any of *keys*."""
    # A copy is taken first: another thread of the request may be adding to it.
    for slot, entry in list(entries.items()):
        if not keys.isdisjoint(entry.keys):
            entries.pop(slot, None)
