"""Case 2: read before the ``del``.

A process begins a transaction, changes the page in whatever way, and reads the text: it has not
been cached, so it is computed, from data that nobody has committed.  The transaction rolls back.
If the text had been kept for all, threads of the process would serve it before the rollback, and
everybody after it: no invalidation will ever remove it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, bindparam, text, update
from sqlalchemy.orm import Session

from ..workers import PageText, Worker, page, put
from .support import (
    LEVELS,
    OrmText,
    Page,
    at_level,
    in_thread,
    operator,
    orm_read,
    orm_write,
    stored,
)

NEVER = "UPDATE page SET text = 'never'"


def write_read_and_roll_back(
    worker: Worker, write: Callable[[Connection], Any], *, name: str = "Front"
) -> None:
    """The story; *write* changes Front or makes New."""
    worker.write("Front", "old")
    worker.cache_manager.evict()
    before = {"Front": "old", "New": None}[name]
    # Where plain reads take no lock.
    beside = worker.database.kind != "sqlite-memory" and not (
        worker.database.kind == "mariadb"
        and worker.engine.dialect._on_connect_isolation_level == "SERIALIZABLE"
    )
    with worker.engine.connect() as connection:
        with worker.cache_manager.request():
            connection.begin()
            write(connection)
            assert PageText(worker, name).text == "never"
            if beside:
                assert in_thread(lambda: worker.read(name)) == before
            connection.rollback()
            # After the rollback its own request does not see it either.
            assert PageText(worker, name).text == before
        assert worker.read(name) == before
    if worker.database.kind != "sqlite-memory":  # there each thread has a database of its own
        assert in_thread(lambda: worker.read(name)) == before


def _core(connection: Connection) -> None:
    put(connection, "Front", "never")


def _core_insert(connection: Connection) -> None:
    put(connection, "New", "never")


def _bulk(connection: Connection) -> None:
    statement = update(page).where(page.c.name == bindparam("key")).values(text=bindparam("new"))
    connection.execute(statement, [{"key": "Front", "new": "never"}, {"key": "X", "new": "x"}])


def _bulk_insert(connection: Connection) -> None:
    connection.execute(
        page.insert(), [{"name": "New", "text": "never"}, {"name": "New2", "text": "never"}]
    )


def _text(connection: Connection) -> None:
    connection.execute(text(NEVER))


def _commented(connection: Connection) -> None:
    connection.execute(text(f"/* a comment */ -- and another\n {NEVER}"))


def _driver_sql(connection: Connection) -> None:
    connection.exec_driver_sql(NEVER)


def _delete_and_insert(connection: Connection) -> None:
    connection.execute(page.delete())
    put(connection, "Front", "never")


WAYS = [_core, _bulk, _text, _commented, _driver_sql, _delete_and_insert]


@pytest.mark.parametrize("write", WAYS, ids=lambda way: way.__name__)
def test_case_02_changed(worker: Worker, write: Callable[[Connection], None]) -> None:
    write_read_and_roll_back(worker, write)


@pytest.mark.parametrize("write", [_core_insert, _bulk_insert], ids=lambda way: way.__name__)
def test_case_02_inserted(worker: Worker, write: Callable[[Connection], None]) -> None:
    write_read_and_roll_back(worker, write, name="New")


@pytest.mark.on("sqlite-memory")
@pytest.mark.parametrize("write", WAYS, ids=lambda way: way.__name__)
def test_case_02_in_memory(worker: Worker, write: Callable[[Connection], None]) -> None:
    write_read_and_roll_back(worker, write)


@pytest.mark.on("postgresql", "mariadb")
@pytest.mark.parametrize("level", LEVELS)
def test_case_02_at_each_level(worker: Worker, level: str) -> None:
    write_read_and_roll_back(at_level(worker, level), _text)


RETURNING = "INSERT INTO page (name, text, version) VALUES ('New', 'never', 0) RETURNING name"


def test_case_02_insert_returning(worker: Worker) -> None:
    write_read_and_roll_back(
        worker, lambda connection: connection.execute(text(RETURNING)).all(), name="New"
    )


@pytest.mark.on("sqlite-wal", "sqlite-journal", "postgresql")
def test_case_02_update_returning(worker: Worker) -> None:
    write_read_and_roll_back(
        worker,
        lambda connection: connection.execute(
            update(page).values(text="never").returning(page.c.name)
        ).all(),
    )


@pytest.mark.on("postgresql")
def test_case_02_writing_cte(worker: Worker) -> None:
    statement = f"WITH changed AS ({NEVER} RETURNING name) SELECT count(*) FROM changed"
    write_read_and_roll_back(worker, lambda c: c.execute(text(statement)).all())


AFTER_A_CTE = "WITH new AS (SELECT 'never' AS t) UPDATE page SET text = (SELECT t FROM new)"


@pytest.mark.on("sqlite-wal", "sqlite-journal")
def test_case_02_write_after_a_cte(worker: Worker) -> None:
    def write(connection: Connection) -> None:
        connection.execute(text("BEGIN"))
        connection.execute(text(AFTER_A_CTE))

    write_read_and_roll_back(worker, write)


@pytest.mark.on("sqlite-wal", "sqlite-journal")
def test_case_02_write_that_the_driver_commits_at_once(worker: Worker, other: Worker) -> None:
    # SQLite's driver does not know it for a write and begins no transaction: there is nothing to
    # roll back, and the invalidation may not be lost with a transaction that never was.
    worker.write("Front", "old")
    assert worker.read("Front") == other.read("Front") == "old"
    with worker.engine.connect() as connection:
        connection.execute(text(AFTER_A_CTE))
        del PageText(worker, "Front").text
        connection.rollback()
    assert stored(worker.database) == worker.read("Front") == other.read("Front")


@pytest.mark.on("postgresql")
@pytest.mark.parametrize(
    "statement",
    ["SELECT change_page()", "CALL change_page_by_call()", "SELECT name FROM page, change_page()"],
)
def test_case_02_stored_code_of_postgresql(worker: Worker, statement: str) -> None:
    operator(
        worker.database,
        f"CREATE FUNCTION change_page() RETURNS int LANGUAGE sql AS $$ {NEVER}; SELECT 1 $$",
        f"CREATE PROCEDURE change_page_by_call() LANGUAGE sql AS $$ {NEVER} $$",
    )
    write_read_and_roll_back(worker, lambda c: c.execute(text(statement)))


@pytest.mark.on("mariadb")
@pytest.mark.parametrize(
    "statement",
    [
        "CALL change_page_by_call()",
        "DO change_page()",
        "EXECUTE IMMEDIATE 'UPDATE page SET text = ''never'''",
        f"SET STATEMENT max_statement_time = 5 FOR {NEVER}",
        "SET @changed = change_page()",
        f"ANALYZE {NEVER}",
        f"ANALYZE FORMAT=JSON {NEVER}",
        f"/*! {NEVER} */",
        f"/*M! {NEVER} */",
        f"/*M!100000 {NEVER} */",
        "SELECT change_page()",
        "SELECT `change_page`()",
        "SELECT 1 FROM (SELECT change_page()) AS t",
    ],
)
def test_case_02_stored_code_and_dialect_of_mariadb(worker: Worker, statement: str) -> None:
    operator(
        worker.database,
        "DROP FUNCTION IF EXISTS change_page",
        "DROP PROCEDURE IF EXISTS change_page_by_call",
        f"CREATE FUNCTION change_page() RETURNS INT BEGIN {NEVER}; RETURN 1; END",
        f"CREATE PROCEDURE change_page_by_call() BEGIN {NEVER}; END",
    )
    write_read_and_roll_back(worker, lambda c: c.exec_driver_sql(statement))


@pytest.mark.on("mariadb")
def test_case_02_a_statement_that_commits_only_sometimes(worker: Worker) -> None:
    # UNLOCK TABLES commits only if tables were locked: here the transaction goes on.
    def write(connection: Connection) -> None:
        connection.execute(text(NEVER))
        connection.execute(text("UNLOCK TABLES"))

    write_read_and_roll_back(worker, write)


TRIGGERS = {
    "sqlite": [
        f"CREATE TRIGGER changes AFTER INSERT ON tick BEGIN {NEVER}; END",
    ],
    "postgresql": [
        "CREATE FUNCTION change_by_trigger() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN {NEVER}; RETURN NEW; END $$",
        "CREATE TRIGGER changes AFTER INSERT ON tick "
        "FOR EACH ROW EXECUTE FUNCTION change_by_trigger()",
    ],
    "mysql": [f"CREATE TRIGGER changes AFTER INSERT ON tick FOR EACH ROW {NEVER}"],
}


def test_case_02_trigger(worker: Worker) -> None:
    operator(
        worker.database,
        "CREATE TABLE tick (number INTEGER)",
        *TRIGGERS[worker.database.url.get_backend_name()],
    )
    write_read_and_roll_back(worker, lambda c: c.execute(text("INSERT INTO tick VALUES (1)")))


@pytest.mark.on("sqlite-wal", "sqlite-journal", "sqlite-memory", "postgresql")
def test_case_02_cursor_of_the_driver(worker: Worker) -> None:
    # Nobody is told of it, but the server or the driver knows.  (MariaDB does not.)
    def write(connection: Connection) -> None:
        cursor = connection.connection.cursor()
        cursor.execute(NEVER)
        cursor.close()

    write_read_and_roll_back(worker, write)


@pytest.mark.on("mariadb")
def test_case_02_cursor_of_the_driver_before_any_statement(worker: Worker) -> None:
    # The driver has a transaction open although no statement was seen: it may have written.
    def write(connection: Connection) -> None:
        cursor = connection.connection.cursor()
        cursor.execute(NEVER)
        cursor.close()

    write_read_and_roll_back(worker, write)


@pytest.mark.on("postgresql", "mariadb")
def test_case_02_locking_read_and_then_a_write_of_the_driver(worker: Worker) -> None:
    def write(connection: Connection) -> None:
        connection.execute(text("SELECT name FROM page WHERE name = 'Front' FOR UPDATE")).all()
        cursor = connection.connection.cursor()
        cursor.execute(NEVER)
        cursor.close()

    write_read_and_roll_back(worker, write)


def test_case_02_retriever_that_writes(worker: Worker) -> None:
    # What a retriever writes and then rolls back itself.
    worker.write("Front", "old")

    def retriever() -> Any:
        with worker.engine.connect() as connection:
            put(connection, "Front", "never")
            return connection.scalar(text("SELECT text FROM page WHERE name = 'Front'"))

    def honest() -> Any:
        with worker.engine.connect() as connection:
            return connection.scalar(text("SELECT text FROM page WHERE name = 'Front'"))

    assert worker.cache_manager.get("key", retriever) == "never"
    assert worker.cache_manager.get("key", honest) == "old"


def test_case_02_value_of_a_value(worker: Worker) -> None:
    # A value computed from a private one is as private.
    worker.write("Front", "old")
    manager = worker.cache_manager

    def shouted() -> str:
        return str(PageText(worker, "Front").text).upper()

    with worker.engine.connect() as connection:
        put(connection, "Front", "never")
        assert PageText(worker, "Front").text == "never"
        assert manager.get("shouted", shouted) == "NEVER"
        assert in_thread(lambda: manager.get("shouted", shouted)) == "OLD"
        connection.rollback()
    assert manager.get("shouted", shouted) == "OLD"


# The ORM: an object that a session holds is data without a statement


def test_case_02_orm_bulk_update(worker: Worker) -> None:
    orm_write(worker, "old")
    with Session(worker.engine) as session:
        session.execute(update(Page).values(text="never"))
        assert OrmText(worker, session).text == "never"
        session.rollback()
        assert OrmText(worker, session).text == "old"
    assert orm_read(worker) == "old"


def test_case_02_orm_object_not_flushed(worker: Worker) -> None:
    # The change is in the session only; the retriever finds the object there, and no statement
    # tells that it read anything.
    orm_write(worker, "old")
    with Session(worker.engine) as session:
        found = session.get_one(Page, "Front")
        found.text = "never"
        assert OrmText(worker, session).text == "never"
        assert in_thread(lambda: orm_read(worker)) == "old"
        session.rollback()
        assert OrmText(worker, session).text == "old"
    assert orm_read(worker) == "old"


def test_case_02_orm_object_flushed(worker: Worker) -> None:
    # Flushed, but the retriever still finds the object in the session, without a statement.
    orm_write(worker, "old")
    with Session(worker.engine) as session:
        found = session.get_one(Page, "Front")
        found.text = "never"
        session.flush()
        assert OrmText(worker, session).text == "never"
        assert in_thread(lambda: orm_read(worker)) == "old"
        session.rollback()
        assert OrmText(worker, session).text == "old"
    assert orm_read(worker) == "old"


@pytest.mark.parametrize("flushed", [False, True])
def test_case_02_orm_object_in_another_thread(worker: Worker, flushed: bool) -> None:
    # A thread with a copy of the context finds the object in the session that was handed to it,
    # and executes nothing.
    orm_write(worker, "old")
    worker.read("Another")  # so that the session is no older than the write
    with Session(worker.engine) as session:
        session.get_one(Page, "Front").text = "never"
        if flushed:
            session.flush()
        read = partial(copy_context().run, lambda: OrmText(worker, session).text)
        assert in_thread(read) == "never"
        session.rollback()
    assert orm_read(worker) == "old"


def test_case_02_orm_object_new(worker: Worker) -> None:
    with Session(worker.engine, autoflush=False) as session:
        session.add(Page(name="Front", text="never", version=0))
        worker.cache_manager.get("new", lambda: [each.name for each in session.new])
        session.rollback()
    assert worker.cache_manager.get("new", list) == []
