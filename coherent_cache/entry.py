"""What is kept of a value: the value, where it came from, and who may see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from typing import Self

_NOBODY: frozenset[Any] = frozenset()


class Variant:
    """What tells apart values that share a key, in this process by identity.

    *shared_as* tells them apart in every process; None where nothing does, or where the value is
    not to leave this one.
    """

    shared_as: str | None = None


class Waiting(Variant):
    """The variant of values as bytes that a snapshot had: nobody asks for it, so they wait until
    somebody asks for the variant that is *shared_as* that text (`Store.take_waiting`)."""

    def __init__(self, shared_as: str) -> None:
        self.shared_as = shared_as


class Slot(str):
    """Where a value lives in this process.

    *key* is what the ledger knows.  *variant* tells apart values that share a key and must not be
    taken for one another: an attribute inherited by a subclass, or two classes of one name; it is
    compared by identity.  An invalidation of the key reaches all its variants.
    """

    # It is a key of dictionaries first of all: text that holds its hash is found faster than a
    # tuple, whose hash is computed from its parts each time.  Slots that are equal have the same
    # variant: both hold theirs, so one number is one object.

    __slots__ = ("entry", "key", "variant")

    key: str
    variant: object
    #: What the store has here, if an attribute keeps the slot and has read the value from it; see
    #: `Store.place`.  A hint: it may be gone from the store.
    entry: Entry | None

    def __new__(cls, key: str, variant: object = None) -> Self:
        """Make the slot of *variant* of *key*."""
        self = super().__new__(cls, f"{id(variant)} {key}")
        self.key = key
        self.variant = variant
        self.entry = None
        return self


class Entry:
    """A value with its label.

    *label* is the state of the ledger the value is at least as new as, counted in the readings of
    this process (`Store.label`).  *keys* are the keys it was computed from: its own and those of
    every cached value its retriever read.  *owners* are the transactions and sessions whose
    uncommitted work it may contain (or how one that has ended did so); only a value without owners
    may be published.
    """

    # A process may hold a million of them: what is the same for most is not held by each.
    __slots__ = (
        "key",
        "label",
        "next",
        "others",
        "owners",
        "place",
        "queue",
        "size",
        "uses",
        "value",
        "variant",
    )

    def __init__(
        self,
        slot: Slot,
        value: Any,
        label: int,
        *,
        others: frozenset[str] | None = None,
        owners: frozenset[Any] = _NOBODY,
    ) -> None:
        self.key = slot.key
        self.variant = slot.variant
        self.value = value
        self.label = label
        #: The keys besides its own; None if there are none.
        self.others = others or None
        self.owners = owners or _NOBODY  # an empty set of its own would take 216 bytes
        # What follows belongs to the store that holds it, and is guarded by that store's lock.
        #: Another variant of the key.
        self.next: Entry | None = None
        #: The slot whose `Slot.entry` it is.
        self.place: Slot | None = None
        #: Where it stands in the order of eviction, see `eviction`; 0 if it is in no store.
        self.queue = 0
        self.uses = 0
        self.size = 0

    @property
    def slot(self) -> Slot:
        """Where it lives."""
        return Slot(self.key, self.variant)

    @property
    def keys(self) -> frozenset[str]:
        """The keys it was computed from."""
        return frozenset((self.key, *(self.others or ())))

    def depends_on(self, keys: frozenset[str]) -> bool:
        """Whether it was computed from one of *keys*."""
        return self.key in keys or (self.others is not None and not keys.isdisjoint(self.others))

    def owned_by(self, *owners: Any) -> Entry:
        """The same value, with *owners* instead of those it has."""
        return Entry(
            Slot(self.key, self.variant),
            self.value,
            self.label,
            others=self.others,
            owners=frozenset(owners),
        )


Entries: TypeAlias = dict[Slot, Entry]


def forget(entries: Entries, keys: frozenset[str]) -> Entries:
    """Remove from *entries* what was computed from any of *keys*, and return that."""
    # A copy is taken first: another thread of the request may be adding to it.
    found = {slot: entry for slot, entry in list(entries.items()) if entry.depends_on(keys)}
    for slot in found:
        entries.pop(slot, None)
    return found
