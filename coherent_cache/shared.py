"""Values that other processes have computed: found in the tier, and put there.

The tier may lose anything at any time, and hold anything.  What makes a value of it right is that
it is asked for, and stored, by *generations* (`ledger.generation`), which are read in one order:

- to find a value, the store's label is read first, then the key's generation, then the tier.  A
  value that stands there under the key's generation was not invalidated before that generation was
  read, so it is as new as the label says.  The same goes for each key that it depends on, whose
  generations stand beside it.
- to put one, the generations of all its keys are read first, then the ledger is looked at, and if
  the store still has the value after that, nothing had invalidated it when they were read.  Its own
  key's is known from having looked for it; what it depends on is known when it is computed.

The interleaving the second guards against: a value is read from an old snapshot, somebody commits,
the generation is read, and the old value is stored under the new generation, wrong for good.
(Tests: test_an_old_snapshot_is_not_put_under_a_new_generation, and with a snapshot that was opened
before the generation was read, test_a_transaction_opened_before_the_generation_was_read.)

Only what the store has accepted is put: what a committed reader could have computed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from sqlalchemy.exc import DBAPIError

from .core import Core
from .entry import Entry, Slot, Variant, Waiting
from .greenlets import spawn
from .once import Mutex
from .points import point
from .transaction import Transaction


class Found(Protocol):
    """A value as the tier has it."""

    @property
    def value(self) -> Any:
        """The value."""
        ...

    @property
    def dependencies(self) -> Mapping[str, str]:
        """The keys it was computed from besides its own, and their generations."""
        ...


class ValueTier(Protocol):
    """What a tier has to do.  Nothing of it raises because a server is away."""

    def find(self, key: str, variant: str, generation: str) -> Found | None:
        """Return what stands there, or None."""
        ...

    def put(
        self, key: str, variant: str, generation: str, dependencies: Mapping[str, str], value: Any
    ) -> None:
        """Let others find *value*, if it can be."""
        ...

    def find_many(self, places: Sequence[tuple[str, str, str]]) -> Sequence[Found | None]:
        """`find` for several at once."""
        ...

    def put_many(self, values: Iterable[tuple[str, str, str, Mapping[str, str], Any]]) -> int:
        """`put` for several at once; return how many could be put."""
        ...

    def mutex(self, key: str, variant: str, generation: str) -> Mutex | None:
        """Return the lock that all processes share for that value; None if there is none."""


class Look(NamedTuple):
    """What was found at one moment, and the generation that was asked for; None if there is
    none, so that nothing can be found or put."""

    entry: Entry | None
    generation: str | None


_NOTHING = Look(None, None)


class SharedValues:
    """The way of one manager's values to and from its tier."""

    def __init__(self, core: Core, tier: ValueTier) -> None:
        self._core = core
        self._store = core.store
        self._tier = tier

    # Finding

    def look(self, slot: Slot, transactions: Iterable[Transaction], *, check: bool) -> Look:
        """Look for a value of *slot* as new as this call.

        With *check* the ledger is looked at first, by one who has waited: what he computes now has
        to be labelled as new as it is, or it could not be put.
        (Test: test_one_who_waited_for_the_old_value_computes_the_new_one_for_all.)
        """
        variant = variant_of(slot)
        if variant is None or (check and not self._check(transactions)):
            return _NOTHING
        label = self._store.label
        generation = self._generations([slot.key], transactions).get(slot.key)
        if generation is None:
            return _NOTHING
        found = self._ask(slot.key, variant, generation)
        if found is None or not found.dependencies:
            return Look(_entry(slot, found, label), generation)
        known = self._generations(list(found.dependencies), transactions)
        fits = known == found.dependencies
        return Look(_entry(slot, found if fits else None, label), generation)

    async def alook(self, slot: Slot, transactions: Iterable[Transaction], *, check: bool) -> Look:
        """`look` in a coroutine."""
        variant = variant_of(slot)
        if variant is None or (check and not await self._acheck(transactions)):
            return _NOTHING
        label = self._store.label
        generation = (await self._agenerations([slot.key], transactions)).get(slot.key)
        if generation is None:
            return _NOTHING
        found = await asyncio.to_thread(self._ask, slot.key, variant, generation)
        if found is None or not found.dependencies:
            return Look(_entry(slot, found, label), generation)
        known = await self._agenerations(list(found.dependencies), transactions)
        fits = known == found.dependencies
        return Look(_entry(slot, found if fits else None, label), generation)

    @point(before="tier: generation read, tier not asked")
    def _ask(self, key: str, variant: str, generation: str) -> Found | None:
        return self._tier.find(key, variant, generation)

    # Putting

    def put(
        self, entry: Entry, transactions: Iterable[Transaction], generation: str | None
    ) -> None:
        """Let others find *entry*, if it is in the store and still is after a look.

        *generation* is its key's, read before the value was computed; None if that is not known.
        """
        generations = self._generations_to_put(entry, transactions, generation)
        if generations and self._still_holds(entry, transactions):
            self._put(entry, generations)

    async def aput(
        self, entry: Entry, transactions: Iterable[Transaction], generation: str | None
    ) -> None:
        """`put` in a coroutine."""
        if not self._core.is_async:
            generations = self._generations_to_put(entry, transactions, generation)
            holds = bool(generations) and self._still_holds(entry, transactions)
        else:
            generations = await spawn(self._generations_to_put, entry, transactions, generation)
            holds = bool(generations) and await spawn(self._still_holds, entry, transactions)
        if holds:
            await asyncio.to_thread(self._put, entry, generations)

    def _generations_to_put(
        self, entry: Entry, transactions: Iterable[Transaction], generation: str | None
    ) -> dict[str, str]:
        """The generations of all keys of *entry*; none if it is not to be put."""
        if variant_of(entry.slot) is None or not self._store.holds(entry):
            return {}
        if generation is not None and not entry.others:
            return {entry.key: generation}
        keys = entry.keys
        found = self._generations(list(keys), transactions)
        return found if found.keys() == keys else {}

    @point(before="tier: generations read, ledger not looked at")
    def _still_holds(self, entry: Entry, transactions: Iterable[Transaction]) -> bool:
        return self._check(transactions) and self._store.holds(entry)

    def _put(self, entry: Entry, generations: Mapping[str, str]) -> None:
        self._tier.put(*self._place(entry, generations))

    def _place(
        self, entry: Entry, generations: Mapping[str, str]
    ) -> tuple[str, str, str, Mapping[str, str], Any]:
        others = {key: generations[key] for key in entry.others or ()}
        variant = variant_of(entry.slot)
        assert variant is not None
        return entry.key, variant, generations[entry.key], others, entry.value

    # Many at once

    def find_many(self, slots: Iterable[Slot], transactions: Iterable[Transaction]) -> list[Entry]:
        """Return what the tier has of *slots*, by one question to it and at most two to the ledger;
        in the order of `look`, with the same proof."""
        named = [(slot, variant) for slot in slots if (variant := variant_of(slot)) is not None]
        label = self._store.label
        generations = self._generations([slot.key for slot, _ in named], transactions)
        asked = [(slot, variant) for slot, variant in named if slot.key in generations]
        found = self._tier.find_many(
            [(slot.key, variant, generations[slot.key]) for slot, variant in asked]
        )
        pairs = [(slot, each) for (slot, _), each in zip(asked, found, strict=True) if each]
        others = {key for _, each in pairs for key in each.dependencies}
        known = self._generations(list(others), transactions) if others else {}
        return [
            Entry(slot, each.value, label, others=frozenset(each.dependencies))
            for slot, each in pairs
            if each.dependencies.items() <= known.items()
        ]

    def put_many(self, entries: Iterable[Entry], transactions: Iterable[Transaction]) -> int:
        """Let others find *entries*, see `put`, by one question to the ledger, one look and one
        message to the tier; return how many could be put."""
        # What a snapshot had waits as bytes until somebody asks for it.
        named = [
            entry
            for entry in entries
            if variant_of(entry.slot) is not None and not isinstance(entry.variant, Waiting)
        ]
        keys = set().union(*[entry.keys for entry in named])
        generations = self._generations(list(keys), transactions)
        if not generations or not self._check(transactions):
            return 0
        return self._tier.put_many(
            [
                self._place(entry, generations)
                for entry in named
                if entry.keys <= generations.keys() and self._store.holds(entry)
            ]
        )

    # The ledger

    def _check(self, transactions: Iterable[Transaction]) -> bool:
        """Look at the ledger; False if that failed."""
        try:
            self._core.access.check(transactions)
        except DBAPIError:
            return False  # the retriever will meet it, and say so
        return True

    async def _acheck(self, transactions: Iterable[Transaction]) -> bool:
        if not self._core.is_async:
            return self._check(transactions)
        return await spawn(self._check, transactions)

    def _generations(self, keys: list[str], transactions: Iterable[Transaction]) -> dict[str, str]:
        try:
            return self._core.access.generations(keys, transactions)
        except DBAPIError:
            return {}  # the retriever will meet it, and say so

    async def _agenerations(
        self, keys: list[str], transactions: Iterable[Transaction]
    ) -> dict[str, str]:
        if not self._core.is_async:
            return self._generations(keys, transactions)
        return await spawn(self._generations, keys, transactions)


def variant_of(slot: Slot) -> str | None:
    """What tells the values of one key apart in every process; None if they stay in this one."""
    if slot.variant is None:
        return ""
    return slot.variant.shared_as if isinstance(slot.variant, Variant) else None


def _entry(slot: Slot, found: Found | None, label: int) -> Entry | None:
    if found is None:
        return None
    return Entry(slot, found.value, label, others=frozenset(found.dependencies))
