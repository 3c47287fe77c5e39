"""One computation of a value: what it was computed from, and so who may see it."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any

from .entry import Entry, Slot
from .errors import RecursiveRetrieverError
from .greenlets import current_owner
from .lending import Loans
from .transaction import Outcome, Transaction, numbers
from .work import Work


class Chain:
    """The loads that one context has under way, each inside the other."""

    __slots__ = ("_transactions", "turns_held", "waiting_on")

    def __init__(self) -> None:
        #: The flights that this one waits for, each with the load that needs it.
        self.waiting_on: list[tuple[Flight, Load | None]] = []
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

    __slots__ = ("_loop", "chain", "failed", "future", "label", "leader", "parent", "slot")

    def __init__(self, slot: Slot, chain: Chain, parent: Load | None, label: int) -> None:
        self.slot = slot
        self.chain = chain
        #: The load that it is a part of, and who leads it then.
        self.parent = parent
        self.leader = None if parent is None else current_owner()
        self._loop = asyncio._get_running_loop()
        self.label = label
        #: The load whose retriever raised.
        self.failed: Load | None = None
        #: Set to the entry, to the retriever's exception, or to None if there is nothing to share.
        self.future: Future[Entry | None] = Future()

    def includes(self, load: Load | None) -> bool:
        """Whether *load*, of the same chain, is a part of it."""
        while load is not None:
            if load.parent is self.parent and load.slot == self.slot:
                return True
            load = load.parent
        return False

    def is_led_in_this_loop(self) -> bool:
        """Whether the event loop that runs in this thread has to go on for it to end.

        (Test: test_get_beside_aget_in_one_loop.)
        """
        return self._loop is not None and self._loop is asyncio._get_running_loop()


class Load:
    """The load of one slot: label, keys and owners of the value to come."""

    __slots__ = (
        "chain",
        "ended",
        "is_over",
        "keys",
        "labels",
        "loans",
        "manager",
        "number",
        "owners",
        "parent",
        "slot",
        "touched",
    )

    def __init__(
        self, manager: Any, slot: Slot, label: int, parent: Load | None, chain: Chain
    ) -> None:
        self.manager = manager
        self.number = next(numbers)
        self.slot = slot
        #: How old what it has read may be; the value is as old as the oldest.  Collected: two
        #: threads of a retriever that each kept the lower of two might keep the higher.
        self.labels = {label}
        self.parent = parent
        self.chain = chain
        self.keys = {slot.key}
        self.owners: set[Work | Outcome] = set()
        #: The retriever has returned, or raised.
        self.is_over = False
        #: Where it works on a connection that its task was lent.
        self.loans: tuple[Loans, ...] = ()
        #: Transactions that the retriever itself has ended.
        self.ended: set[Transaction] = set()
        #: Transactions it read in and that are still open → label of their snapshot, and
        #: `Transaction.undone` at that time.
        self.touched: dict[Transaction, tuple[int, int]] = {}

    def borrow(self, loans: Loans, user: object) -> None:
        """Its task *user* is lent a connection until the load is over."""
        loans.lend(self, user)
        self.loans = (*self.loans, loans)

    def end(self) -> None:
        """The retriever has returned, or raised."""
        self.is_over = True
        for loans in self.loans:
            loans.give_back(self)

    def touch(self, transaction: Transaction, label: int) -> None:
        """The retriever executes something in *transaction*, whose snapshot is at least as new as
        *label*."""
        self.touched.setdefault(transaction, (label, transaction.undone))
        self.chain.works_in(transaction)

    def settle(self, transaction: Transaction, written: bool, statement_snapshots: bool) -> None:
        """Take down what *transaction* turned out to be, at its end or the load's."""
        found = self.touched.pop(transaction, None)
        if found is None:
            return  # another thread of the retriever has, at this moment
        label, undone = found
        if undone != transaction.undone:
            # The interleaving this guards against: another thread rolls back, or the retriever
            # itself, and the transaction, or the next on its connection, has written nothing.
            # (Tests: test_rolled_back_by_another_thread_during_the_load,
            # test_a_retriever_that_undoes_what_it_has_read.)
            self.owners.add(Outcome.LOST)
        elif written:
            self.owners.add(transaction)
        # A snapshot opened before this load began may be older than the newest reading of the
        # ledger: its label counts.  Where each statement has a snapshot of its own, it is new,
        # but for the objects that an ORM session kept.
        is_new = statement_snapshots and not transaction.keeps_objects
        if not is_new and transaction.manager is self.manager:
            self.labels.add(label)

    def absorb(self, entry: Entry, manager: Any) -> None:
        """The retriever read another cached value: the result is no newer and no cleaner."""
        self.owners |= entry.owners
        if manager is self.manager:  # labels of two managers cannot be compared
            self.keys |= entry.keys
            self.labels.add(entry.label)

    def absorb_failure(self, failed: Load) -> None:
        """A cached value that the retriever asked for could not be computed.  It may go on without:
        then its result depends on all that the failed load had read.

        (Test: test_case_16_computed_from_an_inner_failure.)
        """
        self.owners |= failed.owners
        for transaction, found in failed.touched.items():
            self.touched.setdefault(transaction, found)
            self.chain.works_in(transaction)
        self.ended |= failed.ended
        if failed.manager is self.manager:
            self.keys |= failed.keys
            self.labels |= failed.labels

    def concerns_others(self, label: int) -> bool:
        """Whether what it raised is to be raised by those who waited for it too, whose view has
        *label*: not if it read what is older, or in a transaction of its caller's.

        (Tests: test_an_exception_from_an_old_snapshot, …_of_anothers_failed_transaction.)
        """
        if self.owners or any(each.number < self.number for each in self.touched):
            return False
        return min(self.labels) >= label

    def result(self, value: Any) -> Entry:
        """The entry for what the retriever returned."""
        owners = frozenset(map(self._owner_now, self.owners))
        others = frozenset(self.keys - {self.slot.key})
        return Entry(self.slot, value, min(self.labels), others=others, owners=owners)

    def _owner_now(self, owner: Work | Outcome) -> Work | Outcome:
        if not isinstance(owner, Transaction) or owner not in self.ended or owner.outcome is None:
            return owner
        if owner.outcome is Outcome.ROLLED_BACK and owner.number < self.number:
            return Outcome.LOST  # it was the caller's
        return owner.outcome


current_load: ContextVar[Load | None] = ContextVar("coherent_cache.load", default=None)


def load_under_way() -> Load | None:
    """The load that this code computes a value for, if any.

    A task or thread that a retriever began and left behind has a copy of its context: what it does
    later is no part of that value.  (Tests: test_a_thread_that_outlives_the_retriever,
    test_task_begun_in_a_retriever.)
    """
    load = current_load.get()
    while load is not None and load.is_over:
        load = load.parent
    return load


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
