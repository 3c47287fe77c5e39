"""Hard case 18: reads that lock, on MariaDB and MySQL.

Under REPEATABLE READ a plain SELECT sees the transaction's snapshot, and one that locks sees the
newest rows.  A value made from both is neither old nor new: the one who made it may have it, and
nobody else.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Connection, select, text

from coherent_cache.statements import Kind, effect_of

from ..workers import Worker, page, put

QUERIES: dict[str, Any] = {
    "with_for_update": select(page.c.text).where(page.c.name == "B").with_for_update(),
    "with_for_update(read)": select(page.c.text)
    .where(page.c.name == "B")
    .with_for_update(read=True),
    "skip_locked": select(page.c.text).where(page.c.name == "B").with_for_update(skip_locked=True),
    "FOR UPDATE": text("SELECT text FROM page WHERE name = 'B' FOR UPDATE"),
    "for update, lower case": text("select text from page where name = 'B' for\n update"),
    "LOCK IN SHARE MODE": text("SELECT text FROM page WHERE name = 'B' LOCK IN SHARE MODE"),
    "comment": text("/* a hint */ SELECT text FROM page WHERE name = 'B' /*! FOR UPDATE */"),
    "MariaDB's comment": text("SELECT text FROM page WHERE name = 'B' /*M! FOR UPDATE */"),
    "minus minus": text("SELECT text, 5--3 FROM page WHERE name = 'B' FOR UPDATE"),
    "quotes in comments": text(
        "SELECT text # it's\n FROM page WHERE name = 'B' FOR UPDATE # isn't it"
    ),
    "parentheses": text("(SELECT text FROM page WHERE name = 'B' FOR UPDATE)"),
    "subquery": text("SELECT * FROM (SELECT text FROM page WHERE name = 'B' FOR UPDATE) q"),
}


@pytest.mark.on("mariadb")
@pytest.mark.parametrize("query", QUERIES)
def test_case_18_mixed_value_is_private(worker: Worker, other: Worker, query: str) -> None:
    """A transaction opens its snapshot; A and B are changed together; then it reads A as it was
    and B as it is, and keeps nothing of that for others."""
    worker.write("A", "old")
    worker.write("B", "old")

    def both(connection: Connection) -> tuple[Any, Any]:
        plain = connection.scalar(select(page.c.text).where(page.c.name == "A"))
        return plain, connection.execute(QUERIES[query]).first()[0]  # type: ignore[index]

    def change(version: str) -> None:
        with other.cache_manager.begin() as connection:
            put(connection, "A", version)
            put(connection, "B", version)
            other.cache_manager.invalidate("both")

    def of_others() -> Any:
        def retriever() -> Any:
            with worker.cache_manager.connect() as connection:
                return tuple(connection.scalars(select(page.c.text).order_by(page.c.name)))

        with ThreadPoolExecutor(1) as pool:
            return pool.submit(worker.cache_manager.get, "both", retriever).result()

    manager = worker.cache_manager
    assert of_others() == ("old", "old")
    with worker.engine.connect() as connection:
        connection.execute(page.select()).all()  # the snapshot
        change("new")
        assert manager.get("both", lambda: both(connection)) == ("old", "new")
        assert of_others() == ("new", "new")
    assert of_others() == ("new", "new")
    # Also with nothing in memory that the mixed value would have to replace.
    with worker.engine.connect() as connection:
        connection.execute(page.select()).all()
        change("newer")
        manager.evict()
        assert manager.get("both", lambda: both(connection)) == ("new", "newer")
        connection.rollback()
        assert of_others() == ("newer", "newer")


@pytest.mark.on("mariadb")
def test_case_18_snapshot_is_opened_by_the_locking_read(worker: Worker, other: Worker) -> None:
    """The locking read comes first, and opens no snapshot: that is younger than it looks."""
    worker.write("A", "old")
    worker.write("B", "old")
    manager = worker.cache_manager

    def mixed(connection: Connection) -> tuple[Any, Any]:
        locked = connection.execute(QUERIES["FOR UPDATE"]).scalar()
        put_by_other("A", "new")
        return locked, connection.scalar(select(page.c.text).where(page.c.name == "A"))

    def put_by_other(name: str, value: str) -> None:
        with other.cache_manager.begin() as connection:
            put(connection, name, value)
            other.cache_manager.invalidate("mixed")

    with worker.engine.connect() as connection:
        manager.get("mixed", lambda: mixed(connection))
    assert manager.get("mixed", lambda: "anew") == "anew"


def test_case_18_hidden_in_text() -> None:
    """Quotation marks and comments neither hide a lock nor make one up."""
    for statement in (
        "SELECT a--1 FROM t FOR UPDATE",
        "SELECT 'it''s' FROM t FOR UPDATE",
        "SELECT 'it\\'s' FROM t FOR UPDATE",
        'SELECT "a\\"" FROM t FOR UPDATE # "',
        "SELECT a # don't\n FROM t FOR UPDATE # don't",
        "SELECT a -- don't\n FROM t FOR UPDATE -- don't",
        "WITH x AS (SELECT 1) SELECT * FROM x FOR UPDATE",
        "SELECT a INTO @b FROM t",
        "SELECT NEXTVAL(s)",
        "TABLE t FOR UPDATE",
    ):
        assert effect_of(statement, "mysql").kind is Kind.WRITE, statement
    for statement in (
        "SELECT 'FOR UPDATE'",
        'SELECT "don\'t FOR UPDATE"',
        "SELECT `for update` FROM t -- FOR UPDATE",
        "/* FOR UPDATE */ SELECT 1 # FOR UPDATE",
        "  ( SELECT 1 )",
        "SHOW TABLES",
    ):
        assert effect_of(statement, "mysql").kind is not Kind.WRITE, statement


@pytest.mark.on("postgresql", "mariadb")
def test_case_18_lock_and_invalidate(worker: Worker, other: Worker) -> None:
    """The usual read, lock, change: the values are the request's own until its commit, and the
    two who do so one after the other see each other's work."""
    worker.write("B", "0")
    done = threading.Event()

    def increment(who: Worker) -> None:
        with who.cache_manager.request(), who.cache_manager.begin() as connection:
            query = select(page.c.text).where(page.c.name == "B").with_for_update()
            number = int(connection.scalar(query) or 0)
            put(connection, "B", str(number + 1))
            who.cache_manager.invalidate("B")
            assert value(who) == str(number + 1)
        done.set()

    def value(who: Worker) -> Any:
        def retriever() -> Any:
            with who.cache_manager.connect() as connection:
                return connection.scalar(select(page.c.text).where(page.c.name == "B"))

        return who.cache_manager.get("B", retriever)

    assert value(worker) == value(other) == "0"
    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(increment, who) for who in (worker, other) * 3]
        for future in running:
            future.result(30)
    assert value(worker) == value(other) == "6"
