"""PostgreSQL by psycopg: the rows and the COMMIT are one message to the server."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from coherent_cache import TableError, writing
from tests.workers import PageText, Worker, page, put

pytestmark = pytest.mark.on("postgresql")

STRANGE = ["plain", "o'clock", "back\\slash", "100% %s %(x)s", "new\nline", "\N{SNOWMAN}", "a;b--c"]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The messages that were sent."""
    found: list[str] = []
    send = writing.send

    def note(dbapi_connection: Any, statements: str) -> None:
        found.append(statements)
        send(dbapi_connection, statements)

    monkeypatch.setattr(writing, "send", note)
    return found


def rows(worker: Worker, table: str = "cache") -> list[tuple[str, int, int]]:
    """Key, hash and transaction of each invalidation."""
    with worker.engine.connect() as connection:
        statement = (
            f'SELECT key, key_hash, position FROM "{table}" WHERE position > 0 ORDER BY 3, 1'
        )
        return [tuple(row) for row in connection.execute(text(statement))]


def kept(worker: Worker, name: str) -> str | None:
    with worker.engine.connect() as connection:
        return connection.scalar(text("SELECT text FROM page WHERE name = :n"), {"n": name})


@pytest.mark.parametrize("name", STRANGE)
def test_the_rows_are_those_of_a_statement(
    worker: Worker, other: Worker, sent: list[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert other.read(name) is None
    with worker.engine.begin() as connection:
        put(connection, name, "first")
        del PageText(worker, name).text
    assert len(sent) == 1
    assert other.read(name) == "first"
    monkeypatch.setattr(writing.LedgerWriter, "commit_with", lambda *_: False)
    with worker.engine.begin() as connection:
        put(connection, name, "second")
        del PageText(worker, name).text
    assert len(sent) == 1
    assert other.read(name) == "second"
    one, two = rows(worker)
    assert one[:2] == two[:2]


def test_they_belong_to_the_transaction(worker: Worker, sent: list[str]) -> None:
    with worker.engine.begin() as connection:
        put(connection, "Front", "new")
        number = connection.scalar(text("SELECT pg_current_xact_id()::text::bigint"))
        del PageText(worker, "Front").text
        del worker.wiki.names
    assert [position for *_, position in rows(worker)] == [number, number]
    assert len(sent) == 1


def test_a_session(worker: Worker, other: Worker, sent: list[str]) -> None:
    assert other.read("Front") is None
    with Session(worker.engine) as session:
        for version in ("one", "two"):
            session.execute(text("DELETE FROM page"))
            session.execute(
                text("INSERT INTO page (name, text, version) VALUES ('Front', :t, 0)"),
                {"t": version},
            )
            del PageText(worker, "Front").text
            session.commit()
            assert other.read("Front") == version
    assert len(sent) == 2


def change_many(worker: Worker, other: Worker) -> list[str]:
    """Change more pages in one transaction than one message names; which."""
    names = [f"page {number}" for number in range(40)]
    assert [other.read(name) for name in names] == [None] * 40
    with worker.engine.begin() as connection:
        for name in names:
            put(connection, name, "new")
            del PageText(worker, name).text
    return names


def test_many_keys_go_before(worker: Worker, other: Worker, sent: list[str]) -> None:
    names = change_many(worker, other)
    assert sent == []
    assert [other.read(name) for name in names] == ["new"] * 40


def test_two_managers_commit_as_one(worker: Worker, sent: list[str]) -> None:
    """Of two managers on one engine only the innermost may commit: the keys of the other would be
    written after it, in a transaction of their own."""
    one, two = worker, Worker(worker.database, engine=worker.engine, table="another")
    two.cache_manager.create_table()
    with one.engine.begin() as connection:
        put(connection, "Front", "new")
        number = connection.scalar(text("SELECT pg_current_xact_id()::text::bigint"))
        del PageText(one, "Front").text
        del PageText(two, "Front").text
    assert [position for *_, position in rows(one)] == [number]
    assert [position for *_, position in rows(two, "another")] == [number]


def test_what_another_listener_invalidates_goes_along(
    worker: Worker, other: Worker, sent: list[str]
) -> None:
    @event.listens_for(worker.engine, "commit")
    def invalidate_more(connection: Connection) -> None:
        put(connection, "Back", "too")
        del PageText(worker, "Back").text

    assert other.read("Back") is None
    with worker.engine.begin() as connection:
        put(connection, "Front", "new")
        del PageText(worker, "Front").text
    assert other.read("Back") == "too"
    assert len(sent) == 1
    assert len({position for *_, position in rows(worker)}) == 1


def test_a_row_that_fails_undoes_the_transaction(worker: Worker, sent: list[str]) -> None:
    with worker.engine.begin() as connection:
        connection.execute(text("ALTER TABLE cache RENAME TO elsewhere"))
    with worker.engine.connect() as connection:
        with pytest.raises(TableError), connection.begin():
            put(connection, "Front", "never")
            del PageText(worker, "Front").text
        with connection.begin():  # and the connection goes on
            put(connection, "Back", "new")
    assert (kept(worker, "Front"), kept(worker, "Back")) == (None, "new")
    assert len(sent) == 1


def test_a_commit_that_fails_leaves_no_row(worker: Worker, other: Worker, sent: list[str]) -> None:
    with worker.engine.begin() as connection:
        connection.execute(
            text("CREATE TABLE twice (n integer UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        )
    assert worker.read("Front") is other.read("Front") is None
    with worker.engine.connect() as connection:
        with pytest.raises(IntegrityError), connection.begin():
            connection.execute(text("INSERT INTO twice VALUES (1), (1)"))
            put(connection, "Front", "never")
            del PageText(worker, "Front").text
        with connection.begin():
            assert connection.scalar(text("SELECT COUNT(*) FROM twice")) == 0
    assert rows(worker) == []
    assert worker.read("Front") is other.read("Front") is None
    assert len(sent) == 1


def test_a_connection_that_is_lost_with_the_commit(
    worker: Worker, other: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has committed, and the answer does not come: the request sees what it wrote."""
    assert worker.read("Front") is other.read("Front") is None
    send = writing.send

    def lose(dbapi_connection: Any, statements: str) -> None:
        send(dbapi_connection, statements)
        dbapi_connection.close()
        raise worker.engine.dialect.loaded_dbapi.OperationalError("the connection is lost")

    with worker.cache_manager.request():
        assert PageText(worker, "Front").text is None
        monkeypatch.setattr(writing, "send", lose)
        with pytest.raises(OperationalError), worker.engine.begin() as connection:
            put(connection, "Front", "new")
            del PageText(worker, "Front").text
        monkeypatch.setattr(writing, "send", send)
        assert PageText(worker, "Front").text == "new"
    assert other.read("Front") == "new"


def test_not_in_a_pipeline(worker: Worker, other: Worker, sent: list[str]) -> None:
    """There the server takes one statement at a time."""
    assert other.read("Front") is None
    with worker.engine.connect() as connection:
        driver: Any = connection.connection.dbapi_connection
        with driver.pipeline():  # which does not know how many rows were changed
            connection.execute(page.insert().values(name="Front", text="new"))
            del PageText(worker, "Front").text
            connection.commit()
    assert sent == []
    assert other.read("Front") == "new"


def test_seen_in_the_log_it_goes_before(worker: Worker, sent: list[str]) -> None:
    worker.engine.echo = True
    with worker.engine.begin() as connection:
        put(connection, "Front", "new")
        del PageText(worker, "Front").text
    assert sent == []
    assert len(rows(worker)) == 1
