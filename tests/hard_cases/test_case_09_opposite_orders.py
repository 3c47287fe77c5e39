"""Case 9: opposite orders.

One transaction invalidates A then B, the other B then A.  Where an invalidation updates a row of
its key, each holds what the other needs: a deadlock, and at the stricter levels a serialization
failure, in transactions of the user that never met otherwise.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from ..databases import Database
from ..workers import PageText, Worker, metadata, page, put
from .support import (
    LEVELS,
    Gate,
    Thread,
    at_level,
    impatient,
    ledger_rows,
    while_committing,
)

pytestmark = pytest.mark.on("postgresql", "mariadb")


def cross(first: Worker, second: Worker, reader: Worker) -> None:
    for worker, names in ((first, "AB"), (second, "CD")):
        for name in names:
            worker.write(name, "old")
    for name in "ABCD":
        assert reader.read(name) == "old"
    # What they write is their own; what they invalidate is each other's.
    before = len(ledger_rows(reader.database))

    def meanwhile() -> None:
        with second.cache_manager.begin() as connection:
            put(connection, "C", "new")
            del PageText(second, "B").text
            del PageText(second, "A").text
            del PageText(second, "C").text
        assert reader.read("C") == "new"
        assert reader.read("A") == "old"

    while_committing(first.engine, meanwhile)
    with first.cache_manager.begin() as connection:
        put(connection, "A", "new")
        del PageText(first, "A").text
        del PageText(first, "B").text
        del PageText(first, "C").text
    assert [reader.read(name) for name in "ABCD"] == ["new", "old", "new", "old"]
    assert len(ledger_rows(reader.database)) == before + 6


@pytest.mark.parametrize("level", LEVELS)
def test_case_09_opposite_orders(worker: Worker, level: str) -> None:
    cross(at_level(worker, level), at_level(worker, level), worker)


@pytest.mark.on("mariadb")
@pytest.mark.parametrize("level", LEVELS[1:])
def test_case_09_with_snapshot_isolation(worker: Worker, level: str) -> None:
    settings = "SESSION innodb_snapshot_isolation = ON"
    first, second = (
        Worker(worker.database, engine=impatient(worker.database, level, settings=settings))
        for _ in range(2)
    )
    cross(first, second, worker)


@pytest.mark.parametrize("level", LEVELS)
def test_case_09_both_open_from_the_start(worker: Worker, level: str) -> None:
    # Both have their snapshots and their writes before either commits.
    first, second = at_level(worker, level), at_level(worker, level)
    with first.engine.connect() as one, second.engine.connect() as two:
        for own, connection, name in ((first, one, "A"), (second, two, "B")):
            connection.execute(page.insert().values(name=name, text="new", version=0))
            order = "AB" if own is first else "BA"
            for each in order:
                own.cache_manager.invalidate(PageText(own, each), "text", connection=connection)
        while_committing(first.engine, two.commit)
        one.commit()
    assert worker.read("A") == worker.read("B") == "new"


def outcomes(engines: tuple[Engine, Engine], invalidate: Callable[..., None]) -> list[str]:
    """Two transactions that read both pages and write one each; what becomes of them."""
    found: list[str] = []

    def work(engine: Engine, reads: str, writes: str, stop: Callable[[], None]) -> str:
        try:
            with engine.begin() as connection:
                connection.execute(page.select().where(page.c.name == reads)).all()
                stop()
                connection.execute(page.update().where(page.c.name == writes).values(text="new"))
                invalidate(engine, connection)
        except DBAPIError as error:
            return type(error.orig).__name__
        return "committed"

    gate = Gate()
    thread = Thread(lambda: work(engines[0], "A", "B", gate.stop))
    gate.wait()
    found.append(work(engines[1], "B", "A", lambda: None))
    gate.open()
    found.append(thread.result())
    return found


@pytest.mark.on("postgresql")
@pytest.mark.parametrize("level", LEVELS)
def test_case_09_those_that_conflict_anyway(worker: Worker, level: str) -> None:
    # Write skew: at SERIALIZABLE one of the two fails, with our rows or without, and it is the
    # same one.
    worker.write("A", "old")
    worker.write("B", "old")
    without = outcomes(
        (impatient(worker.database, level), impatient(worker.database, level)),
        lambda engine, connection: None,
    )
    first, second = at_level(worker, level), at_level(worker, level)
    managers = {id(each.engine): each.cache_manager for each in (first, second)}

    def invalidate(engine: Engine, connection: object) -> None:
        for key in ("A", "B"):
            managers[id(engine)].invalidate(key)

    assert outcomes((first.engine, second.engine), invalidate) == without
    assert without.count("committed") == (1 if level == "SERIALIZABLE" else 2)


@pytest.mark.parametrize("level", LEVELS)
def test_case_09_a_reader_that_checks_is_no_conflict(worker: Worker, level: str) -> None:
    # A transaction that reads cached values, and so checks, between another's ledger row and its
    # commit; then it writes and commits too.
    worker.write("A", "old")
    first, second = at_level(worker, level), at_level(worker, level)
    with second.engine.connect() as beside:
        second.cache_manager.get("key", lambda: 1)

        def meanwhile() -> None:
            beside.execute(page.insert().values(name="B", text="new", version=0))
            second.cache_manager.get("key", lambda: 2)
            second.cache_manager.invalidate("key")

        while_committing(first.engine, meanwhile)
        with first.cache_manager.begin() as connection:
            put(connection, "A", "new")
            first.cache_manager.invalidate("key")
        beside.commit()
    assert worker.read("A") == "new"
    assert worker.read("B") == "new"


@pytest.mark.on("mariadb")
def test_case_09_connection_without_a_lane(database: Database) -> None:
    # The pool's connection is older than the tables, so it claimed no lane; the one that it makes
    # with its first commit is its own all the same, and nobody else's.
    first = Worker(database)
    with first.engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    metadata.create_all(first.engine)
    first.cache_manager.create_table()
    first.write("A", "old")
    second = at_level(first, None)
    second.write("B", "old")
    while_committing(first.engine, lambda: second.write("B", "new"))
    first.write("A", "new")
    assert second.read("A") == "new"
    assert first.read("B") == "new"
