"""What comes when a transaction takes no more keys: the moments that no schedule stops at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import text

from coherent_cache.core import Core
from coherent_cache.errors import InvalidationError
from coherent_cache.scope import Scope
from coherent_cache.transaction import Outcome, Transaction

from .workers import PageText, Worker, put


class _Manager:
    """Does at a moment of the transaction's what another thread would."""

    def __init__(self) -> None:
        self.access = self
        self.when_stirred: Callable[[], Any] | None = None
        self.when_committed: Callable[[], Any] | None = None

    def stir(self) -> None:
        if self.when_stirred is not None:
            self.when_stirred()

    def committed(self, count: int) -> None:
        if self.when_committed is not None:
            self.when_committed()


@pytest.fixture
def manager() -> _Manager:
    return _Manager()


@pytest.fixture
def transaction(manager: _Manager) -> Transaction:
    watch: Any = None
    return Transaction(manager, Scope(request=True), watch, None)


def test_keys_that_come_in_time(transaction: Transaction) -> None:
    assert transaction.invalidate({"a"})
    assert transaction.close() == ["a"]
    assert transaction.end(Outcome.COMMITTED) == []


def test_keys_that_come_while_others_are_taken(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    pending = transaction.pending
    told = []

    def interrupted() -> Sequence[str]:
        taken = pending()
        told.append(transaction.invalidate({"late"}))
        return taken

    transaction.invalidate({"a"})
    monkeypatch.setattr(transaction, "pending", interrupted)
    assert transaction.close() == ["a"]
    assert told == [False]
    assert transaction.end(Outcome.COMMITTED) == ["late"]


@pytest.mark.parametrize("outcome", Outcome)
def test_keys_that_come_at_the_end(
    transaction: Transaction, manager: _Manager, outcome: Outcome
) -> None:
    """Before it has left its scope, and after it."""
    told = []
    manager.when_committed = lambda: told.append(transaction.invalidate({"late"}))
    transaction.invalidate({"a"})
    transaction.end(outcome)
    assert told == ([] if outcome is Outcome.ROLLED_BACK else [False])
    assert not transaction.invalidate({"later"})


def test_keys_that_come_while_the_connection_goes_on_with_another(
    transaction: Transaction, manager: _Manager
) -> None:
    """They were put where they were not taken from any more, and that is past when it is asked."""

    def another_thread() -> None:
        manager.when_stirred = None
        transaction.restart(Outcome.UNKNOWN)

    transaction.invalidate({"a"})
    transaction.close()
    manager.when_stirred = another_thread
    assert not transaction.invalidate({"late"})
    assert transaction.invalidate({"in the next one"})
    assert transaction.pending() == ["in the next one"]


def test_keys_that_come_while_it_is_found_calm(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []

    def interrupted(_: Transaction) -> bool:
        if not told:
            told.append(transaction.invalidate({"late"}))
        return True

    monkeypatch.setattr(Transaction, "is_calm", property(interrupted))
    transaction.end(Outcome.COMMITTED)
    assert told == [False]


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_it_goes_on_if_they_could_not_be_written(
    worker: Worker, other: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A COMMIT that is text, before which the rows could not be written: nothing has ended, so what
    is invalidated then goes with it, and is undone with it."""
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    with worker.engine.connect() as connection:
        put(connection, "Front", "new")
        del PageText(worker, "Front").text

        def fail(*_: Any) -> None:
            raise InvalidationError("a test", keys=())

        with monkeypatch.context() as patch:
            patch.setattr(Core, "write_keys", fail)
            with pytest.raises(InvalidationError):
                connection.execute(text("COMMIT"))
        loads = other.cache_manager.statistics.loads
        del PageText(worker, "Front").text
        connection.rollback()
    assert other.read("Front") == "old"
    assert other.cache_manager.statistics.loads == loads
