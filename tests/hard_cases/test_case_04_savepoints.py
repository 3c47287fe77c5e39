"""Case 4: savepoints.

Within a transaction a savepoint is begun; the page is changed and its text deleted in it.  If it is
rolled back, nothing is invalidated, and what was computed in it is gone.  If it is released, the
invalidation counts when the outer transaction commits, and only then; if that rolls back, it never
happened.  An invalidation kept with the transaction alone would be early, late, or lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from ..workers import PageText, Worker, put
from .support import LEVELS, at_level, in_thread, ledger_rows, loads, stored


class UndoError(Exception):
    pass


Way = Callable[[Worker], AbstractContextManager[tuple[Connection, Callable[[], Any]]]]


@contextmanager
def core(worker: Worker) -> Iterator[tuple[Connection, Callable[[], Any]]]:
    with worker.engine.begin() as connection:
        yield connection, connection.begin_nested


@contextmanager
def managers(worker: Worker) -> Iterator[tuple[Connection, Callable[[], Any]]]:
    with worker.cache_manager.begin() as connection:
        yield connection, connection.begin_nested


@contextmanager
def orm(worker: Worker) -> Iterator[tuple[Any, Callable[[], Any]]]:
    with Session(worker.engine) as session, session.begin():
        session.connection()
        yield session, session.begin_nested


@contextmanager
def orm_without_a_connection(worker: Worker) -> Iterator[tuple[Any, Callable[[], Any]]]:
    # The session takes its connection only when it begins the savepoint.
    with Session(worker.engine) as session, session.begin():
        yield session, session.begin_nested


@contextmanager
def by_text(worker: Worker) -> Iterator[tuple[Connection, Callable[[], Any]]]:
    names = iter(["x", "y", "z"])

    @contextmanager
    def nested() -> Iterator[None]:
        name = next(names)
        connection.execute(text(f"SAVEPOINT {name}"))
        try:
            yield
        except UndoError:
            connection.execute(text(f"ROLLBACK TO SAVEPOINT {name}"))
            raise
        connection.execute(text(f"RELEASE SAVEPOINT {name}"))

    with worker.engine.begin() as connection:
        yield connection, nested


WAYS: list[Way] = [core, managers, orm, orm_without_a_connection, by_text]
each_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


def change(worker: Worker, connection: Any, new: str) -> None:
    put(connection, "Front", new)
    del PageText(worker, "Front").text


def rolled_back(worker: Worker, other: Worker, way: Way) -> None:
    worker.write("Front", "old")
    assert worker.read("Front") == other.read("Front") == "old"
    before, rows = loads(worker, other), ledger_rows(worker.database)
    with worker.cache_manager.request(), way(worker) as (connection, nested):
        with pytest.raises(UndoError), nested():
            change(worker, connection, "never")
            raise UndoError
        assert PageText(worker, "Front").text == "old"
    # Nothing was invalidated: nobody computes anything anew.
    assert ledger_rows(worker.database) == rows
    assert worker.read("Front") == other.read("Front") == stored(worker.database) == "old"
    assert loads(worker, other) == before


def released(worker: Worker, other: Worker, way: Way) -> None:
    worker.write("Front", "old")
    assert worker.read("Front") == other.read("Front") == "old"
    with way(worker) as (connection, nested):
        with nested():
            change(worker, connection, "new")
            assert PageText(worker, "Front").text == "new"
        # Released is not committed: not the data, not the invalidation.
        assert PageText(worker, "Front").text == "new"
        assert stored(worker.database) == "old"
        before = loads(other)
        assert other.read("Front") == in_thread(lambda: worker.read("Front")) == "old"
        assert loads(other) == before
    assert worker.read("Front") == other.read("Front") == "new"


@each_way
def test_case_04_rolled_back(worker: Worker, other: Worker, way: Way) -> None:
    rolled_back(worker, other, way)


@each_way
def test_case_04_released(worker: Worker, other: Worker, way: Way) -> None:
    released(worker, other, way)


@pytest.mark.on("postgresql", "mariadb")
@pytest.mark.parametrize("level", LEVELS)
def test_case_04_rolled_back_at_each_level(worker: Worker, other: Worker, level: str) -> None:
    rolled_back(at_level(worker, level), other, core)


@pytest.mark.on("postgresql", "mariadb")
@pytest.mark.parametrize("level", LEVELS[:2])
def test_case_04_released_at_each_level(worker: Worker, other: Worker, level: str) -> None:
    released(at_level(worker, level), other, core)


@pytest.mark.on("postgresql")  # on MariaDB readers would wait for the writer
def test_case_04_released_at_serializable(worker: Worker, other: Worker) -> None:
    released(at_level(worker, "SERIALIZABLE"), other, core)


@each_way
def test_case_04_released_inside_one_rolled_back(worker: Worker, other: Worker, way: Way) -> None:
    worker.write("Front", "old")
    assert worker.read("Front") == other.read("Front") == "old"
    before = loads(other)
    with worker.cache_manager.request(), way(worker) as (connection, nested):
        with pytest.raises(UndoError), nested():
            with nested():
                change(worker, connection, "never")
                assert PageText(worker, "Front").text == "never"
            assert PageText(worker, "Front").text == "never"
            raise UndoError
        assert PageText(worker, "Front").text == "old"
    assert worker.read("Front") == other.read("Front") == stored(worker.database) == "old"
    assert loads(other) == before


@each_way
def test_case_04_released_in_a_transaction_rolled_back(
    worker: Worker, other: Worker, way: Way
) -> None:
    worker.write("Front", "old")
    assert worker.read("Front") == other.read("Front") == "old"
    before = loads(worker, other)
    with pytest.raises(UndoError), way(worker) as (connection, nested):
        with nested():
            change(worker, connection, "never")
        raise UndoError
    assert worker.read("Front") == other.read("Front") == stored(worker.database) == "old"
    assert loads(worker, other) == before


@each_way
def test_case_04_outer_invalidation_survives_an_inner_rollback(
    worker: Worker, other: Worker, way: Way
) -> None:
    worker.write("Front", "old")
    assert worker.read("Front") == other.read("Front") == "old"
    with worker.cache_manager.request(), way(worker) as (connection, nested):
        change(worker, connection, "one")
        assert PageText(worker, "Front").text == "one"
        with pytest.raises(UndoError), nested():
            change(worker, connection, "two")
            assert PageText(worker, "Front").text == "two"
            raise UndoError
        # What was computed in the savepoint vanished with it.
        assert PageText(worker, "Front").text == "one"
        with nested():
            change(worker, connection, "three")
        assert PageText(worker, "Front").text == "three"
    assert worker.read("Front") == other.read("Front") == "three"


@each_way
def test_case_04_value_without_a_del(worker: Worker, way: Way) -> None:
    # Computed in the savepoint, on a cold store, with no del at all.
    worker.write("Front", "old")
    with worker.cache_manager.request(), way(worker) as (connection, nested):
        put(connection, "Other", "something")
        with pytest.raises(UndoError), nested():
            put(connection, "Front", "never")
            assert PageText(worker, "Front").text == "never"
            raise UndoError
        assert PageText(worker, "Front").text == "old"
    assert worker.read("Front") == "old"


def test_case_04_rolled_back_to_twice(worker: Worker, other: Worker) -> None:
    # ROLLBACK TO leaves the savepoint in place; what follows is again within it.
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    with worker.engine.begin() as connection:
        connection.execute(text("SAVEPOINT x"))
        change(worker, connection, "never")
        connection.execute(text("ROLLBACK TO x"))
        change(worker, connection, "neither")
        assert PageText(worker, "Front").text == "neither"
        connection.execute(text("ROLLBACK TO x"))
        assert PageText(worker, "Front").text == "old"
        change(worker, connection, "new")
        connection.execute(text("RELEASE SAVEPOINT x"))
    assert worker.read("Front") == other.read("Front") == "new"


def test_case_04_outer_savepoint_takes_the_inner_with_it(worker: Worker, other: Worker) -> None:
    # The inner one is neither released nor rolled back by itself.
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    before = loads(other)
    with worker.engine.begin() as connection:
        connection.execute(text("SAVEPOINT x"))
        connection.execute(text("SAVEPOINT y"))
        change(worker, connection, "never")
        connection.execute(text("ROLLBACK TO SAVEPOINT x"))
        assert PageText(worker, "Front").text == "old"
    assert other.read("Front") == "old"
    assert loads(other) == before
    with worker.engine.begin() as connection:
        connection.execute(text("SAVEPOINT x"))
        connection.execute(text("SAVEPOINT y"))
        change(worker, connection, "new")
        connection.execute(text("RELEASE SAVEPOINT x"))
    assert worker.read("Front") == other.read("Front") == "new"


def test_case_04_one_name_twice(worker: Worker, other: Worker) -> None:
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    with worker.engine.begin() as connection:
        connection.execute(text("SAVEPOINT x"))
        change(worker, connection, "new")
        connection.execute(text("SAVEPOINT x"))
        change(worker, connection, "never")
        connection.execute(text("ROLLBACK TO x"))
    assert stored(worker.database) == worker.read("Front") == other.read("Front") == "new"


def test_case_04_one_name_in_two_spellings(worker: Worker, other: Worker) -> None:
    # To the database x and X are one name, so only the second change is undone.
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    with worker.engine.begin() as connection:
        connection.execute(text("SAVEPOINT x"))
        change(worker, connection, "new")
        connection.execute(text("SAVEPOINT X"))
        change(worker, connection, "never")
        connection.execute(text("ROLLBACK TO x"))
    assert stored(worker.database) == worker.read("Front") == other.read("Front") == "new"


@pytest.mark.on("postgresql")
def test_case_04_quoted_names(worker: Worker, other: Worker) -> None:
    # Quoted, "x" and "X" are two names, and x is "x".
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    with worker.engine.begin() as connection:
        connection.execute(text('SAVEPOINT "x"'))
        change(worker, connection, "never")
        connection.execute(text('SAVEPOINT "X"'))
        change(worker, connection, "neither")
        assert PageText(worker, "Front").text == "neither"
        connection.execute(text("ROLLBACK TO x"))
        assert PageText(worker, "Front").text == "old"
    assert stored(worker.database) == worker.read("Front") == other.read("Front") == "old"


@pytest.mark.on("sqlite-wal", "sqlite-journal", "sqlite-memory")
def test_case_04_first_statement_is_a_savepoint(worker: Worker) -> None:
    # SQLite's driver begins no transaction before a SAVEPOINT: then its release would commit the
    # data, and the rollback of the transaction would find nothing to undo.
    worker.write("Front", "old")
    with worker.engine.connect() as connection:
        with connection.begin_nested():
            change(worker, connection, "never")
        connection.rollback()
    assert worker.read("Front") == "old"


@pytest.mark.on("sqlite-wal", "sqlite-journal")
@pytest.mark.parametrize("by", ["text", "begin_nested"])
def test_case_04_savepoint_is_the_transaction(worker: Worker, other: Worker, by: str) -> None:
    # With AUTOCOMMIT the outermost savepoint of SQLite is a transaction: its release commits.
    worker.write("Front", "old")
    assert worker.read("Front") == other.read("Front") == "old"
    with worker.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if by == "text":
            connection.execute(text("SAVEPOINT x"))
            change(worker, connection, "new")
            connection.execute(text("RELEASE x"))
        else:
            with connection.begin_nested():
                change(worker, connection, "new")
        assert stored(worker.database) == other.read("Front") == "new"
        assert in_thread(lambda: worker.read("Front")) == "new"
    assert worker.read("Front") == other.read("Front") == "new"


@pytest.mark.on("postgresql")
def test_case_04_error_in_a_savepoint(worker: Worker, other: Worker) -> None:
    # A failed statement; nothing can be asked until the rollback to the savepoint.
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    with worker.engine.begin() as connection:
        change(worker, connection, "new")
        nested = connection.begin_nested()
        del worker.wiki.names
        with pytest.raises(Exception, match="nowhere"):
            connection.execute(text("SELECT * FROM nowhere"))
        nested.rollback()
        assert PageText(worker, "Front").text == "new"
    assert worker.read("Front") == other.read("Front") == "new"
