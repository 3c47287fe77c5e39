"""Case 7: out of order.

T1 writes its row of the ledger and takes the lower number; T2 writes its own, takes a higher one
and commits first.  A worker checks and sees T2's row.  Then T1 commits.  A worker that looks for
numbers greater than the last it saw never learns of T1's invalidation, and serves the old value for
ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ..workers import PageText, Worker, put
from .support import LEVELS, at_level, check, check_until_calm, loads, stored, while_committing

pytestmark = pytest.mark.on("postgresql", "mariadb")


def commit_while_committing(
    first: Worker, second: Worker, reader: Worker, between: Callable[[], None]
) -> None:
    """*first* stands before its COMMIT, its row is written; *second* commits; *reader* checks."""
    first.write("A", "old")
    first.write("B", "old")
    assert reader.read("A") == reader.read("B") == "old"

    def meanwhile() -> None:
        second.write("B", "new")
        assert reader.read("B") == "new"
        assert reader.read("A") == "old"
        between()
        assert reader.read("A") == stored(reader.database, "A") == "old"

    while_committing(first.engine, meanwhile)
    first.write("A", "new")
    assert reader.read("A") == "new"
    assert reader.read("B") == "new"


@pytest.mark.parametrize("level", LEVELS)
def test_case_07_out_of_order(worker: Worker, other: Worker, level: str) -> None:
    reader = Worker(worker.database)
    # (At SERIALIZABLE MariaDB's readers would wait for the writer: these are the writers.)
    commit_while_committing(at_level(worker, level), at_level(worker, level), reader, lambda: None)


def test_case_07_many_checks_and_commits_between(worker: Worker, other: Worker) -> None:
    # A worker may look as often as it likes while T1 is open.
    reader = Worker(worker.database)

    def between() -> None:
        for number in range(5):
            other.write("B", f"new {number}")
            assert reader.read("B") == f"new {number}"
            other.write("C", f"new {number}")
            check(reader)
        other.write("B", "new")

    commit_while_committing(worker, other, reader, between)


@pytest.mark.on("postgresql")
def test_case_07_after_many_looks_that_found_nothing(worker: Worker, other: Worker) -> None:
    # The look that asks for the snapshot alone finds another one, and goes on to the rows.
    worker.write("A", "old")
    worker.write("B", "old")
    assert other.read("A") == other.read("B") == "old"
    for number in range(3):
        check_until_calm(other)
        before = PageText.calls
        worker.write("A", f"new {number}")
        assert other.read("A") == f"new {number}"
        assert other.read("B") == "old"
        assert PageText.calls == before + 1


def test_case_07_nested_three_deep(worker: Worker, other: Worker) -> None:
    # Opened 1, 2, 3 and committed 3, 2, 1; the reader checks after each.
    third, reader = Worker(worker.database), Worker(worker.database)
    for name in "ABC":
        worker.write(name, "old")
        assert reader.read(name) == "old"

    def texts() -> list[str | None]:
        return [reader.read(name) for name in "ABC"]

    def second() -> None:
        while_committing(other.engine, lambda: third.write("C", "new"))
        other.write("B", "new")
        assert texts() == ["old", "new", "new"]

    while_committing(worker.engine, second)
    worker.write("A", "new")
    assert texts() == ["new", "new", "new"]


def test_case_07_same_key(worker: Worker, other: Worker) -> None:
    # Both invalidate one key; the one that is seen first is not the last word.
    reader = Worker(worker.database)
    manager = worker.cache_manager
    values = iter(["one", "two", "three"])

    def read() -> str:
        return reader.cache_manager.get("key", lambda: next(values))

    assert read() == "one"

    def meanwhile() -> None:
        other.cache_manager.invalidate("key")
        assert read() == "two"
        assert read() == "two"

    while_committing(worker.engine, meanwhile)
    with manager.begin() as connection:
        put(connection, "Front", "text")
        manager.invalidate("key")
    assert read() == "three"


def test_case_07_many_keys_at_once(worker: Worker, other: Worker) -> None:
    # More keys than one statement names, on both sides.
    reader = Worker(worker.database)
    manager = reader.cache_manager
    worker.write("a", "text")
    worker.write("b", "text")
    assert manager.get("a 1100", lambda: "old") == "old"
    assert manager.get("b 1100", lambda: "old") == "old"

    def invalidate(worker: Worker, letter: str) -> None:
        with worker.cache_manager.begin() as connection:
            put(connection, letter, "text")
            for number in range(1101):
                worker.cache_manager.invalidate(f"{letter} {number}")

    def meanwhile() -> None:
        invalidate(other, "b")
        assert manager.get("b 1100", lambda: "new") == "new"
        assert manager.get("a 1100", lambda: "new") == "old"

    while_committing(worker.engine, meanwhile)
    invalidate(worker, "a")
    assert manager.get("a 1100", lambda: "new") == "new"


def test_case_07_the_one_that_stays_open_rolls_back(worker: Worker, other: Worker) -> None:
    # Then nothing was invalidated, and the next one on the same connection is seen.
    reader = Worker(worker.database)
    worker.write("A", "old")
    assert reader.read("A") == "old"

    class UndoError(Exception):
        pass

    def meanwhile() -> None:
        other.write("B", "new")
        assert reader.read("B") == "new"
        assert reader.read("A") == "old"  # also where the horizon made it drop everything
        raise UndoError

    while_committing(worker.engine, meanwhile)
    with pytest.raises(UndoError):
        worker.write("A", "never")
    before = loads(reader)
    assert reader.read("A") == "old"
    assert loads(reader) == before
    worker.write("A", "new")
    assert reader.read("A") == "new"


def test_case_07_a_reader_that_starts_in_between(worker: Worker, other: Worker) -> None:
    # Its first look at the ledger is while T1 stands before its COMMIT.
    worker.write("A", "old")
    late = Worker(worker.database)

    def meanwhile() -> None:
        assert late.read("A") == "old"
        other.write("B", "new")
        assert late.read("A") == "old"

    while_committing(worker.engine, meanwhile)
    worker.write("A", "new")
    assert late.read("A") == "new"


@pytest.mark.on("mariadb")
def test_case_07_prepared_transaction_of_mariadb(worker: Worker, other: Worker) -> None:
    # Prepared long ago and committed last; its connection has gone on meanwhile.
    reader = Worker(worker.database)
    worker.write("A", "old")
    assert reader.read("A") == "old"
    with worker.engine.connect() as connection:
        transaction = connection.begin_twophase()
        put(connection, "A", "new")
        del PageText(worker, "A").text
        transaction.prepare()
        for number in range(3):
            other.write("B", str(number))
            assert reader.read("B") == str(number)
        assert reader.read("A") == "old"
        transaction.commit()
    assert reader.read("A") == "new"


@pytest.mark.on("mariadb")
def test_case_07_prepared_transaction_holds_up_nobody(worker: Worker) -> None:
    # The prepared transaction has inserted a lane.  A connection that is made now looks for one
    # too; at SERIALIZABLE each row it looks at is locked, and that of the other one is waited for.
    with worker.engine.connect() as connection:
        transaction = connection.begin_twophase()
        put(connection, "A", "new")
        del PageText(worker, "A").text
        transaction.prepare()
        late = at_level(worker, "SERIALIZABLE")
        ledger: Any = late.cache_manager.core.ledger
        claim_lane, errors = ledger.claim_lane, []

        def claim(execute: Any) -> Any:
            try:
                return claim_lane(execute)
            except Exception as error:
                errors.append(error)
                raise

        ledger.claim_lane = claim
        with late.cache_manager.begin():
            late.cache_manager.invalidate("key")
        transaction.commit()
    assert errors == []
