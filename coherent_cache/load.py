"""One computation of a value: what it was computed from, and so who may see it."""

from __future__ import annotations

import os
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any

from .entry import Entry, Slot
from .errors import RecursiveRetrieverError
from .transaction import Outcome, Transaction


class Chain:
    """The loads that one context has under way, each inside the other."""

    __slots__ = ("_transactions", "turns_held", "waiting_on")

    def __init__(self) -> None:
        #: The flight of another chain that this one waits for.
        self.waiting_on: Flight | None = None
        #: How many locks its loads hold that other processes wait for, see `once`.
        self.turns_held = 0
        self._transactions: tuple[Transaction, ...] = ()

    def works_in(self, transaction: Transaction) -> None:
        """One of its loads works in *transaction*, or began within it."""
        if transaction not in self._transactions:
            self._transactions = (*self._transactions, transaction)

    @property
    def holds_connection(self) -> bool:
        """It has a database connection, so it will not wait for the pool.

        One that it gave back does not count: it may have to wait for another.
        (Test: test_case_16_pool_of_one_between_two_connections.)
        """
        return any(transaction.is_open for transaction in self._transactions)

    @property
    def may_hold_locks(self) -> bool:
        """It has executed something in a transaction that is open: somebody may be waiting for
        its end, and be waited for by others."""
        return any(t.is_open and t.executed for t in self._transactions)


class Flight:
    """A load that others may wait for."""

    __slots__ = ("chain", "failed", "future", "label")

    def __init__(self, chain: Chain, label: int) -> None:
        self.chain = chain
        self.label = label
        #: The load whose retriever raised.
        self.failed: Load | None = None
        #: Set to the entry, to the retriever's exception, or to None if there is nothing to share.
        self.future: Future[Entry | None] = Future()


class Load:
    """The load of one slot: label, keys and owners of the value to come."""

    __slots__ = (
        "chain",
        "ended",
        "keys",
        "label",
        "manager",
        "owners",
        "parent",
        "slot",
        "touched",
    )

    def __init__(
        self, manager: Any, slot: Slot, label: int, parent: Load | None, chain: Chain
    ) -> None:
        self.manager = manager
        self.slot = slot
        self.label = label
        self.parent = parent
        self.chain = chain
        self.keys = {slot.key}
        self.owners: set[Transaction | Outcome] = set()
        #: Transactions that the retriever itself has ended.
        self.ended: set[Transaction] = set()
        #: Transactions it read in and that are still open → label of their snapshot.
        self.touched: dict[Transaction, int] = {}

    def touch(self, transaction: Transaction, label: int) -> None:
        """The retriever executes something in *transaction*, whose snapshot is at least as new as
        *label*."""
        self.touched.setdefault(transaction, label)
        self.chain.works_in(transaction)

    def settle(self, transaction: Transaction, written: bool, statement_snapshots: bool) -> None:
        """Take down what *transaction* turned out to be, at its end or the load's."""
        label = self.touched.pop(transaction)
        if written:
            self.owners.add(transaction)
        # A snapshot opened before this load began may be older than the newest reading of the
        # ledger: its label counts.  Where each statement has a snapshot of its own, it is new,
        # but for the objects that an ORM session kept.
        is_new = statement_snapshots and not transaction.keeps_objects
        if not is_new and transaction.manager is self.manager:
            self.label = min(self.label, label)

    def absorb(self, entry: Entry, manager: Any) -> None:
        """The retriever read another cached value: the result is no newer and no cleaner."""
        self.owners |= entry.owners
        if manager is self.manager:  # labels of two managers cannot be compared
            self.keys |= entry.keys
            self.label = min(self.label, entry.label)

    def absorb_failure(self, failed: Load) -> None:
        """A cached value that the retriever asked for could not be computed.  It may go on without:
        then its result depends on all that the failed load had read.

        (Test: test_case_16_computed_from_an_inner_failure.)
        """
        self.owners |= failed.owners
        for transaction, label in failed.touched.items():
            self.touch(transaction, label)
        self.ended |= failed.ended
        if failed.manager is self.manager:
            self.keys |= failed.keys
            self.label = min(self.label, failed.label)

    def result(self, value: Any) -> Entry:
        """The entry for what the retriever returned."""
        owners = frozenset(
            owner.outcome or owner
            if isinstance(owner, Transaction) and owner in self.ended
            else owner
            for owner in self.owners
        )
        others = frozenset(self.keys - {self.slot.key})
        return Entry(self.slot, value, self.label, others=others, owners=owners)


current_load: ContextVar[Load | None] = ContextVar("coherent_cache.load", default=None)


def forbid_recursion(manager: Any, slot: Slot, load: Load | None) -> None:
    """Raise `RecursiveRetrieverError` if *slot* is being loaded in this context already."""
    path = [slot.key]
    while load is not None:
        path.append(load.slot.key)
        if load.manager is manager and load.slot == slot:
            raise RecursiveRetrieverError(path[::-1])
        load = load.parent


def _leave_the_load() -> None:
    """In a forked child the load that the parent is in the middle of is not ours.

    (Test: test_case_12_inside_a_retriever.)
    """
    current_load.set(None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_the_load)
